//! What the org offers: API versions and objects.

use std::sync::Arc;

use hybrid_runner_connector::{Reason, SourceError};
use serde::Deserialize;
use tracing::debug;

use crate::auth::{Access, Session};
use crate::config::ApiVersion;
use crate::http::{Answer, Call, CallError, Class, Retry};
use crate::listing::Listing;
use crate::quota::Usage;

/// The newest API version that the org offers.
pub(super) async fn newest_version(access: &mut Access<'_>) -> Result<ApiVersion, SourceError> {
    let answer = get(access, "/services/data").await.map_err(Refused::into_source_error)?;
    match newest(&answer.body) {
        Some(version) if version >= ApiVersion::FIRST_COMPOSITE => Ok(version),
        Some(version) => Err(SourceError::new(
            Reason::SourceProtocol,
            format!(
                "the org's newest API version is {version}; {} and later are supported",
                ApiVersion::FIRST_COMPOSITE
            ),
        )),
        None => Err(SourceError::new(
            Reason::SourceProtocol,
            "the list of the org's API versions cannot be read; set salesforceApiVersion, or check that no proxy answers \
             in Salesforce's place",
        )),
    }
}

/// What is wrong with a version that is set and that the org does not offer.
pub(super) fn too_new(version: ApiVersion, newest: ApiVersion) -> String {
    format!(
        "salesforceApiVersion is {version}, and the org offers {newest} and older: set one of them, or leave it out to use \
         the newest"
    )
}

fn newest(answer: &[u8]) -> Option<ApiVersion> {
    #[derive(Deserialize)]
    struct Offered {
        version: String,
    }
    let offered: Vec<Offered> = serde_json::from_slice(answer).ok()?;
    offered.iter().filter_map(|offered| ApiVersion::from_text(&offered.version)).max()
}

/// The objects that the org lists, at least one, and the day that it is there, in days since 1970.
pub(super) async fn list(access: &mut Access<'_>, version: ApiVersion) -> Result<(Listing, Option<u32>), SourceError> {
    let path = format!("/services/data/v{version}/sobjects");
    let answer = get(access, &path).await.map_err(|refused| match refused {
        Refused::Call(error @ CallError::Status { status: 404 | 410, .. }) => {
            let detail = format!(
                "the org does not offer API version {version}: set salesforceApiVersion to one that it offers, or leave \
                 it out"
            );
            SourceError::caused(Reason::BadDefinition, detail, error)
        }
        refused => refused.into_source_error(),
    })?;
    let listing = Listing::parse(&answer.body).map_err(|error| {
        let detail = format!("the list of the org's objects cannot be read: {error}");
        SourceError::caused(Reason::SourceProtocol, detail, error)
    })?;
    if listing.objects.is_empty() {
        return Err(SourceError::new(
            Reason::SourceDenied,
            "the org lists no objects: check that the user's profile or permission sets permit reading objects, and that \
             salesforceDomain is the right org",
        ));
    }
    Ok((listing, answer.date.as_deref().and_then(day)))
}

/// The day of a `Date` header.
fn day(date: &str) -> Option<u32> {
    let seconds = jiff::fmt::rfc2822::parse(date).ok()?.timestamp().as_second();
    u32::try_from(seconds / 86_400).ok()
}

/// Reads what the org has used of its daily limit. Without the permission to read it, the answers' headers say so later.
pub(super) async fn limits(session: &Session, version: ApiVersion) -> Option<Usage> {
    let path = format!("/services/data/v{version}/limits");
    match session.call(Call::get(&path), &Retry::READ).await {
        Ok(answer) => Usage::of_limits(&answer.body),
        Err(error) => {
            debug!(%error, "the org's limits cannot be read");
            None
        }
    }
}

/// Why there is no answer.
pub(super) enum Refused {
    Call(CallError),
    Login(SourceError),
}

impl Refused {
    pub(super) fn into_source_error(self) -> SourceError {
        match self {
            Self::Call(error) => error.into_source_error(),
            Self::Login(error) => error,
        }
    }
}

/// Reads a resource, with a new session if need be.
pub(super) async fn get(access: &mut Access<'_>, path: &str) -> Result<Answer, Refused> {
    loop {
        let session = Arc::clone(access.session());
        match session.call(Call::get(path), &Retry::READ).await {
            Ok(answer) => {
                access.accepted(&session);
                return Ok(answer);
            }
            Err(error) if error.class() == Class::Session => {
                access.renew(&session, error).await.map_err(Refused::Login)?;
            }
            Err(error) => return Err(Refused::Call(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_is_the_greatest_number_not_the_last_text() {
        let answer = br#"[{"label":"Spring","url":"/services/data/v9.0","version":"9.0"},{"version":"100.0"},{"version":"68.0"}]"#;
        assert_eq!(newest(answer), Some(ApiVersion::new(100)));
    }

    #[test]
    fn the_day_is_the_servers() {
        assert_eq!(day("Sun, 22 Nov 2026 23:59:59 GMT"), Some(20_779));
        assert_eq!(day("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        for none in ["", "yesterday", "Wed, 31 Dec 1969 00:00:00 GMT"] {
            assert_eq!(day(none), None, "{none}");
        }
    }

    #[test]
    fn what_is_no_list_of_versions_has_no_newest() {
        for answer in
            ["", "[]", "{}", "<html>", r#"[{"version":"x"}]"#, r#"[{"version":"64.5"}]"#, r#"[{"version":64.0}]"#]
        {
            assert_eq!(newest(answer.as_bytes()), None, "{answer}");
        }
    }
}
