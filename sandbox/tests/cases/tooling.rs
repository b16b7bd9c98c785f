//! What the Tooling API says about objects and fields, and how it fails.

use std::collections::HashSet;

use anyhow::Context as _;
use sandbox::{Field, Org, OrgConfig, PartFault, Sandbox, SandboxHandle, ServerConfig};
use serde_json::{Value, json};

use crate::client::Client;

const COLUMNS: &str = "QualifiedApiName,EntityDefinition.QualifiedApiName,Description,SecurityClassification,\
    ComplianceGroup,BusinessStatus,BusinessOwnerId";

async fn start(objects: usize) -> anyhow::Result<SandboxHandle> {
    let config = OrgConfig { objects, ..OrgConfig::default() };
    Sandbox::start(Org::generate(&config), ServerConfig::default()).await
}

fn by_objects(columns: &str, names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
    format!("SELECT {columns} FROM FieldDefinition WHERE EntityDefinition.QualifiedApiName IN ({})", names.join(","))
}

fn rows(answer: &Value) -> anyhow::Result<&Vec<Value>> {
    answer["records"].as_array().with_context(|| format!("no records: {answer}"))
}

#[tokio::test]
async fn prepared_rows_are_those_that_are_made_one_by_one() -> anyhow::Result<()> {
    let sandbox = start(60).await?;
    let client = Client::logged_in(&sandbox).await?;
    let org = sandbox.org();
    let names: Vec<&str> = org.objects().map(|object| object.entry.name.as_str()).take(12).collect();
    let every = ["", ",SecurityClassification,ComplianceGroup,BusinessStatus", ",BusinessOwnerId"];
    for more in every {
        let columns = format!("QualifiedApiName,EntityDefinition.QualifiedApiName,Description{more}");
        let query = by_objects(&columns, &names);
        let prepared = client.query("67.0", &query).await?;
        // A limit is served the other way.
        let made = client.query("67.0", &format!("{query} LIMIT 2000")).await?;
        assert!(rows(&made)?.len() > 100);
        assert_eq!(prepared, made, "{more}");
    }
    Ok(())
}

#[tokio::test]
async fn fields_are_described_classified_and_owned_and_another_seed_differs() -> anyhow::Result<()> {
    let texts = |seed| {
        let org = Org::generate(&OrgConfig { seed, ..OrgConfig::default() });
        let fields: Vec<Field> = org.objects().flat_map(|object| object.fields.clone()).collect();
        let some = |has: fn(&Field) -> bool| fields.iter().filter(|field| has(field)).count();
        let all = [
            some(|field| field.description.is_some()),
            some(|field| field.classification.is_some() && field.business_status.is_some()),
            some(|field| field.compliance.is_some()),
            some(|field| field.owner.is_some()),
        ];
        assert!(all.iter().all(|count| *count > 3), "{all:?}");
        fields.into_iter().filter_map(|field| field.description).collect::<Vec<_>>()
    };
    let (one, other) = (texts(1), texts(2));
    assert_ne!(one, other);
    for part in ["\n", "ö", "\"", "<a href", "\\"] {
        assert!(one.iter().any(|text| text.contains(part)), "{part:?}");
    }
    Ok(())
}

#[tokio::test]
async fn what_only_tooling_shows_changes_without_a_stamp() -> anyhow::Result<()> {
    let sandbox = start(60).await?;
    let client = Client::logged_in(&sandbox).await?;
    let describe = "/services/data/v67.0/sobjects/Account/describe";
    let stamp = |answer: &reqwest::Response| answer.headers().get("last-modified").cloned();
    let before = client.get(describe).await?;
    let query = by_objects(COLUMNS, &["Account"]);
    client.query("67.0", &query).await?;
    sandbox.change_org(|org| -> anyhow::Result<()> {
        org.describe_object("Account", Some("new"))?;
        org.describe_field("Account", "Name", Some("other"))?;
        org.classify_field("Account", "Name", Some("Internal"), &["PII", "BDSG"])?;
        org.own_field("Account", "Name", Some("0055g0000OwnerAAAA"))?;
        assert!(org.describe_field("Account", "Nothing", None).is_err());
        Ok(())
    })?;
    let after = client.get(describe).await?;
    assert_eq!(stamp(&before), stamp(&after));
    assert_eq!(before.text().await?, after.text().await?);
    let answer = client.query("67.0", &query).await?;
    let name = rows(&answer)?.iter().find(|row| row["QualifiedApiName"] == "Name").context("no Name")?;
    let said = ["Description", "SecurityClassification", "ComplianceGroup", "BusinessOwnerId"].map(|key| &name[key]);
    assert_eq!(said, [&json!("other"), &json!("Internal"), &json!("PII;BDSG"), &json!("0055g0000OwnerAAAA")]);
    let entity = "SELECT Description FROM EntityDefinition WHERE QualifiedApiName = 'Account'";
    assert_eq!(client.query("67.0", entity).await?["records"][0]["Description"], "new");
    Ok(())
}

