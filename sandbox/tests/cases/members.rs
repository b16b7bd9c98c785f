//! Describes and lists have exactly the members that the recorded responses of the same API version have.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sandbox::{ApiVersion, FieldType, Org, OrgConfig, Sandbox, ServerConfig};
use serde_json::{Value, json};

use crate::client::{self, Client};

/// The recordings, if they are there.
fn recordings() -> anyhow::Result<Option<PathBuf>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures/salesforce");
    if dir.is_dir() {
        return Ok(Some(dir));
    }
    client::absent("the recordings are not there: put them at ../shared/fixtures/salesforce beside the workspace")?;
    Ok(None)
}

fn keys(value: &Value) -> Vec<String> {
    value.as_object().map(|members| members.keys().cloned().collect()).unwrap_or_default()
}

/// The different member lists of the elements of `value[list]`.
fn keys_of_each(value: &Value, list: &str) -> BTreeSet<Vec<String>> {
    value[list].as_array().into_iter().flatten().map(keys).collect()
}

fn recorded(file: &Path) -> anyhow::Result<(ApiVersion, Value)> {
    let text = std::fs::read_to_string(file)?;
    let exchange: Value = serde_json::from_str(&text).with_context(|| file.display().to_string())?;
    let path = exchange.pointer("/request/path").and_then(Value::as_str).context("no path")?;
    let version = path.split('/').find_map(|part| part.strip_prefix('v')).context("no version")?;
    Ok((version.parse()?, exchange.pointer("/response/body").context("no body")?.clone()))
}

fn files(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    Ok(std::fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?)
}

#[tokio::test]
async fn a_describe_has_the_members_of_the_recorded_ones_of_its_version() -> anyhow::Result<()> {
    let Some(dir) = recordings()? else { return Ok(()) };
    let org = Org::generate(&OrgConfig { objects: 60, ..OrgConfig::default() });
    let sandbox = Sandbox::start(org, ServerConfig::default()).await?;
    let client = Client::logged_in(&sandbox).await?;
    let mut compared = 0;
    for file in files(&dir.join("describe"))?.into_iter().chain(files(&dir.join("evolution"))?) {
        // That client dropped every member whose value was null.
        if file.to_string_lossy().contains("vlocity_cmt__") {
            continue;
        }
        let (version, recorded) = recorded(&file)?;
        for name in ["Account", "Service_Visit__c"] {
            let made = client.json(&format!("/services/data/v{version}/sobjects/{name}/describe")).await?;
            assert_eq!(keys(&made), keys(&recorded), "{}", file.display());
            for list in ["fields", "childRelationships", "recordTypeInfos", "supportedScopes"] {
                let (made, recorded) = (keys_of_each(&made, list), keys_of_each(&recorded, list));
                assert_eq!(made.len(), 1, "{list} of {name}");
                assert!(recorded.is_empty() || made == recorded, "{list} of {}: {made:?} {recorded:?}", file.display());
            }
            compared += 1;
        }
    }
    assert!(compared >= 30, "{compared}");
    Ok(())
}

#[tokio::test]
async fn a_list_entry_has_the_members_of_the_recorded_ones_of_its_version() -> anyhow::Result<()> {
    let Some(dir) = recordings()? else { return Ok(()) };
    let sandbox = Sandbox::start(Org::generate(&OrgConfig::default()), ServerConfig::default()).await?;
    let client = Client::logged_in(&sandbox).await?;
    for file in files(&dir.join("global"))? {
        let (version, recorded) = recorded(&file)?;
        let made = client.json(&format!("/services/data/v{version}/sobjects")).await?;
        assert_eq!(keys(&made), keys(&recorded));
        assert_eq!(keys_of_each(&made, "sobjects"), keys_of_each(&recorded, "sobjects"), "{}", file.display());
    }
    Ok(())
}

