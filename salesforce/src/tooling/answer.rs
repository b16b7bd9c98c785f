//! What Salesforce answers, read without a copy as far as nothing is kept.

mod body;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Deserializer};

use self::body::{Body, Row, Said};
use super::call::{Of, Part, Request, ToolingCall, reference};
use super::pack::MAX_ROWS;
use crate::annotations::{FieldAnnotations, Vocabulary};
use crate::composite;
use crate::describe::lenient::{IfObject, Scalar, each, text};
use crate::describe::parse_object;
use crate::http::ErrorCode;
use crate::json::{first_in, read_first_in};

/// What became of one question of a call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The values of the classification.
    Vocabulary(Vocabulary),
    /// Descriptions of objects, by their place in the query. `whole`: there are no more rows.
    Entities { said: Vec<(usize, String)>, whole: bool },
    /// What is said about the fields of each object of the query. `whole`: there are no more rows.
    Fields { said: Vec<FieldsOf>, whole: bool },
    /// Record counts by the objects' names in lower case.
    Counts(HashMap<String, u64>),
    /// Names by id.
    Owners(Vec<(String, String)>),
    /// An error.
    Refused { status: u16, code: Option<ErrorCode> },
    /// No answer, or not one of this kind.
    Unreadable(&'static str),
}

/// What is said about the fields of one object.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldsOf {
    /// By name in lower case. Without the owners' names.
    pub(super) fields: BTreeMap<String, FieldAnnotations>,
    /// Fields and the ids of their owners.
    pub(super) owners: Vec<(String, String)>,
}

/// The replies to the questions of a call, as far as its answer was read.
pub(super) struct Replies<'a> {
    call: &'a ToolingCall,
    /// By number.
    said: Vec<Option<Reply>>,
    /// The first part that says that no other can be read either: its status and code.
    pub(super) end: Option<(u16, Option<ErrorCode>)>,
}

impl<'a> Replies<'a> {
    pub(super) fn new(call: &'a ToolingCall) -> Self {
        let questions = match &call.request {
            Request::Tooling(asked) => asked.len(),
            Request::Owners { .. } => 2,
            Request::Counts { .. } => 0,
        };
        Self { call, said: (0..questions).map(|_| None).collect(), end: None }
    }

    /// Reads the part that a text begins with, and returns its length.
    pub(super) fn read(&mut self, text: &str) -> serde_json::Result<usize> {
        let (part, length) = match read_first_in(text, composite::Part::<Body<'_>>::read) {
            // Of another body than its reader takes, the other parts are read nevertheless.
            Err(error) if error.is_data() => {
                let (part, length) = first_in::<composite::Part<'_>>(text)?;
                (part.with_body(|body| Some(Body::unreadable(body.get()))), length)
            }
            read => read?,
        };
        if let Some(code) = part.ends_the_run() {
            self.end.get_or_insert((part.http_status_code, code));
        }
        let index = composite::numbered(&part.reference_id, reference);
        if let Some((index, said @ None)) = index.and_then(|index| Some((index, self.said.get_mut(index)?))) {
            let reply = said_by(part).and_then(|said| match &self.call.request {
                Request::Tooling(asked) => asked.get(index).map_or_else(|| Err(nothing()), |asked| reply(asked, said)),
                Request::Owners { .. } => owners(said),
                // The one question whose answer has no parts.
                Request::Counts { .. } => Err(nothing()),
            });
            *said = Some(reply.unwrap_or_else(|reply| reply));
        }
        Ok(length)
    }

    /// A reply for each question, in order.
    pub(super) fn all(self) -> Vec<Reply> {
        let is_asked = |index: usize| match &self.call.request {
            Request::Owners { users, groups, .. } => [users, groups].get(index).is_some_and(|ids| !ids.is_empty()),
            Request::Tooling(_) | Request::Counts { .. } => true,
        };
        let asked = self.said.into_iter().enumerate().filter(|(index, _)| is_asked(*index));
        asked.map(|(_, said)| said.unwrap_or_else(nothing)).collect()
    }
}

fn nothing() -> Reply {
    Reply::Unreadable("the answer has no part for it")
}

