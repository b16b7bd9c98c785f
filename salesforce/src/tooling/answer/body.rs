//! The body of a part, read in one pass.
//!
//! It comes before the name that says which question it answers, so it is read as the answer to any of them: rows have
//! the columns of all queries, and a describe is one key more.

use std::borrow::Cow;

use crate::annotations::Vocabulary;
use crate::composite;
use crate::http::ErrorCode;
use crate::json::{Member, Order, Reader, Stuck, set};

/// A body: its text, and what it says when it is an object.
pub(super) struct Body<'a> {
    text: &'a str,
    pub(super) said: Option<Said<'a>>,
}

/// What a body says.
pub(super) struct Said<'a> {
    /// Of a query: whether there are no more rows.
    pub(super) done: Option<bool>,
    /// Of a query.
    pub(super) rows: Option<Rows<'a>>,
    /// Of the describe of `FieldDefinition`.
    pub(super) vocabulary: Option<Vocabulary>,
}

/// How many rows there are, and those of them that say something.
pub(super) struct Rows<'a> {
    pub(super) count: usize,
    pub(super) said: Vec<Row<'a>>,
}

/// A row of any query: what is not of its query, absent or blank is `None`.
#[derive(Default)]
pub(super) struct Row<'a> {
    pub(super) id: Option<Cow<'a, str>>,
    pub(super) name: Option<Cow<'a, str>>,
    pub(super) qualified_api_name: Option<Cow<'a, str>>,
    /// The object's name, of a field.
    pub(super) object: Option<Cow<'a, str>>,
    pub(super) description: Option<Cow<'a, str>>,
    pub(super) security_classification: Option<Cow<'a, str>>,
    pub(super) compliance_group: Option<Cow<'a, str>>,
    pub(super) business_status: Option<Cow<'a, str>>,
    pub(super) business_owner_id: Option<Cow<'a, str>>,
}

impl<'a> Body<'a> {
    /// One that can be read as JSON, but not as an answer.
    pub(super) fn unreadable(text: &'a str) -> Self {
        Self { text, said: None }
    }
}

impl<'a> composite::Body<'a> for Body<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Option<Self>, Stuck> {
        if reader.peek()? == b'n' {
            return reader.skip().map(|()| None);
        }
        let (said, text) = reader.with_text(|reader| {
            let mut said = Said { done: None, rows: None, vocabulary: None };
            let is_object = reader.object(&mut said, &mut Order::new(Said::member))?;
            Ok(is_object.then_some(said))
        })?;
        Ok(Some(Self { text, said }))
    }
}

impl composite::MayBeError for Body<'_> {
    fn code(&self) -> Option<ErrorCode> {
        ErrorCode::of_body(self.text.as_bytes())
    }
}

impl<'a> Said<'a> {
    fn member(key: &str) -> Member<'a, Self> {
        match key {
            "done" => |said, reader| set(&mut said.done, reader.value()),
            "records" => |said, reader| set(&mut said.rows, rows(reader)),
            "fields" => |said, reader| set(&mut said.vocabulary, vocabulary(reader)),
            _ => |_, reader| reader.skip(),
        }
    }
}

/// A row that is being read, and the keys that are expected of the objects in it.
struct Reading<'a> {
    row: Row<'a>,
    definition: Order<'a, Row<'a>>,
    attributes: Order<'a, Row<'a>>,
}

impl<'a> Reading<'a> {
    fn member(key: &str) -> Member<'a, Self> {
        match key {
            "Id" => |Self { row, .. }, reader| set(&mut row.id, said(reader)),
            "Name" => |Self { row, .. }, reader| set(&mut row.name, said(reader)),
            "QualifiedApiName" => |Self { row, .. }, reader| set(&mut row.qualified_api_name, reader.text()),
            "Description" => |Self { row, .. }, reader| set(&mut row.description, said(reader)),
            "SecurityClassification" => |Self { row, .. }, reader| set(&mut row.security_classification, said(reader)),
            "ComplianceGroup" => |Self { row, .. }, reader| set(&mut row.compliance_group, said(reader)),
            "BusinessStatus" => |Self { row, .. }, reader| set(&mut row.business_status, said(reader)),
            "BusinessOwnerId" => |Self { row, .. }, reader| set(&mut row.business_owner_id, said(reader)),
            "EntityDefinition" => |reading, reader| reader.object(&mut reading.row, &mut reading.definition).map(drop),
            // Of no use, but of every row, and quicker to pass when its keys are expected.
            "attributes" => |reading, reader| reader.object(&mut reading.row, &mut reading.attributes).map(drop),
            _ => |_, reader| reader.skip(),
        }
    }

    fn definition(key: &str) -> Member<'a, Row<'a>> {
        match key {
            "QualifiedApiName" => |row, reader| set(&mut row.object, reader.text()),
            _ => |_, reader| reader.skip(),
        }
    }
}

