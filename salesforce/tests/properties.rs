//! Whatever looks like a describe maps to a table that OpenMetadata takes, in both releases and by the server's own
//! rules, or is refused with a reason; nothing panics, and the same answer gives the same bytes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "says what was not run")]

#[path = "recordings/schema.rs"]
mod schema;

use std::path::Path;
use std::sync::LazyLock;

use hybrid_runner_openmetadata::entity::CreateTable;
use hybrid_runner_openmetadata::rules::check_table;
use hybrid_runner_salesforce::annotations::{Annotations, FieldAnnotations, Vocabulary};
use hybrid_runner_salesforce::config::Selection;
use hybrid_runner_salesforce::describe::{Describe, DescribeError};
use hybrid_runner_salesforce::listing::{ListedObject, Listing};
use hybrid_runner_salesforce::map::{MapError, Mapper};
use hybrid_runner_salesforce::naming::Naming;
use jsonschema::Validator;
use proptest::prelude::*;
use serde_json::{Value, json};

/// The table schemas of both releases; none, after saying so, where the shared material is not there. CI has it.
static SCHEMAS: LazyLock<Vec<Validator>> = LazyLock::new(|| {
    let schemas = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/schemas/openmetadata");
    if schemas.is_dir() {
        return ["1.13", "2.0"].map(|release| schema::of("table", schemas.join(release))).into();
    }
    let hint = "not run: there is no ../shared/schemas/openmetadata beside the repository; put the shared folder there";
    assert!(std::env::var_os("CI").is_none(), "{hint}");
    println!("{hint}");
    Vec::new()
});

fn object(name: &str) -> ListedObject {
    ListedObject { name: name.to_owned(), ..ListedObject::default() }
}

fn mapper() -> Mapper {
    let in_scope = ["X", "Account", "Contact"].map(object).into();
    let selection = Selection { in_scope, database: true, schema: true, ..Selection::default() };
    Mapper::new(Naming::new("crm.eu", "default"), "acme.my.salesforce.com", &selection, true)
}

fn vocabulary() -> Vocabulary {
    let list = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
    Vocabulary { sensitivity: list(&["A", "b.c"]), compliance: list(&["PII", "A>B"]), status: list(&["A"]) }
}

/// What an answer becomes: a table that both releases take, or the reason why not.
fn outcome(answer: &[u8], annotations: &Annotations) -> Result<CreateTable, String> {
    let describe = Describe::parse(answer).map_err(|error| error.to_string())?;
    let (mapper, vocabulary) = (mapper(), vocabulary());
    let finish = || {
        let draft = mapper.draft(&object("X"), &describe)?;
        mapper.finish(draft, annotations, &vocabulary)
    };
    let mapped = finish().map_err(|error: MapError| error.to_string())?;
    assert_eq!(finish().unwrap().entity, mapped.entity, "the same answer, other bytes");
    let body = mapped.entity.body().unwrap();
    let table: CreateTable = serde_json::from_slice(body).unwrap();
    // The type has every member of the body, in the body's order.
    assert_eq!(serde_json::to_vec(&table).unwrap(), body.as_ref());
    assert_eq!(check_table(&table), Ok(()));
    assert_eq!(table.columns.len() + usize::try_from(mapped.skipped).unwrap(), describe.fields().len());
    let request: Value = serde_json::from_slice(body).unwrap();
    for schema in SCHEMAS.iter() {
        let problems: Vec<_> = schema.iter_errors(&request).map(|error| error.to_string()).collect();
        assert_eq!(problems, Vec::<String>::new(), "{request}");
    }
    Ok(table)
}

/// Any JSON, three levels deep.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map("\\PC{0,8}", inner, 0..4).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

/// A value as Salesforce gives it most of the time.
fn usually(plausible: impl Strategy<Value = Value> + 'static) -> impl Strategy<Value = Option<Value>> {
    prop_oneof![6 => plausible.prop_map(Some), 1 => any_json().prop_map(Some), 1 => Just(None)]
}

