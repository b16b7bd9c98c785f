mod every_field;
mod known;

use hybrid_runner_openmetadata::entity::{Column, ConstraintType, CreateTable, RelationshipType};
use hybrid_runner_openmetadata::rules::check_table;
use serde_json::{Value, json};

use super::*;

/// The table of a describe of which nothing else is known.
fn table(mapper: &Mapper, object: &ListedObject, describe: &Describe<'_>) -> Result<Mapped, MapError> {
    mapper.finish(mapper.draft(object, describe)?, &Annotations::default(), &Vocabulary::default())
}

fn object(name: &str) -> ListedObject {
    ListedObject { name: name.to_owned(), ..ListedObject::default() }
}

fn mapper_for(service: &str, in_scope: &[&str]) -> Mapper {
    let in_scope = in_scope.iter().map(|name| object(name)).collect();
    let selection = Selection { in_scope, database: true, schema: true, ..Selection::default() };
    Mapper::new(Naming::new(service, "default"), "acme.my.salesforce.com", &selection, true)
}

fn map(describe: &Value) -> Result<Mapped, MapError> {
    let answer = describe.to_string();
    let describe = Describe::parse(answer.as_bytes()).unwrap();
    table(&mapper_for("crm", &["X", "Account", "Contact", "Invoice__c"]), &object("X"), &describe)
}

fn table_of(describe: &Value) -> CreateTable {
    serde_json::from_slice(map(describe).unwrap().entity.body().unwrap()).unwrap()
}

/// The one column that a field becomes.
fn column_of(field: &Value) -> Column {
    let mut table = table_of(&json!({"name": "X", "fields": [field]}));
    assert_eq!(check_table(&table), Ok(()));
    assert_eq!(table.columns.len(), 1);
    table.columns.remove(0)
}

fn description_of(field: &Value) -> String {
    column_of(field).description.unwrap_or_default()
}

#[test]
fn a_field_that_says_nothing_but_its_name_is_a_column_of_unknown_type() {
    let column = column_of(&json!({"name": "F"}));
    assert_eq!(
        serde_json::to_value(column).unwrap(),
        json!({"name": "F", "dataType": "UNKNOWN", "ordinalPosition": 1})
    );
}

#[test]
fn the_strongest_constraint_wins() {
    for (field, expected) in [
        (json!({"name": "Id", "type": "id", "unique": true, "nillable": false}), Some(Constraint::PrimaryKey)),
        (json!({"name": "DurableId", "type": "id", "nillable": false}), Some(Constraint::NotNull)),
        (json!({"name": "Id", "type": "string", "nillable": false}), Some(Constraint::NotNull)),
        (json!({"name": "F", "type": "string", "unique": true, "nillable": true}), Some(Constraint::Unique)),
        (json!({"name": "F", "type": "string", "unique": true, "nillable": false}), Some(Constraint::Unique)),
        (json!({"name": "F", "type": "string", "nillable": true}), Some(Constraint::Null)),
        (json!({"name": "F", "type": "boolean", "nillable": false}), Some(Constraint::NotNull)),
        (json!({"name": "F", "type": "string"}), None),
    ] {
        assert_eq!(column_of(&field).constraint, expected, "{field}");
    }
}

#[test]
fn a_self_reference_and_one_spelled_otherwise_are_keys_once() {
    let to = |object: &str| format!("crm.default.salesforce.{object}.Id");
    assert_eq!(foreign_keys(&json!({"referenceTo": ["X", "x"]})), [to("X")]);
    assert_eq!(foreign_keys(&json!({"referenceTo": ["invoice__C"]})), [to("Invoice__c")]);
}