fn rows<'a>(reader: &mut Reader<'a>) -> Result<Option<Rows<'a>>, Stuck> {
    let mut order = Order::new(Reading::member);
    let mut rows = Rows { count: 0, said: Vec::new() };
    let mut reading = Reading {
        row: Row::default(),
        definition: Order::new(Reading::definition),
        attributes: Order::new(|_| |_, reader| reader.skip()),
    };
    let is_list = reader.list(|reader| {
        reading.row = Row::default();
        reader.object(&mut reading, &mut order)?;
        rows.count += 1;
        if reading.row.says_something() {
            rows.said.push(std::mem::take(&mut reading.row));
        }
        Ok(())
    })?;
    Ok(is_list.then_some(rows))
}

impl Row<'_> {
    fn says_something(&self) -> bool {
        let Self { description, security_classification, compliance_group, business_status, business_owner_id, .. } =
            self;
        let all = [description, security_classification, compliance_group, business_status, business_owner_id];
        all.into_iter().any(Option::is_some) || (self.id.is_some() && self.name.is_some())
    }
}

/// A text that is not blank.
fn said<'a>(reader: &mut Reader<'a>) -> Result<Option<Cow<'a, str>>, Stuck> {
    Ok(reader.text()?.filter(|text| !text.trim().is_empty()))
}

#[derive(Default)]
struct PicklistField<'a> {
    name: Option<Cow<'a, str>>,
    values: Option<Vec<String>>,
}

impl<'a> PicklistField<'a> {
    fn member(key: &str) -> Member<'a, Self> {
        match key {
            "name" => |field, reader| set(&mut field.name, reader.text()),
            "picklistValues" => |field, reader| set(&mut field.values, active_values(reader)),
            _ => |_, reader| reader.skip(),
        }
    }
}

#[derive(Default)]
struct PicklistValue<'a> {
    active: bool,
    value: Option<Cow<'a, str>>,
}

impl<'a> PicklistValue<'a> {
    fn member(key: &str) -> Member<'a, Self> {
        match key {
            "active" => |value, reader| set(&mut value.active, reader.is_true()),
            "value" => |value, reader| set(&mut value.value, said(reader)),
            _ => |_, reader| reader.skip(),
        }
    }
}

fn vocabulary(reader: &mut Reader<'_>) -> Result<Option<Vocabulary>, Stuck> {
    let mut order = Order::new(PicklistField::member);
    let mut vocabulary = Vocabulary::default();
    let is_list = reader.list(|reader| {
        let mut field = PicklistField::default();
        reader.object(&mut field, &mut order)?;
        if let PicklistField { name: Some(name), values: Some(values) } = field {
            match &*name {
                "SecurityClassification" => vocabulary.sensitivity = values,
                "ComplianceGroup" => vocabulary.compliance = values,
                "BusinessStatus" => vocabulary.status = values,
                _ => {}
            }
        }
        Ok(())
    })?;
    Ok(is_list.then_some(vocabulary))
}

fn active_values(reader: &mut Reader<'_>) -> Result<Option<Vec<String>>, Stuck> {
    let mut order = Order::new(PicklistValue::member);
    let mut values = Vec::new();
    let is_list = reader.list(|reader| {
        let mut value = PicklistValue::default();
        reader.object(&mut value, &mut order)?;
        values.extend(value.value.filter(|_| value.active).map(Cow::into_owned));
        Ok(())
    })?;
    Ok(is_list.then_some(values))
}
