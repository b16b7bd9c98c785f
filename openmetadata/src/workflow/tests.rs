use serde_json::{Value, json};

use super::{MetadataOptions, PipelineFile, Schedule, Workflow};

/// As the documentation of the peer writes it, every part given.
const FULL: &str = "
source:
  type: Salesforce
  serviceName: sf_prod
  serviceConnection:
    config:
      type: Salesforce
      username: a@example.com
      password: secret:/salesforce/prod/password
      sslConfig: {caCertificate: secret:/salesforce/ca}
      connectionOptions: {objects: business}
  sourceConfig:
    config:
      type: DatabaseMetadata
      markDeletedTables: true
      markDeletedTablesFromFilterOnly: false
      includeTables: yes
      threads: 4
      overrideMetadata: true
      tableFilterPattern:
        includes: [Account, '.*__c$']
        excludes: []
      databaseFilterPattern: {includes: [], excludes: []}
      incremental: {enabled: false, lookbackDays: 7, safetyMarginDays: 1}
sink:
  type: metadata-rest
  config: {bulk_sink_batch_size: 100}
workflowConfig:
  loggerLevel: DEBUG
  raiseOnError: true
  successThreshold: 90
  openMetadataServerConfig:
    hostPort: https://om.example.com/api
    authProvider: openmetadata
    securityConfig: {jwtToken: secret:/om/token}
    verifySSL: validate
    sslConfig: {caCertificate: /etc/ca.pem}
    storeServiceConnection: true
    extraHeaders: {X-Team: crm}
ingestionPipelineFQN: sf_prod.metadata
pipelineRunId: 7f7d9a2c-0000-4000-8000-000000000000
enableStreamableLogs: false
ingestionRunnerName: eu-1
";

fn minimal() -> Value {
    json!({
        "source": {
            "type": "salesforce",
            "serviceName": "sf",
            "serviceConnection": {"config": {"type": "Salesforce"}},
            "sourceConfig": {"config": {"type": "DatabaseMetadata"}},
        },
    })
}

/// The minimal workflow with one value set at a path.
fn with(path: &str, value: Value) -> Value {
    let mut workflow = minimal();
    let mut at = &mut workflow;
    for key in path.split('.') {
        at = &mut at[key];
    }
    *at = value;
    workflow
}

#[track_caller]
fn refused(path: &str, value: Value, text: &str) {
    assert_eq!(Workflow::from_value(with(path, value)).unwrap_err().to_string(), text);
}

#[test]
fn a_full_workflow_is_read() {
    let workflow = Workflow::from_yaml(FULL).unwrap();
    assert_eq!(workflow.source.kind, "salesforce");
    assert_eq!(workflow.source.service_name, "sf_prod");
    assert_eq!(workflow.source.connection["password"], "secret:/salesforce/prod/password");
    assert_eq!(workflow.ingestion_pipeline_fqn.as_deref(), Some("sf_prod.metadata"));
    assert_eq!(workflow.logger_level.as_deref(), Some("DEBUG"));
    assert_eq!(workflow.sink.unwrap()["type"], "metadata-rest");
    let options = workflow.source.options;
    assert_eq!((options.threads, options.override_metadata, options.include_tables), (4, true, true));
    assert_eq!(options.table_filter.includes.as_ref().unwrap().len(), 2);
    assert_eq!(options.changed, ["overrideMetadata", "tableFilterPattern", "threads"]);
}

#[test]
fn json_is_yaml() {
    assert!(Workflow::from_yaml(&minimal().to_string()).is_ok());
}

#[test]
fn absent_options_have_the_defaults_of_the_schema() {
    for value in [json!({}), json!({"config": {}}), json!({"config": null}), json!({"config": {"threads": null}})] {
        let workflow = Workflow::from_value(with("source.sourceConfig", value)).unwrap();
        assert_eq!(workflow.source.options, MetadataOptions::default());
    }
}

