//! The calls, as they are sent.

use bytes::Bytes;
use serde::Serialize;

use super::pack::Asked;
use crate::config::ApiVersion;

/// One request: see [`super::Annotator::next_call`] and [`super::perform()`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ToolingCall {
    pub(super) version: ApiVersion,
    pub(super) request: Request,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    /// The record counts of all objects.
    Counts { tries: u32 },
    /// The names of users and groups, by their ids.
    Owners { users: Vec<String>, groups: Vec<String>, tries: u32 },
    /// Definitions.
    Tooling(Vec<Part>),
}

/// A sub-request of a tooling call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) of: Of,
    pub(super) objects: Vec<Asked>,
    /// How often it failed already, its larger predecessors included.
    pub(super) tries: u32,
}

/// What a sub-request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// The values that the classification of fields has.
    Vocabulary,
    /// The definitions of objects.
    Entities,
    /// The definitions of the fields of objects, with some columns.
    Fields(Columns),
}

/// The columns of FieldDefinition that not every user may read or not every org has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Columns {
    pub(super) classification: bool,
    pub(super) owner: bool,
}

impl Columns {
    pub(super) const NONE: Self = Self { classification: false, owner: false };
}

impl ToolingCall {
    /// How often what is asked failed already: the wait before it is asked again follows from it.
    pub(super) fn tries(&self) -> u32 {
        match &self.request {
            Request::Counts { tries } | Request::Owners { tries, .. } => *tries,
            Request::Tooling(parts) => parts.iter().map(|part| part.tries).max().unwrap_or(0),
        }
    }

    pub(super) fn path(&self) -> String {
        let version = self.version;
        match &self.request {
            Request::Counts { .. } => format!("/services/data/v{version}/limits/recordCount"),
            Request::Owners { .. } => format!("/services/data/v{version}/composite"),
            Request::Tooling(_) => format!("/services/data/v{version}/tooling/composite"),
        }
    }

