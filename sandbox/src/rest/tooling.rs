//! EntityDefinition and FieldDefinition of the Tooling API, with their limits: 2,000 rows and no more, no `queryMore`, and
//! no FieldDefinition without a filter on its object.

mod classification;
mod entity;
mod field;
mod rows;

use std::cmp::Ordering;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::limits::unsupported;
use super::soql::{self, Filter, Literal, Operator, Query, Select};
use super::{Answer, Server, error, not_found};
use crate::generate;
use crate::model::Object;
pub(crate) use rows::{RowCache, prepare};

/// Rows in any answer about entity definitions.
const MOST_ROWS: usize = 2_000;

pub(super) fn query(server: &Server<'_>, text: &str) -> Answer {
    let query = match soql::parse(text) {
        Ok(query) => query,
        Err(problem) => return problem.answer(),
    };
    let known = ["EntityDefinition", "FieldDefinition"];
    let Some(entity) = known.into_iter().find(|known| query.from.eq_ignore_ascii_case(known)) else {
        return unsupported(&query.from);
    };
    if server.plan.no_view_setup {
        return unsupported(entity);
    }
    if query.select.contains(&Select::Count) {
        let message = "COUNT() is not supported on this entity";
        return error(400, "EXTERNAL_OBJECT_UNSUPPORTED_EXCEPTION", message);
    }
    if entity == "FieldDefinition"
        && let Some(prepared) = rows::answer(server, &query)
    {
        return prepared;
    }
    let found = if entity == "EntityDefinition" { entities(server, &query) } else { fields(server, &query) };
    match found {
        Ok(rows) => page(entity, rows, &query),
        Err(refused) => refused,
    }
}

/// The describe of FieldDefinition: which values fields can be classified with.
pub(super) fn describe(server: &Server<'_>, name: &str) -> Answer {
    if server.plan.no_view_setup || !name.eq_ignore_ascii_case("FieldDefinition") {
        return not_found();
    }
    classification::describe()
}

fn page(entity: &str, mut rows: Vec<Row>, query: &Query) -> Answer {
    if query.order_by.is_some() {
        rows.sort_by(|a, b| a.sort.cmp(&b.sort));
    }
    rows.truncate(query.limit.unwrap_or(MOST_ROWS).min(MOST_ROWS));
    let size = rows.len();
    let records: Vec<Map<String, Value>> = rows.into_iter().map(|row| row.record).collect();
    Answer::json(&json!({
        "size": size,
        "totalSize": size,
        "done": true,
        "queryLocator": null,
        "entityTypeName": entity,
        "records": records,
    }))
}

/// A row with what it is sorted by.
struct Row {
    sort: String,
    record: Map<String, Value>,
}

fn entities(server: &Server<'_>, query: &Query) -> Result<Vec<Row>, Answer> {
    let mut rows = Vec::new();
    for object in named(server, query, &["QualifiedApiName", "DurableId"]) {
        let recorded = server.org.rows.entities.get(&object.entry.name.to_lowercase()).map(AsRef::as_ref);
        let column = |name: &str| recorded.and_then(|row| known(row, name)).or_else(|| entity::column(object, name));
        if passes(&query.filters, &column).map_err(|name| no_such_column(&name, "EntityDefinition"))? {
            let url =
                format!("/services/data/v{}/tooling/sobjects/EntityDefinition/{}", server.version, durable_id(object));
            let of = |children: &str| entity::children(object, children);
            let record = record("EntityDefinition", &url, &query.select, entity::STANDARD, &column, &of)?;
            rows.push(Row { sort: sort_key(query, &column), record });
        }
    }
    Ok(rows)
}