#[test]
fn each_reference_has_keys_of_its_own_column() {
    let table = table_of(&json!({"name": "X", "fields": [
        {"name": "Id", "type": "id"}, {}, {"name": "A__c", "type": "reference", "referenceTo": ["Account"]},
        {"name": "B__c", "type": "masterrecord", "referenceTo": ["Account", "Contact"]}]}));
    let keys: Vec<_> =
        table.table_constraints.iter().map(|key| (key.columns[0].as_str(), key.referred_columns.len())).collect();
    assert_eq!(keys, [("A__c", 1), ("B__c", 1), ("B__c", 1)]);
}

/// The columns and referred columns of the foreign keys of a reference.
fn foreign_keys(said: &Value) -> Vec<String> {
    let mut field = json!({"name": "F", "type": "reference"});
    field.as_object_mut().unwrap().extend(said.as_object().unwrap().clone());
    let table = table_of(&json!({"name": "X", "fields": [field]}));
    let keys = table.table_constraints.into_iter().map(|key| {
        assert_eq!((key.constraint_type, key.columns), (ConstraintType::ForeignKey, vec!["F".to_owned()]));
        assert_eq!(key.relationship_type, Some(RelationshipType::ManyToOne));
        key.referred_columns.join(" ")
    });
    keys.collect()
}

#[test]
fn a_reference_is_a_foreign_key_for_each_target_in_scope() {
    let to = |object: &str| format!("crm.default.salesforce.{object}.Id");
    assert_eq!(foreign_keys(&json!({"referenceTo": ["Account"]})), [to("Account")]);
    assert_eq!(foreign_keys(&json!({"referenceTo": ["Contact", "Lead", "account"]})), [to("Contact"), to("Account")]);
    assert_eq!(foreign_keys(&json!({"referenceTo": ["X"]})), [to("X")]);
    assert_eq!(foreign_keys(&json!({"referenceTo": ["User"]})), Vec::<String>::new());
    assert_eq!(foreign_keys(&json!({"referenceTo": []})), Vec::<String>::new());
    let indirect = json!({"referenceTo": ["Invoice__c"], "referenceTargetField": "Number__c"});
    assert_eq!(foreign_keys(&indirect), ["crm.default.salesforce.Invoice__c.Number__c"]);
}

#[test]
fn a_reference_to_more_than_five_objects_is_listed_and_no_key() {
    let five = json!(["Account", "A", "B", "C", "D"]);
    assert_eq!(foreign_keys(&json!({"referenceTo": five})).len(), 1);
    let six = json!(["Account", "A", "B", "C", "D", "E"]);
    assert_eq!(foreign_keys(&json!({"referenceTo": six})), Vec::<String>::new());
    assert_eq!(
        description_of(&json!({"name": "F", "type": "reference", "referenceTo": six})),
        "Lookup to one of 6 objects: `Account`, `A`, `B`, `C`, `D`, `E`. Too many for foreign keys."
    );
}

#[test]
fn a_list_of_ids_is_no_foreign_key() {
    let table = table_of(&json!({"name": "X", "fields": [
        {"name": "WhoIds", "type": "JunctionIdList", "referenceTo": ["Contact"]}]}));
    assert_eq!(table.table_constraints, []);
}

