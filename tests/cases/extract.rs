//! `hybrid-runner extract`: one extraction without a control plane, in place of `metadata ingest`.

mod quota;

use std::collections::{BTreeMap, BTreeSet};

use control_plane::export::Export;
use hybrid_runner_tests::extraction::{Extraction, OAUTH, SOAP, soap_at_localhost};
use hybrid_runner_tests::logs::{self, Logs};
use hybrid_runner_tests::processes::{Output, output};
use hybrid_runner_tests::world::{World, parse_export, pipeline_yaml};
use hybrid_runner_tests::{BESIDE_TABLES, RESULT_KEYS, entities_with};
use sandbox::{FaultPlan, Kind, OrgConfig};

/// Sees that an extraction ended well, and logged nothing unusual.
fn complete(output: &Output) {
    assert_eq!(output.code(), 0, "{output:?}");
    assert!(logs::unexpected(&output.stderr, &[]).is_empty() && !output.stderr.contains("warning:"), "{output:?}");
    assert_eq!(output.json()["complete"], true, "{output:?}");
}

/// The names of the tables written.
fn tables(one: &Extraction) -> BTreeSet<String> {
    parse_export(&one.export())
        .into_iter()
        .filter(|(kind, ..)| kind == "table")
        .map(|(_, _, entity)| entity["name"].as_str().unwrap().to_owned())
        .collect()
}

/// The names of the org's objects that are wanted; some and not all.
fn objects(one: &Extraction, wanted: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let org = one.org.org();
    let found: BTreeSet<String> =
        org.objects().map(|object| object.entry.name.clone()).filter(|name| wanted(name)).collect();
    assert!(!found.is_empty() && found.len() < org.objects().len(), "the case shows something: {found:?}");
    found
}

/// What is written for these options.
async fn tables_with(one: &Extraction, options: &str) -> BTreeSet<String> {
    one.workflow(&soap_at_localhost(), options);
    complete(&one.run().await);
    tables(one)
}

#[tokio::test]
async fn the_last_line_of_stdout_has_the_keys_of_the_contract_in_their_order() {
    let one = Extraction::new().await;
    let output = one.run().await;
    complete(&output);
    let text = output.stdout.trim_end();
    assert_eq!(text.lines().count(), 1, "with --out FILE stdout holds nothing else");
    assert_eq!(output.stderr.matches("advice: this pipeline logs in by SOAP").count(), 1, "{output:?}");
    assert_eq!(output.stderr.matches("Summer '27").count(), 1, "said once: {output:?}");
    let places: Vec<_> = RESULT_KEYS.iter().map(|key| text.find(&format!("\"{key}\":")).expect(key)).collect();
    assert!(places.is_sorted(), "{text}");
    let line = output.json();
    assert_eq!(line.as_object().unwrap().len(), RESULT_KEYS.len(), "{line}");
    assert_eq!((&line["pipeline"], &line["state"]), (&"workflow".into(), &"committed".into()), "{line}");
    let all = entities_with(30).into();
    assert_eq!((&line["objects"], &line["entities"], &line["sent"]), (&30.into(), &all, &all), "{line}");
    for zero in ["unchanged", "filtered", "failed", "deleted"] {
        assert_eq!(line[zero], 0, "{zero}: {line}");
    }
    assert_eq!(line["deletions"], "none");
    assert_eq!(line["salesforce_requests"], one.org.requests().total);
    assert!(line["bytes_received"].as_u64().unwrap() > 0 && line["wall_seconds"].as_f64().unwrap() > 0.0, "{line}");
    let path = one.dir.path().canonicalize().unwrap().join("out.jsonl");
    assert_eq!(line["export"], path.to_str().unwrap());
    let columns: usize = parse_export(&one.export())
        .iter()
        .filter_map(|(_, _, entity)| entity["columns"].as_array().map(Vec::len))
        .sum();
    assert_eq!(line["columns"], columns);
}