fn reply(asked: &Part, said: Said<'_>) -> Result<Reply, Reply> {
    match asked.of {
        Of::Vocabulary => match said.vocabulary {
            Some(vocabulary) => Ok(Reply::Vocabulary(vocabulary)),
            None => Err(Reply::Unreadable("the describe of FieldDefinition cannot be read")),
        },
        Of::Entities => entities(asked, said),
        Of::Fields(_) => fields(asked, said),
    }
}

/// What the body of a part says that was answered.
fn said_by<'a>(part: composite::Part<'a, Body<'a>>) -> Result<Said<'a>, Reply> {
    // A redirect or a "not modified" that was not asked for refuses nothing.
    if part.http_status_code < 400 && part.http_status_code != 200 {
        return Err(Reply::Unreadable("its part of the answer has a status that is none of an answer"));
    }
    if part.http_status_code != 200 {
        return Err(Reply::Refused { status: part.http_status_code, code: part.code() });
    }
    let body = part.body.ok_or(Reply::Unreadable("its part of the answer is empty"))?;
    body.said.ok_or(Reply::Unreadable("its part of the answer cannot be read"))
}

/// The rows of a query that say something, and whether there are no more.
fn rows(said: Said<'_>) -> Result<(Vec<Row<'_>>, bool), Reply> {
    let rows = said.rows.ok_or(Reply::Unreadable("the answer to its query has no rows"))?;
    Ok((rows.said, rows.count <= MAX_ROWS && said.done != Some(false)))
}

/// The places of a query's objects, by their names in lower case.
fn places(asked: &Part) -> HashMap<String, usize> {
    asked.objects.iter().enumerate().map(|(place, object)| (object.name.to_ascii_lowercase(), place)).collect()
}

fn entities(asked: &Part, said: Said<'_>) -> Result<Reply, Reply> {
    let (rows, whole) = rows(said)?;
    let places = places(asked);
    let said = rows.into_iter().filter_map(|row| {
        let place = places.get(&row.qualified_api_name?.to_ascii_lowercase())?;
        Some((*place, row.description?.into_owned()))
    });
    Ok(Reply::Entities { said: said.collect(), whole })
}

fn fields(asked: &Part, answer: Said<'_>) -> Result<Reply, Reply> {
    let (rows, whole) = rows(answer)?;
    let places = places(asked);
    let mut said: Vec<FieldsOf> = asked.objects.iter().map(|_| FieldsOf::default()).collect();
    for row in rows {
        let place = row.object.and_then(|object| places.get(&object.to_ascii_lowercase()));
        let Some((object, name)) = place.and_then(|place| said.get_mut(*place)).zip(row.qualified_api_name) else {
            continue;
        };
        let name = name.to_ascii_lowercase();
        if let Some(owner) = row.business_owner_id {
            object.owners.push((name.clone(), owner.into_owned()));
        }
        let groups = row.compliance_group.as_deref().unwrap_or_default().split(';').map(str::trim);
        let field = FieldAnnotations {
            description: row.description.map(Cow::into_owned),
            sensitivity: row.security_classification.map(Cow::into_owned),
            compliance: groups.filter(|group| !group.is_empty()).map(ToOwned::to_owned).collect(),
            status: row.business_status.map(Cow::into_owned),
            owner: None,
        };
        if field != FieldAnnotations::default() {
            object.fields.insert(name, field);
        }
    }
    Ok(Reply::Fields { said, whole })
}

fn owners(said: Said<'_>) -> Result<Reply, Reply> {
    let (rows, _whole) = rows(said)?;
    let named = rows.into_iter().filter_map(|row| Some((row.id?.into_owned(), row.name?.into_owned())));
    Ok(Reply::Owners(named.collect()))
}

#[derive(Deserialize)]
struct Counted {
    #[serde(rename = "sObjects", default, deserialize_with = "counted")]
    objects: Option<HashMap<String, u64>>,
}

#[derive(Deserialize)]
struct Count<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    count: Option<Scalar<'a>>,
}

fn counted<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<HashMap<String, u64>>, D::Error> {
    each(deserializer, HashMap::new(), |counts, count: IfObject<Count<'de>>| {
        if let Some(Count { name: Some(name), count: Some(Scalar::Unsigned(records)) }) = count.0 {
            counts.insert(name.to_ascii_lowercase(), records);
        }
    })
}

