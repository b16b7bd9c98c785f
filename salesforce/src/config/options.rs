//! `connectionOptions`: OpenMetadata stores them as strings and the peer connector ignores them, so options of ours
//! stand there.

use std::ops::RangeInclusive;

use hybrid_runner_connector::DefinitionError;
use hybrid_runner_openmetadata::strict::Object;

use super::auth::Method;
use super::{ApiVersion, refused};

/// The options of ours that have an effect.
#[derive(Debug, Default)]
pub(super) struct Ours {
    /// `loginApiVersion`.
    pub(super) login_version: Option<ApiVersion>,
    /// `authentication`.
    pub(super) authentication: Option<Method>,
}

/// What an option accepts.
enum Accepted {
    Words(&'static [&'static str]),
    Number(RangeInclusive<u32>),
}

/// The options that are checked and have no effect yet, with their defaults.
const LATER: [(&str, Accepted, Option<&str>); 7] = [
    ("objects", Accepted::Words(&["all", "business", "custom"]), Some("all")),
    ("companions", Accepted::Words(&["true", "false"]), Some("true")),
    ("fieldOwners", Accepted::Words(&["true", "false"]), Some("false")),
    ("recordCounts", Accepted::Words(&["true", "false"]), Some("false")),
    ("fullRefreshDays", Accepted::Number(1..=365), Some("7")),
    ("apiBudgetCalls", Accepted::Number(1..=10_000_000), None),
    ("apiReservePercent", Accepted::Number(0..=100), Some("20")),
];

/// Reads `connectionOptions`. Keys that are not ours are the user's own and named as without effect.
pub(super) fn read(connection: &mut Object, without_effect: &mut Vec<String>) -> Result<Ours, DefinitionError> {
    let given = connection.string_map("connectionOptions").map_err(refused)?.unwrap_or_default();
    let mut ours = Ours::default();
    for (key, value) in given {
        let path = format!("connectionOptions.{key}");
        if key == "loginApiVersion" {
            let version = ApiVersion::from_text(&value)
                .filter(|version| (ApiVersion::OLDEST..=ApiVersion::LAST_SOAP).contains(version));
            let detail = "is not a version that SOAP login has; accepted: 31.0 to 64.0";
            ours.login_version = Some(version.ok_or_else(|| refused(connection.error(&path, detail)))?);
            continue;
        }
        if key == Method::KEY {
            let detail = format!("found another string; accepted: {}", Method::ACCEPTED);
            let method = Method::from_text(&value).ok_or_else(|| refused(connection.error(&path, detail)))?;
            ours.authentication = Some(method);
            continue;
        }
        let default = match LATER.iter().find(|(name, ..)| *name == key) {
            Some((_, accepted, default)) => {
                accepted.check(&value).map_err(|detail| refused(connection.error(&path, detail)))?;
                *default
            }
            None => None,
        };
        if default != Some(value.as_str()) {
            without_effect.push(connection.path_of(&path));
        }
    }
    Ok(ours)
}

impl Accepted {
    fn check(&self, value: &str) -> Result<(), String> {
        match self {
            Self::Words(words) if words.contains(&value) => Ok(()),
            Self::Words(words) => Err(format!("found another string; accepted: {}", words.join(", "))),
            Self::Number(range) => match value.parse::<u32>() {
                Ok(number) if range.contains(&number) => Ok(()),
                _ => Err(format!(
                    "found another string; accepted: a whole number from {} to {}, in quotes",
                    range.start(),
                    range.end()
                )),
            },
        }
    }
}