fn text(pattern: &'static str) -> impl Strategy<Value = Value> {
    pattern.prop_map(Value::from)
}

/// Every type, and one that there is not.
const KINDS: &[&str] = &[
    "id",
    "reference",
    "masterrecord",
    "string",
    "textarea",
    "picklist",
    "multipicklist",
    "combobox",
    "boolean",
    "int",
    "long",
    "double",
    "currency",
    "percent",
    "date",
    "datetime",
    "time",
    "email",
    "phone",
    "url",
    "base64",
    "encryptedstring",
    "address",
    "location",
    "anyType",
    "complexvalue",
    "json",
    "hologram",
];

/// A member of a field, or none.
fn member(
    key: &'static str,
    plausible: impl Strategy<Value = Value> + 'static,
) -> BoxedStrategy<Option<(String, Value)>> {
    usually(plausible).prop_map(move |value| Some((key.to_owned(), value?))).boxed()
}

fn any_field() -> impl Strategy<Value = Value> {
    let number = || (0_u32..40).prop_map(Value::from);
    let flag = || any::<bool>().prop_map(Value::from);
    let value = (text("\\PC{0,9}"), flag()).prop_map(|(value, active)| json!({"value": value, "active": active}));
    let values = prop::collection::vec(prop_oneof![9 => value, 1 => any_json()], 0..4).prop_map(Value::from);
    let target = prop_oneof![4 => text("Account|Contact|X|Lead"), 1 => any_json()];
    let targets = prop::collection::vec(target, 0..8).prop_map(Value::from);
    let members = vec![
        member("name", text("[a-cA-C.:>\"\n]{0,3}")),
        member("type", prop::sample::select(KINDS).prop_map(Value::from)),
        member("length", number()),
        member("precision", number()),
        member("scale", number()),
        member("digits", number()),
        member("nillable", flag()),
        member("unique", flag()),
        member("custom", flag()),
        member("externalId", flag()),
        member("encrypted", flag()),
        member("deprecatedAndHidden", flag()),
        member("autoNumber", flag()),
        member("calculated", flag()),
        member("inlineHelpText", text("\\PC{0,20}")),
        member("calculatedFormula", text("[`\n ]{0,9}")),
        member("referenceTo", targets),
        member("referenceTargetField", text("[A-Z][a-z]{0,3}")),
        member("picklistValues", values),
        member("defaultValue", any_json()),
        member("relationshipOrder", number()),
        member("compoundFieldName", text("\\PC{0,3}")),
    ];
    members.prop_map(|members| members.into_iter().flatten().collect())
}

fn any_known() -> impl Strategy<Value = Annotations> {
    let some = |pattern: &'static str| prop::option::of(pattern);
    let field = (
        some("\\PC{0,9}"),
        some("[Ab.c ]{0,3}"),
        prop::collection::vec("PII|A>B|\\PC{0,3}", 0..3),
        some("A|`"),
        some("\\PC{0,3}"),
    );
    let field = field.prop_map(|(description, sensitivity, compliance, status, owner)| FieldAnnotations {
        description,
        sensitivity,
        compliance,
        status,
        owner,
    });
    let fields = prop::collection::btree_map("[a-c]{1,2}", field, 0..6);
    (some("\\PC{0,9}"), any::<Option<u64>>(), fields).prop_map(|(description, records, fields)| Annotations {
        description,
        records,
        fields,
    })
}

proptest! {
    #[test]
    fn anything_like_a_describe_maps_to_a_table_that_the_server_takes_or_is_refused(
        fields in usually(prop::collection::vec(prop_oneof![19 => any_field(), 1 => any_json()], 0..12).prop_map(Value::from)),
        label in usually(text("\\PC{0,9}")),
        custom in usually(any::<bool>().prop_map(Value::from)),
        known in any_known(),
    ) {
        let keys = [("fields", fields), ("label", label), ("custom", custom)];
        let describe: Value = keys.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
        if let Err(reason) = outcome(describe.to_string().as_bytes(), &known) {
            let list = describe.get("fields").and_then(Value::as_array);
            prop_assert!(list.is_none_or(|list| list.iter().any(|field| !field.is_object())), "{reason}");
        }
    }

    #[test]
    fn no_bytes_make_the_parsers_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), json in any_json()) {
        for answer in [bytes, json.to_string().into_bytes()] {
            drop(outcome(&answer, &Annotations::default()));
            drop(Listing::parse(&answer));
        }
    }
}