#[tokio::test]
async fn the_values_of_the_classification_are_in_the_describe_of_fielddefinition() -> anyhow::Result<()> {
    let sandbox = start(60).await?;
    let client = Client::logged_in(&sandbox).await?;
    let path = "/services/data/v67.0/tooling/sobjects/FieldDefinition/describe";
    let described = client.json(path).await?;
    let values = |name: &str, active: bool| -> HashSet<String> {
        let field = described["fields"].as_array().into_iter().flatten().find(|field| field["name"] == name);
        let values = field.and_then(|field| field["picklistValues"].as_array()).into_iter().flatten();
        values.filter(|v| v["active"] == active).filter_map(|v| v["value"].as_str().map(ToOwned::to_owned)).collect()
    };
    assert!(values("SecurityClassification", true).contains("Works Council"), "one that the org has added");
    assert!(values("SecurityClassification", false).contains("Top Secret"), "one that is not in use any more");
    assert!(values("ComplianceGroup", true).contains("GDPR"));
    let org = sandbox.org();
    for field in org.objects().flat_map(|object| &object.fields) {
        if let Some(level) = &field.classification {
            assert!(values("SecurityClassification", true).contains(&**level), "{level}");
        }
    }
    sandbox.faults().change(|plan| plan.no_view_setup = true);
    assert_eq!(client.get(path).await?.status(), 404);
    Ok(())
}

#[tokio::test]
async fn owners_are_found_by_their_ids() -> anyhow::Result<()> {
    let sandbox = start(60).await?;
    let client = Client::logged_in(&sandbox).await?;
    let query = |soql: &str| format!("/services/data/v67.0/query?q={}", soql.replace(' ', "+"));
    let of = "SELECT Id,Name FROM User WHERE Id IN ('0055g0000OwnerA','0055g0000OwnerBAAA','005000000000000AAA')";
    let users = client.json(&query(of)).await?;
    let names: Vec<_> = rows(&users)?.iter().map(|row| row["Name"].as_str()).collect();
    assert_eq!(names, [Some("Anna Müller"), Some("Brian O'Neill")]);
    let groups = client.json(&query("SELECT Id,Name FROM Group WHERE Id = '00G5g0000GroupBAAA'")).await?;
    assert_eq!(rows(&groups)?[0]["Name"], "R&D");
    Ok(())
}

#[tokio::test]
async fn sub_requests_fail_on_their_own_as_often_as_asked() -> anyhow::Result<()> {
    let sandbox = start(60).await?;
    let client = Client::logged_in(&sandbox).await?;
    let call = || async {
        let url = |of: &str| format!("/services/data/v67.0/tooling/query?q=SELECT+QualifiedApiName+FROM+{of}");
        let part = |(at, url): (usize, String)| json!({ "method": "GET", "url": url, "referenceId": format!("q{at}") });
        let fields = url("FieldDefinition+WHERE+EntityDefinition.QualifiedApiName+IN+('Account')");
        let urls = [url("EntityDefinition+LIMIT+1"), fields];
        let parts: Vec<_> = urls.into_iter().enumerate().map(part).collect();
        let (_, body) =
            client.post("/services/data/v67.0/tooling/composite", &json!({ "compositeRequest": parts })).await?;
        let statuses = body["compositeResponse"].as_array().context("no parts")?.iter();
        anyhow::Ok(statuses.map(|part| part["httpStatusCode"].as_u64()).collect::<Vec<_>>())
    };
    let fault = PartFault { url: "FROM+FieldDefinition".into(), status: 500, code: "QUERY_TIMEOUT".into(), times: 2 };
    sandbox.faults().change(|plan| plan.parts.push(fault));
    for expected in [500, 500, 200] {
        assert_eq!(call().await?, [Some(200), Some(expected)]);
    }
    sandbox.faults().change(|plan| plan.longest_part_url = Some(100));
    assert_eq!(call().await?, [Some(200), Some(414)]);
    Ok(())
}

#[tokio::test]
async fn fields_that_the_user_does_not_see_have_rows_all_the_same() -> anyhow::Result<()> {
    let sandbox = start(60).await?;
    let client = Client::logged_in(&sandbox).await?;
    let query = by_objects(COLUMNS, &["Account"]);
    let seen = rows(&client.query("67.0", &query).await?)?.len();
    sandbox.faults().change(|plan| plan.hidden_fields = 7);
    assert_eq!(rows(&client.query("67.0", &query).await?)?.len(), seen + 7);
    sandbox.faults().change(|plan| plan.hidden_fields = 3_000);
    assert_eq!(rows(&client.query("67.0", &query).await?)?.len(), 2_000, "no answer has more");
    Ok(())
}
