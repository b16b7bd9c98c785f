//! Limits, record counts, and the few data queries that a metadata client sends.

use serde_json::{Map, Value, json};

use super::soql::{self, Literal, Operator, Query, Select};
use super::{Answer, Server, error};
use crate::generate::people;
use crate::{generate, login};

/// `/limits`: the ones that a client looks at.
pub(super) fn limits(server: &Server<'_>) -> Answer {
    let (max, plan) = (server.world.daily_limit, server.plan);
    let used = server.world.log.requests().api_calls + plan.calls_used;
    let left = |max: u64, used: u64| json!({ "Max": max, "Remaining": max.saturating_sub(used) });
    Answer::json(&json!({
        "ConcurrentSyncReportRuns": left(20, 0),
        "DailyApiRequests": left(max, used),
        "DailyAsyncApexExecutions": left(250_000, 0),
        "DailyBulkApiBatches": left(15_000, 0),
        "DailyBulkV2QueryJobs": left(10_000, 0),
        "DataStorageMB": left(5, 2),
        "FileStorageMB": left(20, 0),
        "HourlyODataCallout": left(20_000, 0),
        "PermissionSets": { "Max": 1500, "Remaining": 1491, "CreateCustom": { "Max": 1000, "Remaining": 992 } },
        "SingleEmail": left(15, 0),
    }))
}

/// `/limits/recordCount`: cached, approximate, without companions; unknown names are left out without a word.
pub(super) fn record_count(server: &Server<'_>, asked: Option<&str>) -> Answer {
    if server.plan.no_view_setup {
        return error(
            403,
            "INSUFFICIENT_ACCESS",
            "The user does not have the View Setup and Configuration permission.",
        );
    }
    let asked: Option<Vec<String>> =
        asked.map(|names| names.split(',').map(|name| name.trim().to_lowercase()).collect());
    let wanted = |name: &str| asked.as_ref().is_none_or(|asked| asked.contains(&name.to_lowercase()));
    let counts: Vec<Value> = server
        .org
        .objects()
        .map(|object| &object.entry)
        .filter(|entry| entry.queryable && !entry.kind().is_companion() && wanted(&entry.name))
        .map(|entry| json!({ "count": rows_of(&entry.name), "name": entry.name }))
        .collect();
    Answer::json(&json!({ "sObjects": counts }))
}

fn rows_of(name: &str) -> u64 {
    generate::rng(0, &format!("{name} rows")).u64(..50_000)
}

/// `/query`: the Organization row, and `count()` of any object.
pub(super) fn query(server: &Server<'_>, text: &str) -> Answer {
    let query = match soql::parse(text) {
        Ok(query) => query,
        Err(problem) => return problem.answer(),
    };
    for (from, people) in [("User", &people::USERS[..]), ("Group", &people::GROUPS[..])] {
        if query.from.eq_ignore_ascii_case(from) && !query.filters.is_empty() {
            return owners(from, people, &query);
        }
    }
    let Some(object) = server.org.object(&query.from).filter(|object| object.entry.queryable) else {
        if query.from.eq_ignore_ascii_case("Organization") {
            return organization(server, &query.select);
        }
        return unsupported(&query.from);
    };
    if query.select == [Select::Count] {
        return Answer::json(&json!({ "totalSize": rows_of(&object.entry.name), "done": true, "records": [] }));
    }
    if query.from.eq_ignore_ascii_case("Organization") {
        return organization(server, &query.select);
    }
    let asked = query.select.iter().filter_map(|item| if let Select::Column(name) = item { Some(name) } else { None });
    for column in asked {
        if !column.contains('.') && !object.fields.iter().any(|field| field.name.eq_ignore_ascii_case(column)) {
            let message = format!("No such column '{column}' on sobject of type {}", object.entry.name);
            return error(400, "INVALID_FIELD", &message);
        }
    }
    // This org holds metadata, no rows.
    Answer::json(&json!({ "totalSize": 0, "done": true, "records": [] }))
}

/// What a query for a type that the org or the user does not have is answered.
pub(super) fn unsupported(name: &str) -> Answer {
    let message = format!(
        "sObject type '{name}' is not supported. If you are attempting to use a custom object, be sure to append the '__c' \
         after the entity name. Please reference your WSDL or the describe call for the appropriate names."
    );
    error(400, "INVALID_TYPE", &message)
}

/// Users or groups by their ids, of which 15 characters are enough.
fn owners(from: &str, people: &[(&str, &str)], query: &Query) -> Answer {
    let [filter] = query.filters.as_slice() else {
        return error(400, "MALFORMED_QUERY", "this sandbox finds people by one condition only");
    };
    let by_id = filter.column.eq_ignore_ascii_case("Id") && matches!(filter.operator, Operator::Equal | Operator::In);
    if !by_id {
        return error(400, "MALFORMED_QUERY", "this sandbox finds people by their ids only");
    }
    let asked = |id: &str| {
        let is = |literal: &Literal| matches!(literal, Literal::Text(text) if text.len() >= 15 && id.starts_with(text.get(..15).unwrap_or(text)));
        filter.values.iter().any(is)
    };
    let mut records = Vec::new();
    for (id, name) in people.iter().filter(|(id, _)| asked(id)) {
        let mut record = Map::new();
        record.insert("attributes".into(), json!({ "type": from }));
        for item in &query.select {
            let Select::Column(column) = item else { continue };
            match column.to_lowercase().as_str() {
                "id" => record.insert("Id".into(), json!(id)),
                "name" => record.insert("Name".into(), json!(name)),
                _ => {
                    return error(
                        400,
                        "INVALID_FIELD",
                        &format!("No such column '{column}' on sobject of type {from}"),
                    );
                }
            };
        }
        records.push(record);
    }
    Answer::json(&json!({ "totalSize": records.len(), "done": true, "records": records }))
}

fn organization(server: &Server<'_>, select: &[Select]) -> Answer {
    let row = [
        ("Id", json!(login::ORGANIZATION)),
        ("Name", json!("Example Org")),
        ("IsSandbox", json!(false)),
        ("InstanceName", json!("EX1")),
        ("OrganizationType", json!("Developer Edition")),
        ("NamespacePrefix", Value::Null),
        ("TrialExpirationDate", Value::Null),
        ("LanguageLocaleKey", json!("en_US")),
        ("DefaultLocaleSidKey", json!("en_US")),
        ("TimeZoneSidKey", json!("America/Los_Angeles")),
    ];
    let url = format!("/services/data/v{}/sobjects/Organization/{}", server.version, login::ORGANIZATION);
    let mut record = Map::new();
    record.insert("attributes".into(), json!({ "type": "Organization", "url": url }));
    for item in select {
        let Select::Column(column) = item else { continue };
        let Some((name, value)) = row.iter().find(|(name, _)| name.eq_ignore_ascii_case(column)) else {
            return error(400, "INVALID_FIELD", &format!("No such column '{column}' on sobject of type Organization"));
        };
        record.insert((*name).into(), value.clone());
    }
    Answer::json(&json!({ "totalSize": 1, "done": true, "records": [record] }))
}