/// Reads the answer to a question for record counts.
pub(super) fn counts(body: &[u8]) -> Reply {
    match parse_object::<Counted>(body) {
        Ok(Counted { objects: Some(counts) }) => Reply::Counts(counts),
        Ok(_) | Err(_) => Reply::Unreadable("the record counts cannot be read"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::ApiVersion;
    use crate::tooling::call::Columns;
    use crate::tooling::pack::Asked;

    /// A call with one question about `Account` and `a__B__c`.
    fn call(of: Of) -> ToolingCall {
        let object = |(index, name): (usize, &str)| Asked { index, name: name.into(), rows: 3 };
        let objects = ["Account", "a__B__c"].into_iter().enumerate().map(object).collect();
        let request = Request::Tooling(vec![Part { of, objects, tries: 0 }]);
        ToolingCall { version: ApiVersion::new(67), request }
    }

    fn fields() -> ToolingCall {
        call(Of::Fields(Columns { classification: true, owner: true }))
    }

    fn answer(status: u16, body: &str) -> String {
        let part = format!(r#"{{"body":{body},"httpHeaders":{{}},"httpStatusCode":{status},"referenceId":"t0"}}"#);
        format!(r#"{{"compositeResponse":[{part}]}}"#)
    }

    fn read<'a>(call: &'a ToolingCall, answer: &[u8]) -> Result<Replies<'a>, composite::Unreadable> {
        composite::read_all(answer, Replies::new(call), Replies::read)
    }

    fn only(call: &ToolingCall, status: u16, body: &str) -> Reply {
        let mut replies = read(call, answer(status, body).as_bytes()).unwrap().all();
        assert_eq!(replies.len(), 1);
        replies.remove(0)
    }

    #[test]
    fn rows_as_recorded_are_read_and_what_says_nothing_is_left_out() {
        let row = |object: &str, rest: &str| {
            format!(
                r#"{{"attributes":{{"type":"FieldDefinition","url":"/x"}},"EntityDefinition":{{"attributes":{{}},
                "QualifiedApiName":"{object}"}},"Unknown":[1,{{}}],{rest}}}"#
            )
        };
        let rows = [
            row(
                "ACCOUNT",
                r#""QualifiedApiName":"Name","Description":"a \"b\"\nü","BusinessOwnerId":"005000000000001AAA""#,
            ),
            row(
                "A__b__C",
                r#""QualifiedApiName":"X__c","ComplianceGroup":"PII; GDPR;","SecurityClassification":"Internal""#,
            ),
            row("a__B__c", r#""QualifiedApiName":"Y__c","Description":null,"BusinessStatus":"Active""#),
            row("Account", r#""QualifiedApiName":"Blank","Description":" \n""#),
            row("Account", r#""QualifiedApiName":"Nothing","Description":{"a":1},"ComplianceGroup":7"#),
            row("Contact", r#""QualifiedApiName":"Name","Description":"of an object that was not asked for""#),
            r#"{"QualifiedApiName":"Homeless","EntityDefinition":null,"Description":"x"}"#.to_owned(),
            r#"{"EntityDefinition":{"QualifiedApiName":"Account"},"Description":"of a field without a name"}"#
                .to_owned(),
        ];
        let body = format!(r#"{{"size":8,"done":true,"queryLocator":null,"records":[{}]}}"#, rows.join(","));
        let Reply::Fields { said, whole } = only(&fields(), 200, &body) else { panic!("no fields") };
        let described = FieldAnnotations { description: Some("a \"b\"\nü".to_owned()), ..Default::default() };
        let classified = FieldAnnotations {
            sensitivity: Some("Internal".to_owned()),
            compliance: vec!["PII".to_owned(), "GDPR".to_owned()],
            ..Default::default()
        };
        let active = FieldAnnotations { status: Some("Active".to_owned()), ..Default::default() };
        assert!(whole);
        assert_eq!(said[0].fields, BTreeMap::from([("name".to_owned(), described)]));
        assert_eq!(said[0].owners, [("name".to_owned(), "005000000000001AAA".to_owned())]);
        assert_eq!(said[1].fields, BTreeMap::from([("x__c".to_owned(), classified), ("y__c".to_owned(), active)]));
    }

    #[test]
    fn two_thousand_rows_are_not_all() {
        let whole = |rows: usize, done: bool| {
            let rows = vec![r#"{"QualifiedApiName":"X"}"#; rows].join(",");
            match only(&call(Of::Entities), 200, &format!(r#"{{"done":{done},"records":[{rows}]}}"#)) {
                Reply::Entities { whole, .. } => whole,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!([whole(1_999, true), whole(2_000, true), whole(1, false)], [true, false, false]);
    }

    #[test]
    fn what_is_no_answer_says_so() {
        for body in ["null", "[]", "{}", r#"{"records":null}"#, r#"{"records":{}}"#, "\"<html>\"", "7"] {
            assert!(matches!(only(&fields(), 200, body), Reply::Unreadable(_)), "{body}");
        }
        let refused = only(&fields(), 400, r#"[{"message":"secret","errorCode":"INVALID_TYPE"}]"#);
        assert_eq!(refused, Reply::Refused { status: 400, code: ErrorCode::parse("INVALID_TYPE") });
        let none = read(&fields(), br#"{"compositeResponse":[]}"#).unwrap().all();
        assert!(matches!(none.as_slice(), [Reply::Unreadable(_)]));
        assert!(matches!(read(&fields(), b"<html>"), Err(composite::Unreadable::Malformed("is HTML, not JSON"))));
        let expired = answer(401, r#"[{"errorCode":"INVALID_SESSION_ID"}]"#);
        let code = ErrorCode::parse("INVALID_SESSION_ID");
        assert_eq!(read(&fields(), expired.as_bytes()).unwrap().end, Some((401, code)));
    }

    #[test]
    fn a_body_that_its_reader_refuses_costs_the_other_parts_nothing() {
        let part = |number: usize, body: &str| {
            format!(r#"{{"body":{body},"httpHeaders":{{}},"httpStatusCode":200,"referenceId":"t{number}"}}"#)
        };
        for odd in [r#"{"done":7,"records":[]}"#, r#"{"records":[{"Description":"a","Description":"b"}]}"#] {
            let mut call = call(Of::Entities);
            let Request::Tooling(asked) = &mut call.request else { panic!("other questions") };
            asked.push(Part { of: Of::Entities, objects: Vec::new(), tries: 0 });
            let parts = [part(0, odd), part(1, r#"{"done":true,"records":[]}"#)].join(",");
            let replies = read(&call, format!(r#"{{"compositeResponse":[{parts}]}}"#).as_bytes()).unwrap().all();
            assert!(matches!(&replies[..], [Reply::Unreadable(_), Reply::Entities { whole: true, .. }]), "{odd}");
        }
    }

    #[test]
    fn only_values_in_use_are_in_the_vocabulary() {
        let body = r#"{"fields":[{"name":"Other","picklistValues":[{"active":true,"value":"x"}]},{"picklistValues":[]},
            {"name":"BusinessStatus","picklistValues":[{"active":true,"value":"Active"},{"active":false,"value":"Old"},
            {"value":"Unsaid"},{"active":true,"value":null},7]},{"name":"ComplianceGroup","picklistValues":null}]}"#;
        let expected = Vocabulary { status: vec!["Active".to_owned()], ..Vocabulary::default() };
        assert_eq!(only(&call(Of::Vocabulary), 200, body), Reply::Vocabulary(expected));
    }

    #[test]
    fn counts_are_whole_numbers_by_name() {
        let body =
            br#"{"sObjects":[{"count":3,"name":"Account"},{"count":-1,"name":"A"},{"count":"7","name":"B"},{}]}"#;
        assert_eq!(counts(body), Reply::Counts(HashMap::from([("account".to_owned(), 3)])));
        assert!(matches!(counts(b"{}"), Reply::Unreadable(_)));
    }

    proptest! {
        #[test]
        fn whatever_comes_it_is_read_or_refused(body in "[\\[\\]{}:,\"0-9a-z]{0,60}", status in 0_u16..600) {
            for call in [fields(), call(Of::Entities), call(Of::Vocabulary)] {
                drop(read(&call, body.as_bytes()));
                drop(read(&call, answer(status, &body).as_bytes()));
            }
        }
    }
}