    /// The body; `None` for a GET.
    pub(super) fn body(&self) -> serde_json::Result<Option<Bytes>> {
        let urls = match &self.request {
            Request::Counts { .. } => return Ok(None),
            Request::Owners { users, groups, .. } => {
                let query = |ids: &[String], of: &str| {
                    let ids = ids.iter().map(String::as_str);
                    format!(
                        "/services/data/v{}/query?q={}",
                        self.version,
                        encoded(&soql(&["Id", "Name"], of, "Id", ids))
                    )
                };
                vec![query(users, "User"), query(groups, "Group")]
            }
            Request::Tooling(parts) => parts.iter().map(|part| part.url(self.version)).collect(),
        };
        let asked = match &self.request {
            // Without ids there is no query.
            Request::Owners { users, groups, .. } => vec![!users.is_empty(), !groups.is_empty()],
            Request::Counts { .. } | Request::Tooling(_) => vec![true; urls.len()],
        };
        let parts = urls.into_iter().enumerate().zip(asked).filter(|(_, asked)| *asked);
        let composite_request =
            parts.map(|((index, url), _)| Subrequest { method: "GET", url, reference_id: reference(index) }).collect();
        serde_json::to_vec(&Composite { all_or_none: false, composite_request }).map(Bytes::from).map(Some)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Composite {
    all_or_none: bool,
    composite_request: Vec<Subrequest>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Subrequest {
    method: &'static str,
    url: String,
    reference_id: String,
}

/// The name of a sub-request: letters and digits only.
pub(super) fn reference(index: usize) -> String {
    format!("t{index}")
}

impl Part {
    fn url(&self, version: ApiVersion) -> String {
        let names = self.objects.iter().map(|object| &*object.name);
        let soql = match self.of {
            Of::Vocabulary => return format!("/services/data/v{version}/tooling/sobjects/FieldDefinition/describe"),
            Of::Entities => soql(&["QualifiedApiName", "Description"], "EntityDefinition", "QualifiedApiName", names),
            Of::Fields(Columns { classification, owner }) => {
                let mut columns = vec!["QualifiedApiName", "EntityDefinition.QualifiedApiName", "Description"];
                if classification {
                    columns.extend(["SecurityClassification", "ComplianceGroup", "BusinessStatus"]);
                }
                if owner {
                    columns.push("BusinessOwnerId");
                }
                soql(&columns, "FieldDefinition", "EntityDefinition.QualifiedApiName", names)
            }
        };
        format!("/services/data/v{version}/tooling/query?q={}", encoded(&soql))
    }
}

/// A query by a list of values. They are API names or ids, of which no character means anything in SOQL.
fn soql<'a>(columns: &[&str], from: &str, by: &str, values: impl Iterator<Item = &'a str>) -> String {
    let values: Vec<_> = values.map(|value| format!("'{value}'")).collect();
    format!("SELECT {} FROM {from} WHERE {by} IN ({})", columns.join(","), values.join(","))
}

/// As recorded clients encode a query: a blank as `+`, quotes and brackets in hexadecimal.
fn encoded(soql: &str) -> String {
    url::form_urlencoded::byte_serialize(soql.as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(request: Request) -> Vec<(String, String)> {
        let call = ToolingCall { version: ApiVersion::new(67), request };
        let body: serde_json::Value = serde_json::from_slice(&call.body().unwrap().unwrap()).unwrap();
        let text = |part: &serde_json::Value, key: &str| part[key].as_str().unwrap().to_owned();
        let parts = body["compositeRequest"].as_array().unwrap();
        parts.iter().map(|part| (text(part, "referenceId"), text(part, "url"))).collect()
    }

    fn part(of: Of, names: &[&str]) -> Part {
        let object = |(index, name): (usize, &&str)| Asked { index, name: (*name).into(), rows: 3 };
        Part { of, objects: names.iter().enumerate().map(object).collect(), tries: 0 }
    }

    #[test]
    fn a_query_names_its_objects_as_recorded_clients_do() {
        let columns = Columns { classification: true, owner: true };
        let asked = urls(Request::Tooling(vec![
            part(Of::Vocabulary, &[]),
            part(Of::Entities, &["Account", "a__B__c"]),
            part(Of::Fields(Columns::NONE), &["Account"]),
            part(Of::Fields(columns), &["Account"]),
        ]));
        let fields = "SELECT+QualifiedApiName%2CEntityDefinition.QualifiedApiName%2CDescription";
        let of_account = "FROM+FieldDefinition+WHERE+EntityDefinition.QualifiedApiName+IN+%28%27Account%27%29";
        let expected = [
            "/services/data/v67.0/tooling/sobjects/FieldDefinition/describe".to_owned(),
            "/services/data/v67.0/tooling/query?q=SELECT+QualifiedApiName%2CDescription+FROM+EntityDefinition+WHERE+\
             QualifiedApiName+IN+%28%27Account%27%2C%27a__B__c%27%29"
                .to_owned(),
            format!("/services/data/v67.0/tooling/query?q={fields}+{of_account}"),
            format!(
                "/services/data/v67.0/tooling/query?q={fields}%2CSecurityClassification%2CComplianceGroup%2C\
                 BusinessStatus%2CBusinessOwnerId+{of_account}"
            ),
        ];
        for (index, (asked, expected)) in asked.into_iter().zip(expected).enumerate() {
            assert_eq!(asked, (format!("t{index}"), expected));
        }
    }

    #[test]
    fn owners_are_asked_for_by_kind_and_a_kind_without_ids_is_not() {
        let owners = |users: &[&str], groups: &[&str]| {
            let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
            urls(Request::Owners { users: ids(users), groups: ids(groups), tries: 0 })
        };
        let group = "/services/data/v67.0/query?q=SELECT+Id%2CName+FROM+Group+WHERE+Id+IN+%28%2700G1%27%29";
        assert_eq!(owners(&[], &["00G1"]), [("t1".to_owned(), group.to_owned())]);
        let both = owners(&["0051", "0052"], &["00G1"]);
        let user = "/services/data/v67.0/query?q=SELECT+Id%2CName+FROM+User+WHERE+Id+IN+%28%270051%27%2C%270052%27%29";
        assert_eq!(both, [("t0".to_owned(), user.to_owned()), ("t1".to_owned(), group.to_owned())]);
    }
}
