//! Any bytes as the answer to a describe: they are refused, or become a table that OpenMetadata takes, the same each time.
#![no_main]

use std::sync::LazyLock;

use hybrid_runner_openmetadata::entity::CreateTable;
use hybrid_runner_openmetadata::rules::check_table;
use hybrid_runner_salesforce::annotations::{Annotations, FieldAnnotations, Vocabulary};
use hybrid_runner_salesforce::config::Selection;
use hybrid_runner_salesforce::describe::Describe;
use hybrid_runner_salesforce::listing::ListedObject;
use hybrid_runner_salesforce::map::Mapper;
use hybrid_runner_salesforce::naming::Naming;
use libfuzzer_sys::fuzz_target;

static OBJECT: LazyLock<ListedObject> =
    LazyLock::new(|| ListedObject { name: "Account".to_owned(), ..ListedObject::default() });

static MAPPER: LazyLock<Mapper> = LazyLock::new(|| {
    let selection = Selection { in_scope: vec![OBJECT.clone()], database: true, schema: true, ..Selection::default() };
    Mapper::new(Naming::new("crm.eu", "default"), "acme.my.salesforce.com", &selection, true)
});

static KNOWN: LazyLock<(Annotations, Vocabulary)> = LazyLock::new(|| {
    let name = FieldAnnotations {
        description: Some("What people call it.".to_owned()),
        sensitivity: Some("Public".to_owned()),
        compliance: vec!["PII".to_owned(), "Other".to_owned()],
        ..FieldAnnotations::default()
    };
    let annotations = Annotations {
        description: Some("Companies.".to_owned()),
        records: Some(1_234),
        fields: [("name".to_owned(), name)].into(),
    };
    let vocabulary =
        Vocabulary { sensitivity: vec!["Public".to_owned()], compliance: vec!["PII".to_owned()], status: Vec::new() };
    (annotations, vocabulary)
});

fuzz_target!(|answer: &[u8]| {
    let Ok(describe) = Describe::parse(answer) else { return };
    let Ok(draft) = MAPPER.draft(&OBJECT, &describe) else { return };
    let (annotations, vocabulary) = &*KNOWN;
    let Ok(mapped) = MAPPER.finish(draft.clone(), annotations, vocabulary) else { return };
    let body = mapped.entity.body().expect("a table has a body");
    let table: CreateTable = serde_json::from_slice(body).expect("a table is a Create request");
    assert_eq!(check_table(&table), Ok(()));
    assert_eq!(table.columns.len() as u64 + mapped.skipped, draft.fields() as u64);
    assert_eq!(MAPPER.finish(draft, annotations, vocabulary).as_ref(), Ok(&mapped));
});