#[tokio::test]
async fn a_pipeline_has_the_name_that_a_control_plane_would_give_it() {
    let one = Extraction::new().await;
    let text = std::fs::read_to_string(one.dir.path().join("workflow.yaml")).unwrap();
    one.write("workflow.yaml", &format!("{text}ingestionPipelineFQN: crm.nightly\n"));
    assert_eq!(one.run().await.json()["pipeline"], "crm.nightly");
}

#[tokio::test]
async fn an_export_has_parents_first_and_one_key_order() {
    let one = Extraction::new().await;
    complete(&one.run().await);
    for line in one.export().lines() {
        let rest = line.strip_prefix("{\"kind\":\"").unwrap();
        let (kind, rest) = rest.split_once("\",\"fqn\":\"").unwrap();
        let (fqn, entity) = rest.split_once("\",\"entity\":{").unwrap();
        let root = if ["classification", "tag"].contains(&kind) { "Salesforce" } else { "crm" };
        assert!(!kind.contains('"') && fqn.starts_with(root) && entity.ends_with("}}"), "{line}");
    }
    let entities = parse_export(&one.export());
    let kinds: Vec<_> = entities.iter().map(|(kind, ..)| kind.as_str()).collect();
    let beside = BESIDE_TABLES.iter().flat_map(|(kind, entities)| std::iter::repeat_n(kind.as_str(), *entities));
    assert_eq!(kinds, beside.chain(std::iter::repeat_n("table", 30)).collect::<Vec<_>>());
    let parent = BTreeMap::from([
        ("database", "service"),
        ("databaseSchema", "database"),
        ("table", "databaseSchema"),
        ("tag", "classification"),
    ]);
    let mut seen = BTreeSet::new();
    let mut labels = 0;
    for (kind, fqn, entity) in &entities {
        if let Some(parent) = parent.get(kind.as_str()) {
            assert!(seen.contains(entity[parent].as_str().unwrap()), "{fqn} came before its parent");
        }
        let columns = entity["columns"].as_array().into_iter().flatten();
        for label in columns.chain([entity]).filter_map(|labelled| labelled["tags"].as_array()).flatten() {
            labels += 1;
            assert!(seen.contains(label["tagFQN"].as_str().unwrap()), "{fqn} came before its tag: {label}");
        }
        assert!(seen.insert(fqn.clone()), "{fqn} came twice");
    }
    assert!(labels > 0, "some tables have tags");
    let expected: Vec<_> = one.org.org().objects().map(|object| object.entry.name.clone()).collect();
    let written: Vec<_> = entities
        .iter()
        .filter(|(kind, ..)| kind == "table")
        .map(|(_, _, entity)| entity["name"].as_str().unwrap())
        .collect();
    assert_eq!(written, expected, "tables stand in the listing's order");
}

#[tokio::test]
async fn a_dash_as_out_is_stdout_with_the_result_as_the_last_line() {
    let one = Extraction::new().await;
    complete(&one.run().await);
    let mut command = one.bare();
    command.args(["--secrets", "file:secrets", "--config", "config.yaml", "--out", "-", "--json"]);
    let output = output(command).await;
    complete(&output);
    assert_eq!(output.json()["export"], serde_json::Value::Null);
    let (export, _last) = output.stdout.trim_end().rsplit_once('\n').unwrap();
    assert_eq!(export, one.export().trim_end());
}

#[tokio::test]
async fn without_out_it_says_to_give_it() {
    let one = Extraction::new().await;
    let mut command = one.bare();
    command.args(["--secrets", "file:secrets", "--config", "config.yaml", "--json"]);
    let error = one.refusal_of(command).await;
    assert!(error.contains("give --out FILE"), "{error}");
}

#[tokio::test]
async fn an_output_that_cannot_be_written_is_refused_before_anything_is_sent() {
    let one = Extraction::new().await;
    for out in ["absent/out.jsonl", "secrets"] {
        let mut command = one.bare();
        command.args(["--secrets", "file:secrets", "--config", "config.yaml", "--out", out]);
        let error = one.refusal_of(command).await;
        assert!(error.contains(&format!("--out {out}")), "{error}");
    }
}

