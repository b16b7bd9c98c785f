//! Versions of Salesforce's API.

use std::fmt;

use hybrid_runner_connector::DefinitionError;
use hybrid_runner_openmetadata::strict::{Object, kind};
use serde_json::Value;

use super::refused;

/// A version of Salesforce's API, such as 64.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion(u16);

impl ApiVersion {
    /// The last version with SOAP `login()`, which is retired altogether with Summer '27 (help.salesforce.com,
    /// 005132110, 30 April 2026).
    pub const LAST_SOAP: Self = Self(64);

    /// The oldest version that Salesforce still answers (21 to 30 are gone since Summer '25).
    pub const OLDEST: Self = Self(31);

    /// The first version with `/composite`, through which describes are read.
    pub const FIRST_COMPOSITE: Self = Self(38);

    /// The version of that number, `64` for 64.0.
    #[must_use]
    pub const fn new(major: u16) -> Self {
        Self(major)
    }

    /// The version as people write it: `64.0`, `v64.0` or `64`.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let number = text.trim();
        let number = number.strip_prefix(['v', 'V']).unwrap_or(number);
        let major = match number.split_once('.') {
            Some((major, "0")) => major,
            Some(_) => return None,
            None => number,
        };
        let plain = (1..=3).contains(&major.len()) && major.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| major.parse().ok().map(Self))?
    }

    /// The version that SOAP `login()` is called with, for a REST version.
    pub(super) fn login_of(rest: Option<Self>) -> Self {
        rest.map_or(Self::LAST_SOAP, |version| version.min(Self::LAST_SOAP))
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.0", self.0)
    }
}

/// `salesforceApiVersion`, a string or a number; empty or absent for the newest.
pub(super) fn read(connection: &mut Object) -> Result<Option<ApiVersion>, DefinitionError> {
    const KEY: &str = "salesforceApiVersion";
    let Some(value) = connection.value(KEY) else { return Ok(None) };
    let version = match &value {
        Value::String(text) if text.is_empty() => return Ok(None),
        Value::String(text) => ApiVersion::from_text(text),
        Value::Number(number) => ApiVersion::from_text(&number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    version.filter(|version| *version >= ApiVersion::FIRST_COMPOSITE).map(Some).ok_or_else(|| {
        let found = kind(&value);
        refused(connection.error(
            KEY,
            format!("found {found} that is not accepted; accepted: a version from 38.0 on, such as 64.0, v64.0 or 64"),
        ))
    })
}