#[tokio::test]
async fn a_member_of_a_field_has_the_same_kind_of_value_as_recorded() -> anyhow::Result<()> {
    let Some(dir) = recordings()? else { return Ok(()) };
    let sandbox = Sandbox::start(Org::generate(&OrgConfig::default()), ServerConfig::default()).await?;
    let client = Client::logged_in(&sandbox).await?;
    let made = client.json("/services/data/v59.0/sobjects/Account/describe").await?;
    let (_, recorded) = recorded(&dir.join("describe/Account_person_account_npsp_v59.json"))?;
    let field = |describe: &Value, name: &str| {
        let fields = describe["fields"].as_array().cloned().unwrap_or_default();
        fields.into_iter().find(|field| field["name"] == name)
    };
    // What the type decides, for fields of the types that the recording has.
    let same = [
        "autoNumber",
        "calculated",
        "compoundFieldName",
        "custom",
        "filterable",
        "groupable",
        "idLookup",
        "length",
        "aggregatable",
        "nameField",
        "queryByDistance",
        "relationshipName",
        "soapType",
        "sortable",
        "type",
        "unique",
        "byteLength",
        "digits",
        "extraTypeInfo",
        "polymorphicForeignKey",
    ];
    let names = [
        "Id",
        "ParentId",
        "BillingStreet",
        "BillingCity",
        "BillingLatitude",
        "BillingAddress",
        "Phone",
        "Website",
        "Industry",
        "AnnualRevenue",
        "Description",
        "OwnerId",
        "CreatedDate",
        "LastActivityDate",
        "IsDeleted",
    ];
    for name in names {
        let (made, recorded) = (field(&made, name).context(name)?, field(&recorded, name).context(name)?);
        for member in same {
            assert_eq!(made[member], recorded[member], "{name}.{member}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn recordings_become_an_org_of_all_their_names() -> anyhow::Result<()> {
    let Some(dir) = recordings()? else { return Ok(()) };
    let config = OrgConfig { recordings: Some(dir.clone()), ..OrgConfig::default() };
    let org = Org::new(&config)?;
    assert!((788..=800).contains(&org.objects().len()), "{}", org.objects().len());
    for object in org.objects() {
        let fields: BTreeSet<&str> = object.fields.iter().map(|field| field.name.as_str()).collect();
        assert!(!fields.is_empty() && fields.len() == object.fields.len(), "{}", object.entry.name);
    }
    let names: BTreeSet<String> = org.objects().map(|object| object.entry.name.clone()).collect();
    for name in ["Account", "AcceptedEventRelation", "Custom__c", "vlocity_cmt__OmniScript__c"] {
        assert!(names.contains(name), "{name}");
    }
    let sandbox = Sandbox::start(org, ServerConfig::default()).await?;
    let client = Client::logged_in(&sandbox).await?;
    let served = client.json("/services/data/v59.0/sobjects/Account/describe").await?;
    let (_, recorded) = recorded(&dir.join("describe/Account_person_account_npsp_v59.json"))?;
    assert_eq!(served, recorded, "the newest recording is served as it is");
    let served = client.json("/services/data/v54.0/sobjects/Opportunity/describe").await?;
    assert_eq!(served["fields"].as_array().map(Vec::len), Some(40), "of one version, the one with more fields");
    let generated = client.json("/services/data/v54.0/sobjects/AccountFeed/describe").await?;
    assert_eq!(generated["label"], "Account Feed");
    assert_eq!(generated["associateParentEntity"], "Account");
    let query = "SELECT QualifiedApiName, Description FROM FieldDefinition \
        WHERE EntityDefinition.QualifiedApiName = 'vlocity_cmt__OmniScript__c'";
    let rows = client.query("55.0", query).await?;
    assert_eq!(rows["totalSize"], 38, "recorded rows are served");
    assert!(org_types(&sandbox.org()).is_superset(&[FieldType::Reference, FieldType::Base64].into()));
    Ok(())
}

#[tokio::test]
async fn any_other_folder_of_that_layout_works() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let write = |file: &str, version: &str, body: Value| {
        let path = dir.path().join(file);
        std::fs::create_dir_all(path.parent().context("no folder")?)?;
        let request = json!({ "method": "GET", "path": format!("/services/data/v{version}/x") });
        let exchange =
            json!({ "source": { "api_version": version }, "request": request, "response": { "body": body } });
        anyhow::Ok(std::fs::write(path, serde_json::to_string_pretty(&exchange)?)?)
    };
    let listed = |name: &str, kind: Option<&str>, parent: Option<&str>| {
        json!({ "name": name, "label": name, "labelPlural": name, "custom": name.ends_with("__c"), "queryable": true,
            "keyPrefix": null, "associateEntityType": kind, "associateParentEntity": parent })
    };
    let sobjects = [
        listed("Thing__c", None, None),
        listed("Thing__History", Some("History"), Some("Thing__c")),
        listed("GoneShare", Some("Share"), Some("Gone")),
        listed("UnheardOf", None, None),
    ];
    write("global/list.json", "52.0", json!({ "encoding": "UTF-8", "maxBatchSize": 200, "sobjects": sobjects }))?;
    let described =
        |label: &str| json!({ "name": "Thing__c", "label": label, "fields": [{ "name": "Id", "type": "id" }] });
    write("describe/a.json", "54.0", described("newer"))?;
    write("describe/b.json", "48.0", described("older"))?;

    let config = OrgConfig { recordings: Some(dir.path().into()), ..OrgConfig::default() };
    let sandbox = Sandbox::start(Org::new(&config)?, ServerConfig::default()).await?;
    let client = Client::logged_in(&sandbox).await?;
    let list = client.json("/services/data/v52.0/sobjects").await?;
    assert_eq!(list["sobjects"].as_array().map(Vec::len), Some(4));
    assert_eq!(client.json("/services/data/v60.0/sobjects/Thing__c/describe").await?, described("newer"));
    for name in ["Thing__History", "GoneShare", "UnheardOf"] {
        let made = client.json(&format!("/services/data/v60.0/sobjects/{name}/describe")).await?;
        let fields: Vec<_> =
            made["fields"].as_array().into_iter().flatten().map(|field| field["name"].to_string()).collect();
        assert!(fields.len() > 3, "{name}");
        assert_eq!(fields.iter().collect::<BTreeSet<_>>().len(), fields.len(), "{name}");
        assert_eq!(made["queryable"], true);
    }
    Ok(())
}

fn org_types(org: &Org) -> BTreeSet<FieldType> {
    org.objects().flat_map(|object| &object.fields).map(|field| field.kind).collect()
}