#[test]
fn a_description_says_what_has_no_other_place() {
    for (said, expected) in [
        (json!({}), ""),
        (json!({"label": "A label is no description", "inlineHelpText": "  "}), ""),
        (json!({"inlineHelpText": "Ask *sales*.\n"}), "Ask *sales*."),
        (json!({"calculated": true, "calculatedFormula": "A__c & \"`\""}), "Formula: ``A__c & \"`\"``"),
        (json!({"calculated": true, "calculatedFormula": "IF(a,\n  b, c)"}), "Formula:\n\n```\nIF(a,\n  b, c)\n```"),
        (json!({"calculated": true}), "Computed by Salesforce: a roll-up summary or a system value."),
        (json!({"autoNumber": true}), "Numbered by Salesforce."),
        (json!({"referenceTo": ["User"]}), "Lookup to `User`."),
        (json!({"referenceTo": ["Contact", "Lead"]}), "Lookup to one of 2 objects: `Contact`, `Lead`."),
        (
            json!({"referenceTo": ["Order__c"], "relationshipOrder": 0, "cascadeDelete": true}),
            "Master-detail reference to `Order__c`. Deleted with the row that it points to.",
        ),
        (
            json!({"referenceTo": ["Order__x"], "referenceTargetField": "ExternalId", "restrictedDelete": true}),
            "Lookup to `Order__x`, by `ExternalId`. A row that is pointed to cannot be deleted.",
        ),
        (
            json!({"picklistValues": [
                {"active": true, "value": "US", "label": "United States"}, {"active": false, "value": "DD"},
                {"active": true, "value": "DE", "label": "DE", "defaultValue": true}, {"value": "`"}]}),
            "Values: `US` (`United States`), `DE`, `` ` ``.\n\nDefault: `DE`",
        ),
        (
            json!({"restrictedPicklist": true, "controllerName": "Land__c", "picklistValues": [{"value": "a"}]}),
            "Values, no others accepted: `a`. Which of them can be chosen depends on `Land__c`.",
        ),
        (json!({"defaultValue": false}), ""),
        (json!({"defaultValue": true}), "Default: `true`"),
        (json!({"defaultValue": 0}), "Default: `0`"),
        (json!({"defaultValue": -1.5}), "Default: `-1.5`"),
        (json!({"defaultValue": "Open", "defaultValueFormula": "\"Open\""}), "Default: `Open`"),
        (json!({"defaultValueFormula": "TODAY() + 7"}), "Default: `TODAY() + 7`"),
        (json!({"compoundFieldName": "BillingAddress"}), "Part of `BillingAddress`."),
        (json!({"compoundFieldName": "F"}), ""),
        (json!({"unique": true, "nillable": false}), "Never empty."),
        (json!({"externalId": true}), "Key of another system (external id)."),
        (json!({"encrypted": true}), "Stored encrypted."),
    ] {
        let mut field = json!({"name": "F", "type": "string"});
        field.as_object_mut().unwrap().extend(said.as_object().unwrap().clone());
        assert_eq!(description_of(&field), expected, "{said}");
    }
}

#[test]
fn a_long_picklist_is_cut_and_says_so() {
    let values: Vec<_> = (0..423).map(|n| json!({"active": true, "value": format!("v{n}")})).collect();
    let description = description_of(&json!({"name": "F", "type": "picklist", "picklistValues": values}));
    assert!(description.ends_with("`v98`, `v99` and 323 more."), "{description}");
}

#[test]
fn a_text_beyond_every_limit_of_salesforce_is_cut() {
    let description = description_of(&json!({"name": "F", "type": "string", "inlineHelpText": "é".repeat(9_000)}));
    assert_eq!(description.chars().count(), 5_001);
    assert!(description.ends_with('…'));
}

#[test]
fn compound_parts_stay_columns_beside_their_parent() {
    let table = table_of(&json!({"name": "X", "fields": [
        {"name": "BillingStreet", "type": "textarea", "length": 255, "compoundFieldName": "BillingAddress"},
        {"name": "BillingAddress", "type": "address"}]}));
    let names: Vec<_> = table.columns.iter().map(|column| (column.name.as_str(), column.ordinal_position)).collect();
    assert_eq!(names, [("BillingStreet", Some(1)), ("BillingAddress", Some(2))]);
    assert!(table.columns.iter().all(|column| column.children.is_empty()));
}

#[test]
fn labels_are_display_names_also_when_empty() {
    let table = table_of(&json!({"name": "X", "label": "", "fields": [
        {"name": "A", "label": ""}, {"name": "B", "label": "Bee"}, {"name": "C"}]}));
    let names: Vec<_> = table.columns.iter().map(|column| column.display_name.as_deref()).collect();
    assert_eq!(table.display_name.as_deref(), Some(""));
    assert_eq!(names, [Some(""), Some("Bee"), None]);
}