#[tokio::test]
async fn sink_and_workflow_config_are_checked_and_not_used() {
    let one = Extraction::new().await;
    let text = std::fs::read_to_string(one.dir.path().join("workflow.yaml")).unwrap();
    let unused = "sink:
  type: metadata-rest
  config: {}
workflowConfig:
  loggerLevel: INFO
  openMetadataServerConfig:
    hostPort: http://localhost:8585/api
    authProvider: openmetadata
    securityConfig: {jwtToken: 'secret:/openmetadata/absent'}
";
    one.write("workflow.yaml", &format!("{text}{unused}"));
    complete(&one.run().await);
    one.write("workflow.yaml", &format!("{text}{}", unused.replace("loggerLevel", "loggerLvel")));
    let output = one.run().await;
    assert_eq!(output.code(), 2, "{output:?}");
    assert!(output.stderr.contains("did you mean `loggerLevel`?"), "{output:?}");
}

#[tokio::test]
async fn a_variable_in_a_credential_field_is_read_from_the_environment() {
    let one = Extraction::new().await;
    let login = one.org.credentials();
    one.workflow(
        "username: ${SF_USER}\npassword: ${SF_PASSWORD}\nsecurityToken: ${SF_TOKEN}\nsalesforceDomain: localhost\n",
        "",
    );
    let command = || {
        let mut command = one.bare();
        command.args(["--out", "out.jsonl", "--json", "--config", "config.yaml"]);
        command.env("SF_USER", &login.username).env("SF_PASSWORD", &login.password);
        command
    };
    let error = one.refusal_of(command()).await;
    assert!(error.contains("securityToken: ${SF_TOKEN} names a variable that is not set"), "{error}");
    let mut set = command();
    set.env("SF_TOKEN", &login.security_token);
    complete(&output(set).await);
}

#[tokio::test]
async fn literal_secrets_are_permitted_on_request_with_one_warning() {
    let one = Extraction::new().await;
    let login = one.org.credentials();
    let (password, token) = (&login.password, &login.security_token);
    one.workflow(
        &format!(
            "username: {}\npassword: {password}\nsecurityToken: {token}\nsalesforceDomain: localhost\n",
            login.username
        ),
        "",
    );
    let mut command = one.command();
    command.arg("--allow-literal-secrets");
    let output = output(command).await;
    assert_eq!(output.code(), 0, "{output:?}");
    assert_eq!(output.stderr.matches("warning:").count(), 1, "{output:?}");
    assert!(output.stderr.contains("warning: credentials stand in the workflow file itself"), "{output:?}");
    assert!(!output.stderr.contains(password) && !output.stderr.contains(token), "{output:?}");
}

#[tokio::test]
async fn secrets_are_read_from_the_environment_store() {
    let one = Extraction::new().await;
    let login = one.org.credentials();
    for (store, prefix) in [("env", "HYBRID_RUNNER_SECRET_"), ("env:ACME_", "ACME_")] {
        let mut command = one.bare();
        command.args(["--secrets", store, "--out", "out.jsonl", "--json", "--config", "config.yaml"]);
        command.env(format!("{prefix}SALESFORCE_PASSWORD"), &login.password);
        command.env(format!("{prefix}SALESFORCE_TOKEN"), &login.security_token);
        complete(&output(command).await);
    }
}

#[tokio::test]
async fn the_stores_of_the_configuration_are_used_when_no_other_is_named() {
    let one = Extraction::new().await;
    let hosts = std::fs::read_to_string(one.dir.path().join("config.yaml")).unwrap();
    one.write("config.yaml", &format!("{hosts}secrets: {{stores: {{mounted: {{file: {{dir: secrets}}}}}}}}\n"));
    let mut command = one.bare();
    command.args(["--out", "out.jsonl", "--json", "--config", "config.yaml"]);
    command.env("HYBRID_RUNNER_LOG__LEVEL", "warn");
    complete(&output(command).await);
}

