//! `connectionOptions`: OpenMetadata stores them as strings and the peer connector ignores them, so options of ours
//! stand there.

use std::ops::RangeInclusive;

use hybrid_runner_connector::DefinitionError;
use hybrid_runner_openmetadata::strict::Object;

use super::auth::Method;
use super::scope::Preset;
use super::{ApiVersion, refused};

/// The options of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// `objects`: which kinds of objects are read when none are named; default all, as the peer connector does.
    pub objects: Preset,
    /// `companions`: whether histories, shares, feeds, change events and localizations are read when none are named;
    /// default true, as the peer connector does.
    pub companions: bool,
    /// `authentication`: the login; default the first in the peer connector's order whose fields are all given.
    pub(super) authentication: Option<Method>,
    /// `loginApiVersion`: the version that SOAP login is called with.
    pub login_version: Option<ApiVersion>,
    /// `fieldOwners`: whether a field's business owner is named in its description; default false.
    pub field_owners: bool,
    /// `recordCounts`: whether a table's description says about how many records there are; default false.
    pub record_counts: bool,
    /// `fullRefreshDays`: after so many days an object is read again without condition; default 7.
    pub full_refresh_days: u32,
    /// `apiBudgetCalls`: the most requests of a run that count towards the org's daily limit; default none.
    pub budget_calls: Option<u64>,
    /// `apiReservePercent`: the share of the org's daily limit that is left to others; default 20.
    pub reserve_percent: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            objects: Preset::All,
            companions: true,
            authentication: None,
            login_version: None,
            field_owners: false,
            record_counts: false,
            full_refresh_days: 7,
            budget_calls: None,
            reserve_percent: 20,
        }
    }
}

/// Reads `connectionOptions`. Keys that are not ours are the user's own and named as without effect.
pub(super) fn read(connection: &mut Object, without_effect: &mut Vec<String>) -> Result<Options, DefinitionError> {
    let given = connection.string_map("connectionOptions").map_err(refused)?.unwrap_or_default();
    let mut options = Options::default();
    for (key, value) in given {
        let path = format!("connectionOptions.{key}");
        match options.set(&key, &value) {
            Ok(true) => {}
            Ok(false) => without_effect.push(connection.path_of(&path)),
            Err(detail) => return Err(refused(connection.error(&path, detail))),
        }
    }
    Ok(options)
}

impl Options {
    /// Sets one option; false when it is none of ours.
    fn set(&mut self, key: &str, value: &str) -> Result<bool, String> {
        match key {
            "objects" => self.objects = one_of(value, &Preset::NAMES)?,
            Method::KEY => self.authentication = Some(authentication(value)?),
            "companions" => self.companions = flag(value)?,
            "loginApiVersion" => self.login_version = Some(login_version(value)?),
            "fieldOwners" => self.field_owners = flag(value)?,
            "recordCounts" => self.record_counts = flag(value)?,
            "fullRefreshDays" => self.full_refresh_days = number(value, 1..=365)?,
            "apiBudgetCalls" => self.budget_calls = Some(number(value, 1..=10_000_000)?.into()),
            "apiReservePercent" => self.reserve_percent = number(value, 0..=100)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn one_of<T: Copy>(value: &str, accepted: &[(&str, T)]) -> Result<T, String> {
    let found = accepted.iter().find(|(name, _)| *name == value);
    let names = || accepted.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    found.map(|(_, option)| *option).ok_or_else(|| format!("found another string; accepted: {}", names()))
}

fn flag(value: &str) -> Result<bool, String> {
    one_of(value, &[("true", true), ("false", false)])
}

fn number(value: &str, range: RangeInclusive<u32>) -> Result<u32, String> {
    let number = value.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| {
        let (least, most) = (range.start(), range.end());
        format!("found another string; accepted: a whole number from {least} to {most}, in quotes")
    })
}

fn authentication(value: &str) -> Result<Method, String> {
    Method::from_text(value).ok_or_else(|| format!("found another string; accepted: {}", Method::ACCEPTED))
}

fn login_version(value: &str) -> Result<ApiVersion, String> {
    ApiVersion::from_text(value)
        .filter(|version| (ApiVersion::OLDEST..=ApiVersion::LAST_SOAP).contains(version))
        .ok_or_else(|| "is not a version that SOAP login has; accepted: 31.0 to 64.0".to_owned())
}