fn fields(server: &Server<'_>, query: &Query) -> Result<Vec<Row>, Answer> {
    let reified =
        ["EntityDefinition.QualifiedApiName", "EntityDefinitionId", "EntityDefinition.DurableId", "DurableId"];
    let equals = |filter: &&Filter| matches!(filter.operator, Operator::Equal | Operator::In);
    if !query
        .filters
        .iter()
        .filter(equals)
        .any(|filter| reified.iter().any(|name| filter.column.eq_ignore_ascii_case(name)))
    {
        let message = "Only equals comparisons permitted: a filter on a reified column is required \
            [EntityDefinitionId, DurableId]";
        return Err(error(400, "EXTERNAL_OBJECT_UNSUPPORTED_EXCEPTION", message));
    }
    let mut rows = Vec::new();
    for object in named(server, query, &reified) {
        for row in field_rows(server, object) {
            let column = |name: &str| row.column(object, name);
            if passes(&query.filters, &column).map_err(|name| no_such_column(&name, "FieldDefinition"))? {
                let id = column("DurableId").and_then(|id| id.as_str().map(ToOwned::to_owned)).unwrap_or_default();
                let url = format!("/services/data/v{}/tooling/sobjects/FieldDefinition/{id}", server.version);
                let record = record("FieldDefinition", &url, &query.select, field::STANDARD, &column, &|_| None)?;
                rows.push(Row { sort: sort_key(query, &column), record });
            }
            // What lies beyond the cap is never seen, unless it has to be sorted first.
            if query.order_by.is_none() && rows.len() >= MOST_ROWS {
                return Ok(rows);
            }
        }
    }
    Ok(rows)
}

/// A field's row: recorded, or following from the describe.
enum FieldRow<'a> {
    Recorded(Map<String, Value>),
    Made(field::Made<'a>),
}

impl FieldRow<'_> {
    fn column(&self, object: &Object, name: &str) -> Option<Value> {
        match self {
            Self::Recorded(row) => known(row, name).or_else(|| field::of_object(object, name)),
            Self::Made(made) => made.column(object, name),
        }
    }
}

fn field_rows<'a>(server: &Server<'_>, object: &'a Object) -> Vec<FieldRow<'a>> {
    match server.org.rows.fields.get(&object.entry.name.to_lowercase()) {
        Some(rows) => Arc::clone(rows).iter().cloned().map(FieldRow::Recorded).collect(),
        None => field::made(object, server.plan.hidden_fields).into_iter().map(FieldRow::Made).collect(),
    }
}

/// The objects that an equality filter on one of these columns leaves, or all: it spares looking at every row.
fn named<'a>(server: &'a Server<'_>, query: &Query, columns: &[&str]) -> Vec<&'a Object> {
    let by_name = query.filters.iter().find(|filter| {
        matches!(filter.operator, Operator::Equal | Operator::In)
            && filter.column.to_lowercase().ends_with("qualifiedapiname")
            && columns.iter().any(|column| filter.column.eq_ignore_ascii_case(column))
    });
    let Some(filter) = by_name else { return server.org.objects().collect() };
    let names =
        filter.values.iter().filter_map(|value| if let Literal::Text(name) = value { Some(name) } else { None });
    names.filter_map(|name| server.org.object(name)).collect()
}

fn record(
    entity: &str,
    url: &str,
    select: &[Select],
    standard: &[&str],
    column: &impl Fn(&str) -> Option<Value>,
    children: &impl Fn(&str) -> Option<Value>,
) -> Result<Map<String, Value>, Answer> {
    let mut record = Map::new();
    record.insert("attributes".into(), json!({ "type": entity, "url": url }));
    for item in select {
        match item {
            Select::Column(name) => match name.split_once('.') {
                Some((parent, rest)) => {
                    let value = column(name).ok_or_else(|| no_such_column(name, entity))?;
                    let parent = record.entry(parent).or_insert_with(|| json!({ "attributes": { "type": parent } }));
                    if let Some(parent) = parent.as_object_mut() {
                        parent.insert(rest.into(), value);
                    }
                }
                None => {
                    let value = column(name).ok_or_else(|| no_such_column(name, entity))?;
                    record.insert(canonical(name, standard).into(), value);
                }
            },
            Select::Fields => {
                for name in standard {
                    record.insert((*name).into(), column(name).unwrap_or(Value::Null));
                }
            }
            Select::Children(name) => {
                let value = children(name).ok_or_else(|| no_such_column(name, entity))?;
                record.insert(name.clone(), value);
            }
            Select::Count => {}
        }
    }
    Ok(record)
}

