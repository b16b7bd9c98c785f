//! What is known beyond the describe: descriptions that people wrote, classifications, record counts; and the tags.

use std::collections::BTreeSet;

use hybrid_runner_openmetadata::entity::{CreateClassification, CreateTag, TagLabel};
use hybrid_runner_openmetadata::rules::{check_classification, check_tag};
use proptest::prelude::*;

use super::*;
use crate::annotations::FieldAnnotations;

fn texts(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

fn vocabulary(sensitivity: &[&str], compliance: &[&str], status: &[&str]) -> Vocabulary {
    Vocabulary { sensitivity: texts(sensitivity), compliance: texts(compliance), status: texts(status) }
}

fn mapper(tags: bool) -> Mapper {
    let selection = Selection { in_scope: vec![object("X")], database: true, schema: true, ..Selection::default() };
    Mapper::new(Naming::new("crm", "default"), "acme.my.salesforce.com", &selection, tags)
}

fn finished(mapper: &Mapper, describe: &Value, annotations: &Annotations, vocabulary: &Vocabulary) -> CreateTable {
    let answer = describe.to_string();
    let draft = mapper.draft(&object("X"), &Describe::parse(answer.as_bytes()).unwrap()).unwrap();
    let mapped = mapper.finish(draft, annotations, vocabulary).unwrap();
    let table: CreateTable = serde_json::from_slice(mapped.entity.body().unwrap()).unwrap();
    assert_eq!(check_table(&table), Ok(()));
    table
}

/// The column `F__c` when this is known about it.
fn column(tags: bool, help: &str, known: FieldAnnotations, vocabulary: &Vocabulary) -> Column {
    let annotations = Annotations { fields: [("f__c".to_owned(), known)].into(), ..Annotations::default() };
    let describe = json!({"name": "X", "fields": [
        {"name": "Other__c"}, {"name": "F__c", "inlineHelpText": help, "autoNumber": true}]});
    let mut table = finished(&mapper(tags), &describe, &annotations, vocabulary);
    assert_eq!(table.columns[0].description, None);
    table.columns.remove(1)
}

fn fqns(labels: &[TagLabel]) -> Vec<&str> {
    labels.iter().map(|label| label.tag_fqn.as_str()).collect()
}

#[test]
fn what_a_person_wrote_comes_first_and_help_that_says_the_same_only_once() {
    let described = |text: &str| FieldAnnotations { description: Some(text.to_owned()), ..Default::default() };
    let owned = FieldAnnotations { owner: Some(" Data `Team` ".to_owned()), ..described("What it is.") };
    for (help, known, expected) in [
        ("", FieldAnnotations::default(), "Numbered by Salesforce."),
        ("Ask.", FieldAnnotations::default(), "Ask.\n\nNumbered by Salesforce."),
        ("Ask.", described("What it is."), "What it is.\n\nAsk.\n\nNumbered by Salesforce."),
        ("Ask.", described(" Ask.\n"), "Ask.\n\nNumbered by Salesforce."),
        ("Ask.", described("  "), "Ask.\n\nNumbered by Salesforce."),
        ("", owned, "What it is.\n\nNumbered by Salesforce.\n\nData owner: `` Data `Team` ``."),
    ] {
        let column = column(true, help, known.clone(), &Vocabulary::default());
        assert_eq!(column.description.as_deref(), Some(expected), "{help} {known:?}");
        assert_eq!(column.tags, []);
    }
}

#[test]
fn a_value_of_the_vocabulary_is_a_tag_and_another_one_text() {
    let known = FieldAnnotations {
        sensitivity: Some("confidential".to_owned()),
        compliance: texts(&["PII", "House rule", " GDPR ", "PII", ""]),
        status: Some("Retired".to_owned()),
        ..FieldAnnotations::default()
    };
    let vocabulary = vocabulary(&["Public", "Confidential"], &["PII", "GDPR", "HIPAA"], &["Active"]);
    let tagged = column(true, "", known.clone(), &vocabulary);
    let tags = ["SalesforceCompliance.GDPR", "SalesforceCompliance.PII", "SalesforceSensitivity.Confidential"];
    assert_eq!(fqns(&tagged.tags), tags);
    assert_eq!(
        tagged.description.as_deref(),
        Some("Numbered by Salesforce.\n\nCompliance: `House rule`.\n\nField usage: `Retired`.")
    );
    let untagged = column(false, "", known, &vocabulary);
    assert_eq!(untagged.tags, []);
    assert_eq!(
        untagged.description.as_deref(),
        Some(
            "Numbered by Salesforce.\n\nData sensitivity: `confidential`.\n\nCompliance: `GDPR`, `House rule`, `PII`.\n\n\
             Field usage: `Retired`."
        )
    );
}

#[test]
fn a_table_is_described_with_about_its_number_of_records() {
    for (description, records, expected) in [
        (None, None, None),
        (Some(" "), None, None),
        (Some("Companies.\n"), None, Some("Companies.")),
        (Some("Companies."), Some(12), Some("Companies.\n\nAbout 12 records.")),
        (None, Some(0), Some("About 0 records.")),
        (None, Some(1), Some("About 1 record.")),
        (None, Some(99), Some("About 99 records.")),
        (None, Some(104), Some("About 100 records.")),
        (None, Some(105), Some("About 110 records.")),
        (None, Some(995), Some("About 1,000 records.")),
        (None, Some(1_234_567), Some("About 1,200,000 records.")),
        (None, Some(u64::MAX), Some("About 18,000,000,000,000,000,000 records.")),
    ] {
        let annotations =
            Annotations { description: description.map(str::to_owned), records, ..Annotations::default() };
        let describe = json!({"name": "X", "fields": [{"name": "Id"}]});
        let table = finished(&mapper(true), &describe, &annotations, &Vocabulary::default());
        assert_eq!(table.description.as_deref(), expected, "{records:?}");
    }
}

#[test]
fn a_field_that_salesforce_keeps_is_a_system_field_unless_it_is_custom() {
    let describe = json!({"name": "X", "fields": [
        {"name": "Id", "type": "id"}, {"name": "SystemModstamp"}, {"name": "CreatedById", "custom": true}, {"name": "Name"}]});
    let table = finished(&mapper(true), &describe, &Annotations::default(), &Vocabulary::default());
    let tags: Vec<_> = table.columns.iter().map(|column| fqns(&column.tags).join(" ")).collect();
    assert_eq!(tags, ["Salesforce.System", "Salesforce.System", "Salesforce.Custom", ""]);
    let untagged = finished(&mapper(false), &describe, &Annotations::default(), &Vocabulary::default());
    assert!(untagged.columns.iter().all(|column| column.tags.is_empty()));
}

#[test]
fn a_table_has_the_tags_of_its_kind() {
    for (name, listed, said, expected) in [
        ("Account", (false, false), json!({}), ""),
        ("Thing__c", (true, false), json!({}), "Custom"),
        ("Thing__c", (false, false), json!({"custom": true}), "Custom"),
        ("Old", (false, false), json!({"deprecatedAndHidden": true}), "Deprecated"),
        ("Set__c", (true, true), json!({}), "Custom CustomSetting"),
        ("Set__c", (false, false), json!({"custom": true, "customSetting": true}), "Custom CustomSetting"),
        ("Conf__mdt", (false, false), json!({"custom": true}), "Custom CustomMetadataType"),
        ("Told__e", (false, false), json!({}), "PlatformEvent"),
        ("Huge__b", (false, false), json!({}), "BigObject"),
        ("There__x", (false, false), json!({}), "ExternalObject"),
    ] {
        let (custom, custom_setting) = listed;
        let listed = ListedObject { custom, custom_setting, ..object(name) };
        let mut describe = json!({"name": name, "fields": []});
        describe.as_object_mut().unwrap().extend(said.as_object().unwrap().clone());
        let answer = describe.to_string();
        for tags in [true, false] {
            let mapped = table(&mapper(tags), &listed, &Describe::parse(answer.as_bytes()).unwrap()).unwrap();
            let table: CreateTable = serde_json::from_slice(mapped.entity.body().unwrap()).unwrap();
            let expected = if tags { expected } else { "" };
            assert_eq!(fqns(&table.tags).join(" ").replace("Salesforce.", ""), expected, "{name}");
        }
    }
}

/// FQNs of the parents of a kind; the server's rules hold for each.
fn parents(tags: bool, vocabulary: &Vocabulary, kind: Kind) -> Vec<String> {
    let parents = mapper(tags).parents(vocabulary).unwrap();
    for parent in &parents {
        let body = parent.body().unwrap();
        let name = match Kind::from_name(parent.kind) {
            Some(Kind::Classification) => {
                let classification: CreateClassification = serde_json::from_slice(body).unwrap();
                assert_eq!(check_classification(&classification), Ok(()));
                fqn::quote(&classification.name)
            }
            Some(Kind::Tag) => {
                let tag: CreateTag = serde_json::from_slice(body).unwrap();
                assert_eq!(check_tag(&tag), Ok(()));
                fqn::child(&tag.classification, &tag.name)
            }
            _ => continue,
        };
        assert_eq!(name, parent.fqn);
    }
    parents.into_iter().filter(|parent| parent.kind == kind.as_str()).map(|parent| parent.fqn).collect()
}

#[test]
fn classifications_come_before_their_tags_and_only_with_some() {
    let known = vocabulary(&["Public"], &[], &["  "]);
    let kinds: Vec<_> = mapper(true).parents(&known).unwrap().iter().map(|parent| parent.kind).collect();
    assert!(kinds.is_sorted_by_key(|kind| Kind::ALL.iter().position(|known| known.as_str() == *kind)), "{kinds:?}");
    assert_eq!(parents(true, &known, Kind::Classification), ["Salesforce", "SalesforceSensitivity"]);
    for kind in [Kind::Classification, Kind::Tag] {
        assert_eq!(parents(false, &known, kind), Vec::<String>::new());
    }
}

#[test]
fn a_tags_name_is_cleaned_and_stands_once() {
    let compliance = [" PII ", "pii", "a.b", "a::b", "x\ty", "", "\"q\"", &"l".repeat(257)];
    let tags = parents(true, &vocabulary(&[], &compliance, &[]), Kind::Tag);
    let of_org: Vec<_> = tags.iter().filter_map(|tag| tag.strip_prefix("SalesforceCompliance.")).collect();
    let quote = "__reserved__quote__q__reserved__quote__";
    assert_eq!(of_org, ["PII", quote, "\"a.b\"", "a__reserved__colon__b", "x__reserved__tab__y"]);
}

#[test]
fn the_order_of_the_vocabulary_changes_nothing() {
    let one = mapper(true).parents(&vocabulary(&["A", "B"], &["C", "D"], &[])).unwrap();
    let other = mapper(true).parents(&vocabulary(&["B", "A"], &["D", "C"], &[])).unwrap();
    assert_eq!(one, other);
}

#[test]
fn the_digest_differs_when_a_table_could() {
    let mapper = |service: &str, host: &str, in_scope: &[&str], tags: bool| {
        let selection =
            Selection { in_scope: in_scope.iter().map(|name| object(name)).collect(), ..Selection::default() };
        Mapper::new(Naming::new(service, "default"), host, &selection, tags)
    };
    let known = vocabulary(&["A"], &[], &[]);
    let digest = mapper("s", "h", &["X", "Y"], true).digest(&known);
    assert_eq!(mapper("s", "h", &["Y", "X"], true).digest(&vocabulary(&[" A ", "a"], &[], &[])), digest);
    for (other, vocabulary) in [
        (mapper("t", "h", &["X", "Y"], true), &known),
        (mapper("s", "i", &["X", "Y"], true), &known),
        (mapper("s", "h", &["X"], true), &known),
        (mapper("s", "h", &["XY"], true), &known),
        (mapper("s", "h", &["X", "y"], true), &known),
        (mapper("s", "h", &["X", "Y"], false), &known),
        (mapper("s", "h", &["X", "Y"], true), &Vocabulary::default()),
        (mapper("s", "h", &["X", "Y"], true), &vocabulary(&["B"], &[], &[])),
        (mapper("s", "h", &["X", "Y"], true), &vocabulary(&[], &["A"], &[])),
    ] {
        assert_ne!(other.digest(vocabulary), digest, "{other:?} {vocabulary:?}");
    }
}

proptest! {
    #[test]
    fn no_column_has_a_tag_that_was_not_emitted(
        known in prop::collection::vec("[aA.:>\" ]{0,3}", 0..6),
        values in prop::collection::vec("[aA.:>\" ]{0,3}", 0..6),
        tags: bool,
    ) {
        let vocabulary = Vocabulary { sensitivity: known.clone(), compliance: known.clone(), status: known };
        let field = FieldAnnotations {
            sensitivity: values.first().cloned(),
            status: values.last().cloned(),
            compliance: values.clone(),
            ..FieldAnnotations::default()
        };
        let emitted: BTreeSet<_> = parents(tags, &vocabulary, Kind::Tag).into_iter().collect();
        let column = column(tags, "", field, &vocabulary);
        for label in fqns(&column.tags) {
            prop_assert!(emitted.contains(label), "{label}");
        }
        // What is no tag is text: nothing is lost.
        let description = column.description.unwrap_or_default();
        for value in values.iter().map(|value| value.trim()).filter(|value| !value.is_empty()) {
            let tag = fqn::child("SalesforceCompliance", &fqn::reserve(value));
            let is_tag = column.tags.iter().any(|label| label.tag_fqn.eq_ignore_ascii_case(&tag));
            prop_assert!(is_tag || description.contains(&format!("`{value}`")), "{value} {description}");
        }
    }
}