#[tokio::test]
async fn client_credentials_log_in_at_a_my_domain() {
    let one = Extraction::new().await;
    one.workflow(&format!("{OAUTH}salesforceDomain: acme.my\n"), "");
    let mut command = one.proxied();
    command.env("SSL_CERT_FILE", "ca.pem");
    complete(&output(command).await);
    let requests = one.org.requests();
    assert_eq!((requests.count(Kind::Token), requests.count(Kind::SoapLogin)), (1, 0), "{requests:?}");
    let hosts: BTreeSet<_> = one.org.log().into_iter().map(|request| request.host).collect();
    assert_eq!(hosts, BTreeSet::from(["acme.my.salesforce.com".to_owned()]));
    assert!(requests.tunnels > 0 && requests.tunnels_refused == 0, "{requests:?}");
}

/// Whether the hosts were Salesforce's own: the login host first, then the one that its answer named.
fn used_the_default_host(one: &Extraction) {
    let log = one.org.log();
    let hosts: Vec<_> = log.iter().map(|request| request.host.as_str()).collect();
    assert_eq!(hosts.first(), Some(&"login.salesforce.com"), "{hosts:?}");
    assert!(hosts.iter().skip(1).all(|host| *host == "example-org.my.salesforce.com") && hosts.len() > 2, "{hosts:?}");
}

#[tokio::test]
async fn the_default_host_is_read_through_a_proxy_whose_authority_stands_in_the_workflow() {
    let one = Extraction::new().await;
    let indented: String = one.org.ca_pem().lines().map(|line| format!("    {line}\n")).collect();
    one.workflow(&format!("{SOAP}sslConfig:\n  caCertificate: |\n{indented}"), "");
    complete(&output(one.proxied()).await);
    used_the_default_host(&one);
}

#[tokio::test]
async fn the_default_host_is_read_through_a_proxy_whose_authority_the_system_trusts() {
    let one = Extraction::new().await;
    one.workflow(SOAP, "");
    let mut command = one.proxied();
    command.env("SSL_CERT_FILE", "ca.pem");
    complete(&output(command).await);
    used_the_default_host(&one);
}

#[tokio::test]
async fn table_filters_match_from_the_start_ignoring_case_and_excludes_win() {
    let one = Extraction::with(OrgConfig::default(), FaultPlan::default()).await;
    let lower = |name: &str| name.to_ascii_lowercase();
    let begins = objects(&one, |name| lower(name).starts_with("account"));
    assert_eq!(tables_with(&one, "tableFilterPattern: {includes: [aCCount]}").await, begins);
    let ends = objects(&one, |name| name.ends_with("__c"));
    assert_eq!(tables_with(&one, "tableFilterPattern: {includes: ['.*__c$']}").await, ends);
    let others = objects(&one, |name| !lower(name).starts_with('c'));
    assert_eq!(tables_with(&one, "tableFilterPattern: {excludes: [c]}").await, others);
    let both = objects(&one, |name| lower(name).starts_with('a') && !lower(name).starts_with("account"));
    let options = "tableFilterPattern: {includes: [a], excludes: [Account]}";
    assert_eq!(tables_with(&one, options).await, both);
    let line = one.run().await.json();
    assert_eq!(line["objects"].as_u64().unwrap() + line["filtered"].as_u64().unwrap(), 60, "{line}");
}

#[tokio::test]
async fn filters_match_the_full_name_when_asked_to() {
    let one = Extraction::with(OrgConfig::default(), FaultPlan::default()).await;
    let begins = objects(&one, |name| name.starts_with("Account"));
    let options = "useFqnForFiltering: true\ntableFilterPattern: {includes: ['crm\\.default\\.salesforce\\.account']}";
    assert_eq!(tables_with(&one, options).await, begins);
    one.workflow(&soap_at_localhost(), "useFqnForFiltering: true\ntableFilterPattern: {includes: [Account]}");
    let output = one.run().await;
    assert_eq!((output.code(), &output.json()["objects"]), (0, &0.into()), "{output:?}");
    assert!(output.stderr.contains("warning: no object is read"), "{output:?}");
}