#[test]
fn a_repeated_or_missing_name_costs_that_column_only() {
    let mapped = map(&json!({"name": "X", "fields": [
        {"name": "A"}, {"name": "a"}, {}, {"name": ""}, {"name": "n".repeat(257)}, {"name": "B"}]}))
    .unwrap();
    assert_eq!((mapped.columns, mapped.skipped), (2, 4));
}

#[test]
fn an_answer_about_another_object_makes_no_table() {
    let error = map(&json!({"name": "Account", "fields": []})).unwrap_err();
    assert_eq!((error.clone(), error.reason()), (MapError::OtherObject, Reason::SourceProtocol));
    assert!(map(&json!({"name": "x", "fields": []})).is_ok());
    assert!(map(&json!({"fields": []})).is_ok());
}

#[test]
fn a_table_that_does_not_travel_is_an_error() {
    let fields: Vec<_> =
        (0..900).map(|n| json!({"name": format!("F{n}"), "inlineHelpText": "x".repeat(4_000)})).collect();
    let error = map(&json!({"name": "X", "fields": fields})).unwrap_err();
    assert!(matches!(error, MapError::TooLarge { size } if size > Entity::MAX_BODY));
    assert_eq!(error.reason(), Reason::EntityTooLarge);
}

#[test]
fn parents_are_named_as_the_peers_and_carry_no_connection() {
    let parents = mapper_for("crm.eu", &[]).parents(&Vocabulary::default()).unwrap();
    let kinds: Vec<_> = parents.iter().take(3).map(|parent| (parent.kind, parent.fqn.as_str())).collect();
    let (database, schema) = ("\"crm.eu\".default", "\"crm.eu\".default.salesforce");
    assert_eq!(kinds, [("databaseService", "\"crm.eu\""), ("database", database), ("databaseSchema", schema)]);
    assert_eq!(parents[0].body().unwrap().as_ref(), br#"{"name":"crm.eu","serviceType":"Salesforce"}"#);
    let request: CreateDatabaseSchema = serde_json::from_slice(parents[2].body().unwrap()).unwrap();
    assert_eq!((request.name.as_str(), request.database.as_str()), ("salesforce", database));
}

#[test]
fn parents_that_the_filters_exclude_are_left_out() {
    let selection = Selection { database: true, ..Selection::default() };
    let mapper = Mapper::new(Naming::new("crm", "default"), "h", &selection, false);
    assert_eq!(
        mapper.parents(&Vocabulary::default()).unwrap().iter().map(|parent| parent.kind).collect::<Vec<_>>(),
        ["databaseService", "database"]
    );
}

#[test]
fn the_source_hash_is_of_the_request_without_it() {
    let mapped = map(&json!({"name": "X", "label": "Ex", "fields": [{"name": "Id", "type": "id"}]})).unwrap();
    let mut table: CreateTable = serde_json::from_slice(mapped.entity.body().unwrap()).unwrap();
    let hash = table.source_hash.take().unwrap();
    let without = Entity::new("table", String::new(), serde_json::to_vec(&table).unwrap().into());
    let expected: String = without.content_hash().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hash, expected);
    table.source_hash = Some(hash);
    assert_eq!(mapped.entity.body().unwrap(), &serde_json::to_vec(&table).unwrap());
}

#[test]
fn the_object_of_a_table_is_found_by_its_fqn() {
    let naming = Naming::new("crm.eu", "my.org");
    for object in ["Account", "a.b"] {
        assert_eq!(naming.object_of(&naming.table_fqn(object)), Some(object));
    }
    for other in ["\"crm.eu\".\"my.org\".salesforce", "crm.default.salesforce.Account", naming.schema_fqn()] {
        assert_eq!(naming.object_of(other), None, "{other}");
    }
    assert_eq!(naming.object_of("\"crm.eu\".\"my.org\".salesforce.Account.Id"), None);
    assert_eq!(naming.object_of("\"crm.eu\".\"my.org\".salesforce2.Account"), None);
}
