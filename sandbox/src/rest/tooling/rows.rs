//! Rows of FieldDefinition that were compressed beforehand, an object at a time, for the columns that extractions ask for.
//! An org of 100,000 fields is then answered by copying, as its describes are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::super::soql::{Operator, Query, Select};
use super::super::{Answer, Server};
use super::{MOST_ROWS, field, named};
use crate::describe::json::Writer;
use crate::model::Object;
use crate::org::ApiVersion;
use crate::payload::{Fragment, Payload};

/// The columns that every such query has, and those that it may have, in this order.
const ALWAYS: [&str; 3] = ["QualifiedApiName", "EntityDefinition.QualifiedApiName", "Description"];
const OPTIONAL: [&str; 4] = ["SecurityClassification", "ComplianceGroup", "BusinessStatus", "BusinessOwnerId"];

/// Which optional columns a query has, one bit each.
type Columns = u8;

/// The columns that are prepared before the first request: with the classification, as extractions ask by default.
const PREPARED: Columns = 0b0111;

/// Rows of FieldDefinition by API version and columns. A clone has what the original had.
#[derive(Debug, Default)]
pub(crate) struct RowCache(Mutex<BTreeMap<(ApiVersion, Columns), Rows>>);

impl Clone for RowCache {
    fn clone(&self) -> Self {
        Self(Mutex::new(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()))
    }
}

impl RowCache {
    fn get(&self, version: ApiVersion, columns: Columns, make: impl FnOnce() -> Rows) -> Rows {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rows.entry((version, columns)).or_insert_with(make).clone()
    }

    pub(crate) fn clear(&mut self) {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// The rows of one object.
#[derive(Clone, Debug)]
struct Rows {
    count: usize,
    /// Joined by commas; `None` for none.
    text: Option<Arc<Fragment>>,
}

/// Builds what most clients will ask for.
pub(crate) fn prepare(object: &Object, version: ApiVersion) {
    drop(rows(object, version, PREPARED));
}

/// The answer, if the query is one of those and not too large for one answer.
pub(super) fn answer(server: &Server<'_>, query: &Query) -> Option<Answer> {
    let columns = columns(&query.select)?;
    let [filter] = query.filters.as_slice() else { return None };
    let by_object = filter.column.eq_ignore_ascii_case("EntityDefinition.QualifiedApiName")
        && matches!(filter.operator, Operator::Equal | Operator::In);
    if !by_object || query.order_by.is_some() || query.limit.is_some() || server.plan.hidden_fields > 0 {
        return None;
    }
    let objects = named(server, query, &["EntityDefinition.QualifiedApiName"]);
    if objects.iter().any(|object| server.org.rows.fields.contains_key(&object.entry.name.to_lowercase())) {
        return None;
    }
    let all: Vec<Rows> = objects.iter().map(|object| rows(object, server.version, columns)).collect();
    let size: usize = all.iter().map(|rows| rows.count).sum();
    if size > MOST_ROWS {
        return None;
    }
    let mut body = Payload::text(format!(
        "{{\"size\":{size},\"totalSize\":{size},\"done\":true,\"queryLocator\":null,\
         \"entityTypeName\":\"FieldDefinition\",\"records\":["
    ));
    for (at, text) in all.into_iter().filter_map(|rows| rows.text).enumerate() {
        if at > 0 {
            body.push(",");
        }
        body.append(Payload::packed(text));
    }
    body.push("]}");
    Some(Answer { body, ..Answer::default() })
}

fn columns(select: &[Select]) -> Option<Columns> {
    let mut asked = select.iter();
    for always in ALWAYS {
        asked.next().filter(|item| **item == Select::Column(always.into()))?;
    }
    let mut columns = 0;
    let mut optional = OPTIONAL.iter().enumerate();
    for item in asked {
        let (bit, _) = optional.find(|(_, name)| matches!(item, Select::Column(column) if column == *name))?;
        columns |= 1 << bit;
    }
    Some(columns)
}

fn rows(object: &Object, version: ApiVersion, columns: Columns) -> Rows {
    object.rows.get(version, columns, || {
        let made = field::made(object, 0);
        let mut w = Writer::with_capacity(made.len() * 512);
        made.iter().for_each(|row| write(&mut w, object, row, version, columns));
        let text = w.finish();
        let fragment = (!made.is_empty()).then(|| Arc::new(Fragment::new(text.as_bytes())));
        Rows { count: made.len(), text: fragment }
    })
}

fn write(w: &mut Writer, object: &Object, row: &field::Made<'_>, version: ApiVersion, columns: Columns) {
    let field = row.field();
    let id = field::field_id(object, field);
    let url = format!("/services/data/v{version}/tooling/sobjects/FieldDefinition/{id}");
    w.open('{');
    w.key("attributes");
    w.open('{');
    w.text("type", "FieldDefinition");
    w.text("url", &url);
    w.close('}');
    w.text("QualifiedApiName", &field.name);
    w.key("EntityDefinition");
    w.open('{');
    w.key("attributes");
    w.open('{');
    w.text("type", "EntityDefinition");
    w.close('}');
    w.text("QualifiedApiName", &object.entry.name);
    w.close('}');
    w.optional("Description", field.description.as_deref());
    let values = [&field.classification, &field.compliance, &field.business_status, &field.owner];
    for (bit, (name, value)) in OPTIONAL.iter().zip(values).enumerate() {
        if columns & (1 << bit) != 0 {
            w.optional(name, value.as_deref());
        }
    }
    w.close('}');
}