#[tokio::test]
async fn named_objects_are_read_in_the_orgs_spelling_and_unknown_ones_named() {
    let one = Extraction::new().await;
    let org = one.org.org();
    let names: Vec<_> = org.objects().take(2).map(|object| object.entry.name.clone()).collect();
    let [first, second] = names.as_slice() else { panic!("{names:?}") };
    let shouted = first.to_ascii_uppercase();
    let connection = format!("{}sobjectNames: [{shouted}, {second}, Nope__c]\n", soap_at_localhost());
    one.workflow(&connection, "");
    let output = one.run().await;
    assert_eq!(output.code(), 0, "{output:?}");
    assert_eq!(tables(&one), BTreeSet::from([first.clone(), second.clone()]));
    assert!(output.stderr.contains(&format!("sobjectNames: {shouted:?} is spelled {first}")), "{output:?}");
    assert!(output.stderr.contains("warning: sobjectNames: \"Nope__c\" is not in the org's list"), "{output:?}");
}

#[tokio::test]
async fn options_without_effect_are_named_only_when_they_differ_from_their_default() {
    let one = Extraction::new().await;
    let connection = format!(
        "{}organizationId: 00D\nconnectionOptions: {{objects: custom, companions: 'true', mine: x}}\nsupportsMetadataExtraction: true\n",
        soap_at_localhost()
    );
    one.workflow(
        &connection,
        "includeDDL: true\nincludeTags: false\nincludeViews: true\nmarkDeletedTables: false\nthreads: 1\n",
    );
    let output = one.run().await;
    complete(&output);
    let kinds: BTreeSet<_> = parse_export(&one.export()).into_iter().map(|(kind, ..)| kind).collect();
    assert!(kinds.contains("table") && !kinds.contains("tag"), "includeTags has an effect: {kinds:?}");
    let named: BTreeSet<_> =
        output.stderr.lines().filter_map(|line| line.split_once(" has no effect").map(|(path, _)| path)).collect();
    let connection = "source.serviceConnection.config";
    let expected = [
        format!("{connection}.connectionOptions.mine"),
        format!("{connection}.organizationId"),
        "source.sourceConfig.config.includeDDL".to_owned(),
    ];
    assert_eq!(named, expected.iter().map(String::as_str).collect());
}

#[tokio::test]
async fn an_extraction_writes_the_bytes_that_a_control_plane_commits() {
    let _logs = Logs::capture();
    let world = World::new().await;
    let agent = world.start_agent();
    let run = world.run().await;
    assert_eq!(run.state.as_str(), "committed", "{run:?}");
    let mut export = Export::new(world.plane.store().clone(), None);
    let mut committed = Vec::new();
    while let Some(lines) = export.next_lines().await.unwrap() {
        committed.extend(lines);
    }
    // The workflow of the control plane's file, at the same org.
    let other = Extraction::new().await;
    let (workflow, _ours) = pipeline_yaml("").split_once("---\n").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    other.write("workflow.yaml", &workflow);
    other.write("ca.pem", world.org.ca_pem());
    other.hosts(world.org.addr().port());
    complete(&other.run().await);
    let by_fqn = |text: &str| -> BTreeMap<String, String> {
        text.lines().map(|line| (parse_export(line).remove(0).1, line.to_owned())).collect()
    };
    let (extracted, committed) = (by_fqn(&other.export()), by_fqn(std::str::from_utf8(&committed).unwrap()));
    assert_eq!(extracted.len(), entities_with(40));
    assert_eq!(extracted, committed);
    agent.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn a_workflow_that_asks_for_debug_is_logged_from_debug_on_and_no_other_is() {
    let one = Extraction::new().await;
    let text = std::fs::read_to_string(one.dir.path().join("workflow.yaml")).unwrap();
    for (level, is_verbose) in [("DEBUG", true), ("INFO", false)] {
        one.write("workflow.yaml", &format!("{text}workflowConfig:\n  loggerLevel: {level}\n"));
        one.org.faults().change(|plan| plan.unavailable_next = 1);
        let output = one.run().await;
        assert_eq!(output.code(), 0, "{output:?}");
        assert_eq!(output.stderr.contains("request failed, repeated"), is_verbose, "{level}: {output:?}");
    }
}