/// A column's own spelling, whatever that of the query.
fn canonical<'a>(name: &'a str, standard: &[&'a str]) -> &'a str {
    standard.iter().chain(&["Description"]).find(|known| known.eq_ignore_ascii_case(name)).copied().unwrap_or(name)
}

fn no_such_column(name: &str, entity: &str) -> Answer {
    let message = format!(
        "No such column '{name}' on entity '{entity}'. If you are attempting to use a custom field, be sure to append the \
         '__c' after the custom field name. Please reference your WSDL or the describe call for the appropriate names."
    );
    error(400, "INVALID_FIELD", &message)
}

/// Whether every filter holds; the name of a column that does not exist otherwise.
fn passes(filters: &[Filter], column: &impl Fn(&str) -> Option<Value>) -> Result<bool, String> {
    for filter in filters {
        let value = column(&filter.column).ok_or_else(|| filter.column.clone())?;
        if !holds(filter, &value) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn holds(filter: &Filter, value: &Value) -> bool {
    let any = |ordering: &[Ordering]| {
        filter.values.iter().any(|literal| compare(value, literal).is_some_and(|o| ordering.contains(&o)))
    };
    match filter.operator {
        Operator::Equal | Operator::In => any(&[Ordering::Equal]),
        Operator::Unequal | Operator::NotIn => !any(&[Ordering::Equal]),
        Operator::Less => any(&[Ordering::Less]),
        Operator::LessOrEqual => any(&[Ordering::Less, Ordering::Equal]),
        Operator::Greater => any(&[Ordering::Greater]),
        Operator::GreaterOrEqual => any(&[Ordering::Greater, Ordering::Equal]),
        Operator::Like => filter.values.iter().any(|literal| like(value, literal)),
    }
}

/// Names compare without regard to case when they are equal; ids and order go by the characters.
fn compare(value: &Value, literal: &Literal) -> Option<Ordering> {
    match (value, literal) {
        (Value::Null, Literal::Null) => Some(Ordering::Equal),
        (Value::Bool(value), Literal::Bool(literal)) => Some(value.cmp(literal)),
        (Value::Number(value), Literal::Number(literal)) => value.as_f64()?.partial_cmp(&literal.parse().ok()?),
        (Value::String(value), Literal::Text(literal)) if value.eq_ignore_ascii_case(literal) => Some(Ordering::Equal),
        (Value::String(value), Literal::Text(literal)) => Some(value.as_str().cmp(literal)),
        _ => None,
    }
}

/// `LIKE` with `%` at the ends only.
fn like(value: &Value, literal: &Literal) -> bool {
    let (Value::String(value), Literal::Text(pattern)) = (value, literal) else { return false };
    let (value, pattern) = (value.to_lowercase(), pattern.to_lowercase());
    match (pattern.strip_prefix('%'), pattern.strip_suffix('%')) {
        (Some(rest), Some(_)) => value.contains(rest.trim_end_matches('%')),
        (Some(end), None) => value.ends_with(end),
        (None, Some(start)) => value.starts_with(start),
        (None, None) => value == pattern,
    }
}

fn sort_key(query: &Query, column: &impl Fn(&str) -> Option<Value>) -> String {
    let value = query.order_by.as_deref().and_then(column);
    value.and_then(|value| value.as_str().map(ToOwned::to_owned)).unwrap_or_default()
}

/// A recorded row's column, by a path of one or two names.
fn known(row: &Map<String, Value>, name: &str) -> Option<Value> {
    let at = |row: &Map<String, Value>, name: &str| {
        row.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
    };
    match name.split_once('.') {
        Some((parent, rest)) => at(row, parent)?.as_object().and_then(|parent| at(parent, rest)),
        None => at(row, name),
    }
}

/// Standard objects are known by name, others by an id of 15 characters.
pub(super) fn durable_id(object: &Object) -> String {
    if object.entry.custom && !object.entry.kind().is_companion() {
        return format!("01I5g{}", base62(&object.entry.name));
    }
    object.entry.name.clone()
}

/// Ten characters that follow from a name.
pub(super) fn base62(name: &str) -> String {
    let mut rng = generate::rng(0, &format!("{name} id"));
    (0..10).map(|_| rng.alphanumeric()).collect()
}