#[test]
fn every_option_is_known_and_named_when_it_differs_from_its_default() {
    let filter = json!({"excludes": ["a"]});
    let options = [
        ("markDeletedTables", json!(true), json!(false)),
        ("markDeletedTablesFromFilterOnly", json!(false), json!(true)),
        ("markDeletedStoredProcedures", json!(true), json!(false)),
        ("markDeletedSchemas", json!(false), json!(true)),
        ("markDeletedDatabases", json!(false), json!(true)),
        ("includeTables", json!(true), json!(false)),
        ("includeViews", json!(true), json!(false)),
        ("includeTags", json!(true), json!(false)),
        ("includeOwners", json!(false), json!(true)),
        ("includeStoredProcedures", json!(true), json!(false)),
        ("includeDDL", json!(false), json!(true)),
        ("includeCustomProperties", json!(false), json!(true)),
        ("overrideMetadata", json!(false), json!(true)),
        ("useFqnForFiltering", json!(false), json!(true)),
        ("extractJsonSchema", json!(false), json!(true)),
        ("threads", json!(1), json!(2)),
        ("queryLogDuration", json!(1), json!(0)),
        ("queryParsingTimeoutLimit", json!(300), json!(301)),
        ("jsonSchemaSampleSize", json!(10), json!(1000)),
        ("databaseFilterPattern", json!({}), filter.clone()),
        ("schemaFilterPattern", json!({"includes": []}), filter.clone()),
        ("tableFilterPattern", json!({"includes": null}), filter.clone()),
        ("storedProcedureFilterPattern", json!(null), filter.clone()),
        ("incremental", json!({"enabled": false, "lookbackDays": 30}), json!({"enabled": true})),
        ("ownerConfig", json!({"enableInheritance": true}), json!({"table": {"Account": ["a", "b"], "Case": "c"}})),
        ("defaultFilters", json!({"tableFilterPattern": {}}), json!({"tableFilterPattern": filter})),
    ];
    for (key, default, other) in options {
        for (value, changed) in [(default, vec![]), (other, vec![key.to_owned()])] {
            let workflow = with(&format!("source.sourceConfig.config.{key}"), value);
            assert_eq!(Workflow::from_value(workflow).unwrap().source.options.changed, changed, "{key}");
        }
    }
}

#[test]
fn an_unknown_key_is_refused_with_its_path_and_the_near_one() {
    for (path, near) in [
        ("sources", "did you mean `source`?"),
        ("source.servicename", "did you mean `serviceName`?"),
        ("source.serviceConnection.confg", "did you mean `config`?"),
        ("source.sourceConfig.configs", "did you mean `config`?"),
        ("source.sourceConfig.config.markDeletedTable", "did you mean `markDeletedTables`?"),
        ("source.sourceConfig.config.includeTable", "did you mean `includeTables`?"),
        ("source.sourceConfig.config.tableFilterPattern.include", "did you mean `includes`?"),
        ("workflowConfig.logerLevel", "did you mean `loggerLevel`?"),
        ("workflowConfig.openMetadataServerConfig.hostport", "did you mean `hostPort`?"),
        ("bulksink", "did you mean `bulkSink`?"),
    ] {
        refused(path, json!(1), &format!("{path}: is not a known key; {near}"));
    }
    refused(
        "source.serviceConnection.x",
        json!(1),
        "source.serviceConnection.x: is not a known key; known here: config",
    );
}

#[test]
fn a_value_of_the_wrong_kind_is_refused_without_its_content() {
    for (path, value, text) in [
        ("source", json!("hunter2"), "found a string; accepted: a mapping of keys to values"),
        ("source.type", json!(7), "found a number; accepted: a string, in quotes"),
        ("source.serviceConnection.config", json!("hunter2"), "found a string; accepted: a mapping of keys to values"),
        ("source.sourceConfig.config.type", json!("Profiler"), "found a string; accepted: DatabaseMetadata"),
        ("source.sourceConfig.config.threads", json!(0), "found a number; accepted: a whole number from 1"),
        ("source.sourceConfig.config.threads", json!(1.5), "found a number; accepted: a whole number from 1"),
        ("source.sourceConfig.config.includeTags", json!("hunter2"), "found a string; accepted: true or false"),
        (
            "source.sourceConfig.config.jsonSchemaSampleSize",
            json!(1001),
            "found a number; accepted: a whole number from 1 to 1000",
        ),
        ("workflowConfig.successThreshold", json!(101), "found a number; accepted: a whole number from 0 to 100"),
        ("workflowConfig.loggerLevel", json!("TRACE"), "found a string; accepted: DEBUG, INFO, WARN, ERROR"),
        (
            "workflowConfig.openMetadataServerConfig.limitRecords",
            json!("1"),
            "found a string; accepted: a whole number from 0",
        ),
        ("sink", json!([]), "found a list; accepted: a mapping of keys to values"),
        ("ingestionPipelineFQN", json!({}), "found a mapping; accepted: a string"),
        ("source.serviceName", json!(""), "is empty; accepted: 1 to 256 characters"),
        ("source.serviceName", json!("a::b"), "contains `::`, which is reserved"),
        ("source.serviceName", json!("a\"b"), "contains a `\"`, which no fully qualified name can"),
    ] {
        let mut workflow = minimal();
        workflow["workflowConfig"] = json!({"openMetadataServerConfig": {"hostPort": "https://om.example.com/api"}});
        let mut at = &mut workflow;
        for key in path.split('.') {
            at = &mut at[key];
        }
        *at = value;
        assert_eq!(Workflow::from_value(workflow).unwrap_err().to_string(), format!("{path}: {text}"));
    }
    let owners = Workflow::from_value(with("source.sourceConfig.config.ownerConfig", json!({"table": {"a": [1]}})));
    assert!(
        owners.unwrap_err().to_string().starts_with("source.sourceConfig.config.ownerConfig.table: found a mapping")
    );
}