/// What one member of the one field becomes.
fn with(member: &str) -> Result<CreateTable, String> {
    outcome(format!(r#"{{"fields":[{{"name":"A",{member}}}]}}"#).as_bytes(), &Annotations::default())
}

/// What is not used is passed over without recursion.
#[test]
fn deep_answers_do_not_exhaust_the_stack() {
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let deep = format!("{}0{}", open.repeat(500_000), close.repeat(500_000));
        for member in ["unknown", "label", "length", "picklistValues", "referenceTo", "defaultValue"] {
            let columns = with(&format!(r#""{member}":{deep}"#)).unwrap().columns;
            assert_eq!((columns.len(), &columns[0].description), (1, &None), "{member}");
        }
        let reason = outcome(deep.as_bytes(), &Annotations::default()).unwrap_err();
        assert!(reason.starts_with("the answer is JSON, but it "), "{reason}");
    }
}

#[test]
fn huge_numbers_and_lists_are_read_as_far_as_they_mean_something() {
    let number = format!(r#""type":"double","precision":{},"scale":1e400"#, "9".repeat(400));
    assert!(with(&number).is_err(), "a number that no 64 bits hold is no JSON to this parser");
    let columns = with(r#""type":"double","precision":4294967296,"length":2147483648,"scale":-1"#).unwrap().columns;
    assert_eq!((columns[0].precision, columns[0].data_length), (None, None));
    let many = |count: usize| vec![r#""T""#; count].join(",");
    assert_eq!(with(&format!(r#""type":"reference","referenceTo":[{}]"#, many(100_000))).unwrap().columns.len(), 1);
    let long = "n".repeat(1_000_000);
    let described = with(&format!(r#""inlineHelpText":"{long}","picklistValues":[{{"value":"{long}"}}]"#)).unwrap();
    assert!(described.columns[0].description.as_ref().unwrap().len() < 6_000);
}

#[test]
fn a_table_that_would_not_travel_is_refused_before_it_is_whole() {
    let field = |n: usize| json!({"name": format!("F{n}"), "inlineHelpText": "x".repeat(4_900)});
    let fields: Vec<_> = (0..1_500).map(field).collect();
    let reason = outcome(json!({"fields": fields}).to_string().as_bytes(), &Annotations::default()).unwrap_err();
    // Read to the field that passed the limit, not to the end.
    let size: usize = reason.split(' ').find_map(|word| word.parse().ok()).unwrap();
    assert!((3_145_728..3_160_000).contains(&size), "{reason}");
}

#[test]
fn repeated_names_and_every_alphabet_are_columns_or_left_out() {
    let names = ["A", "a", "É", "é", "名前", "🦀", "ﬀ", r"\u0000", " ", r"A\u0301", "a::b", "a__reserved__colon__b"];
    let fields: Vec<_> = names.iter().map(|name| format!(r#"{{"name":"{name}"}}"#)).collect();
    let table = outcome(format!(r#"{{"fields":[{}]}}"#, fields.join(",")).as_bytes(), &Annotations::default()).unwrap();
    let found: Vec<_> = table.columns.iter().map(|column| column.name.as_str()).collect();
    let expected = ["A", "É", "é", "名前", "🦀", "ﬀ", "\0", " ", "A\u{301}", "a__reserved__colon__b"];
    assert_eq!(found, expected);
}

#[test]
fn an_object_with_a_repeated_member_is_refused() {
    let refused = Describe::parse(br#"{"fields":[{"name":"A","name":"B"}]}"#).unwrap_err();
    assert!(matches!(refused, DescribeError::Syntax { .. }), "{refused}");
}