#[test]
fn a_missing_part_is_named() {
    for path in ["source", "source.type", "source.serviceName", "source.serviceConnection", "source.sourceConfig"] {
        refused(path, Value::Null, &format!("{path}: is missing"));
    }
    refused("source.serviceConnection", json!({}), "source.serviceConnection.config: is missing");
    refused("sink", json!({}), "sink.type: is missing");
    let server = json!({"openMetadataServerConfig": {}});
    refused("workflowConfig", server, "workflowConfig.openMetadataServerConfig.hostPort: is missing");
}

#[test]
fn what_does_not_parse_is_refused_with_its_place() {
    for (text, error) in [
        ("source:\n  type: a\n type: b\n", "line 3, column "),
        ("source: {type: a\n", "line 1, column 9: "),
        ("source: 1\nsource: 2\n", "line 2, column 1: the key `source` stands here a second time"),
        ("", "line 1, column 1: the file is empty; a workflow is expected"),
        ("# nothing\n", "line 1, column 1: the file is empty; a workflow is expected"),
        ("a: 1\n---\nb: 1\n", "document: found 2 documents; accepted: one workflow"),
        ("hunter2", "document: found a string; accepted: a mapping of keys to values"),
    ] {
        let refusal = Workflow::from_yaml(text).unwrap_err().to_string();
        assert!(refusal.starts_with(error), "{refusal}");
    }
}

#[test]
fn a_pipeline_file_is_a_workflow_and_its_settings() {
    let alone = PipelineFile::from_yaml(FULL).unwrap();
    assert_eq!((alone.name, alone.schedule, alone.enabled), (None, None, true));

    let settings = "name: nightly\nschedule: {cron: '0 3 * * *', timezone: Europe/Berlin}\nenabled: false\n";
    let both = PipelineFile::from_yaml(&format!("{FULL}---\n{settings}")).unwrap();
    assert_eq!((both.name.as_deref(), both.enabled), (Some("nightly"), false));
    let schedule = Schedule { cron: "0 3 * * *".to_owned(), timezone: "Europe/Berlin".to_owned() };
    assert_eq!(both.schedule, Some(schedule));

    let utc = PipelineFile::from_yaml(&format!("{FULL}---\nschedule: {{cron: '@hourly'}}\n")).unwrap();
    assert_eq!(utc.schedule.unwrap().timezone, "UTC");
}

#[test]
fn the_json_of_a_pipeline_file_is_the_same_workflow() {
    let file = PipelineFile::from_yaml(FULL).unwrap();
    let again = Workflow::from_value(serde_json::from_str(&file.workflow_json).unwrap()).unwrap();
    assert_eq!(again.source.connection, file.workflow.source.connection);
    assert_eq!(again.source.options, file.workflow.source.options);
    assert_eq!(again.sink, file.workflow.sink);
}

#[test]
fn the_settings_of_a_pipeline_file_are_strict() {
    for (settings, error) in [
        ("nam: x", "nam: is not a known key; did you mean `name`?"),
        ("name: 7", "name: found a number; accepted: a string, in quotes"),
        ("name: ''", "name: is empty; accepted: 1 to 256 characters"),
        ("schedule: '@daily'", "schedule: found a string; accepted: a mapping of keys to values"),
        ("schedule: {}", "schedule.cron: is missing"),
        ("schedule: {crom: x}", "schedule.crom: is not a known key; did you mean `cron`?"),
        ("schedule: {cron: x, timezone: 1}", "schedule.timezone: found a number; accepted: a string, in quotes"),
        ("enabled: 1", "enabled: found a number; accepted: true or false"),
        ("[]", "document: found a list; accepted: a mapping of keys to values"),
        (
            "a: 1\n---\nb: 1",
            "document: found 3 documents; accepted: a workflow and, behind `---`, its name and schedule",
        ),
    ] {
        let refusal = PipelineFile::from_yaml(&format!("{FULL}---\n{settings}\n")).unwrap_err();
        assert_eq!(refusal.to_string(), error);
    }
    assert!(PipelineFile::from_yaml("").is_err());
}

#[test]
fn credentials_are_not_printed() {
    let text = FULL.replace("secret:/salesforce/prod/password", "hunter2").replace("secret:/om/token", "hunter2");
    let file = PipelineFile::from_yaml(&text).unwrap();
    assert!(!format!("{file:?}").contains("hunter2"));
}
