//! `connectionOptions`: OpenMetadata stores them as strings and the peer connector ignores them, so options of ours
//! stand there.

use std::ops::RangeInclusive;

use hybrid_runner_connector::DefinitionError;
use hybrid_runner_openmetadata::strict::Object;
use hybrid_runner_openmetadata::suggest::nearest;

use super::auth::Method;
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

/// Which kinds of objects are read when none are named (`objects`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// Everything that the org lists.
    All,
    /// What people work with: objects with page layouts that hold records, and their companions.
    Business,
    /// What the org or a package made, and their companions.
    Custom,
}

impl Preset {
    const NAMES: [(&str, Self); 3] = [("all", Self::All), ("business", Self::Business), ("custom", Self::Custom)];
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

/// Reads `connectionOptions`. Keys that are not ours are the user's own and named as without effect, with the one of ours
/// that they may be a slip of.
pub(super) fn read(connection: &mut Object, without_effect: &mut Vec<String>) -> Result<Options, DefinitionError> {
    let given = connection.string_map("connectionOptions").map_err(refused)?.unwrap_or_default();
    let mut options = Options::default();
    for (key, value) in given {
        let path = format!("connectionOptions.{key}");
        match options.set(&key, &value) {
            Ok(true) => {}
            Ok(false) => {
                let meant = nearest(&key, &OPTIONS.map(|(key, _)| key));
                let meant = meant.map_or_else(String::new, |meant| format!(" (did you mean `{meant}`?)"));
                without_effect.push(connection.path_of(&path) + &meant);
            }
            Err(detail) => return Err(refused(connection.error(&path, detail))),
        }
    }
    Ok(options)
}

/// Sets an option to what a text says.
type Set = fn(&mut Options, &str) -> Result<(), String>;

const OPTIONS: [(&str, Set); 9] = [
    (Method::KEY, |own, text| authentication(text).map(|method| own.authentication = Some(method))),
    ("objects", |own, text| one_of(text, &Preset::NAMES).map(|preset| own.objects = preset)),
    ("companions", |own, text| flag(text).map(|is_set| own.companions = is_set)),
    ("loginApiVersion", |own, text| login_version(text).map(|version| own.login_version = Some(version))),
    ("fieldOwners", |own, text| flag(text).map(|is_set| own.field_owners = is_set)),
    ("recordCounts", |own, text| flag(text).map(|is_set| own.record_counts = is_set)),
    ("fullRefreshDays", |own, text| number(text, 1..=365).map(|days| own.full_refresh_days = days)),
    ("apiBudgetCalls", |own, text| number(text, 1..=10_000_000).map(|calls| own.budget_calls = Some(calls.into()))),
    ("apiReservePercent", |own, text| number(text, 0..=100).map(|percent| own.reserve_percent = percent)),
];

impl Options {
    /// The keys of `connectionOptions` that are ours.
    pub fn keys() -> impl Iterator<Item = &'static str> {
        OPTIONS.iter().map(|(key, _)| *key)
    }

    /// Sets one option; false when it is none of ours.
    fn set(&mut self, key: &str, text: &str) -> Result<bool, String> {
        match OPTIONS.iter().find(|(known, _)| *known == key) {
            Some((_, set)) => set(self, text).map(|()| true),
            None => Ok(false),
        }
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::{refusal, with};
    use super::super::{Auth, Config};
    use super::*;

    fn given(options: &Value) -> Config {
        with(json!({"connectionOptions": options})).unwrap()
    }

    #[test]
    fn each_option_has_its_default_and_takes_what_it_accepts() {
        let defaults = Options::default();
        assert_eq!(given(&json!({})).options, defaults);
        assert_eq!(with(json!({})).unwrap().options, defaults);
        let accepted = [
            ("objects", "all", defaults.clone()),
            ("objects", "business", Options { objects: Preset::Business, ..defaults.clone() }),
            ("objects", "custom", Options { objects: Preset::Custom, ..defaults.clone() }),
            ("companions", "true", defaults.clone()),
            ("companions", "false", Options { companions: false, ..defaults.clone() }),
            ("authentication", "soap", Options { authentication: Some(Method::Soap), ..defaults.clone() }),
            ("loginApiVersion", "31.0", Options { login_version: Some(ApiVersion::new(31)), ..defaults.clone() }),
            ("loginApiVersion", "v64", Options { login_version: Some(ApiVersion::new(64)), ..defaults.clone() }),
            ("fieldOwners", "false", defaults.clone()),
            ("fieldOwners", "true", Options { field_owners: true, ..defaults.clone() }),
            ("recordCounts", "false", defaults.clone()),
            ("recordCounts", "true", Options { record_counts: true, ..defaults.clone() }),
            ("fullRefreshDays", "1", Options { full_refresh_days: 1, ..defaults.clone() }),
            ("fullRefreshDays", "365", Options { full_refresh_days: 365, ..defaults.clone() }),
            ("apiBudgetCalls", "1", Options { budget_calls: Some(1), ..defaults.clone() }),
            ("apiBudgetCalls", "10000000", Options { budget_calls: Some(10_000_000), ..defaults.clone() }),
            ("apiReservePercent", "0", Options { reserve_percent: 0, ..defaults.clone() }),
            ("apiReservePercent", "100", Options { reserve_percent: 100, ..defaults.clone() }),
        ];
        for (key, value, expected) in accepted {
            let config = given(&json!({key: value}));
            assert_eq!(config.options, expected, "{key}: {value}");
            assert_eq!(config.without_effect, Vec::<String>::new(), "{key}: {value}");
        }
    }

    #[test]
    fn what_an_option_does_not_accept_is_refused_with_its_name_and_what_is_accepted() {
        for (key, values, accepted) in [
            ("objects", &["some", "All", ""][..], "accepted: all, business, custom"),
            ("companions", &["no", "True", "0", ""], "accepted: true, false"),
            ("authentication", &["oauth", ""], "accepted: soap, password, jwt, clientCredentials, session"),
            ("loginApiVersion", &["30.0", "65.0", "latest", ""], "accepted: 31.0 to 64.0"),
            ("fieldOwners", &["yes"], "accepted: true, false"),
            ("recordCounts", &["1"], "accepted: true, false"),
            ("fullRefreshDays", &["0", "366", "7d", "-1", ""], "accepted: a whole number from 1 to 365"),
            ("apiBudgetCalls", &["0", "10000001", "1.5", "99999999999"], "accepted: a whole number from 1 to 10000000"),
            ("apiReservePercent", &["101", "20%", " 20"], "accepted: a whole number from 0 to 100"),
        ] {
            for value in values {
                let (_, field, detail) = refusal(json!({"connectionOptions": {key: value}}));
                assert_eq!(field, format!("connectionOptions.{key}"));
                assert!(detail.contains(accepted), "{key} {value:?}: {detail}");
            }
        }
    }

    #[test]
    fn an_option_is_text_because_openmetadata_stores_nothing_else() {
        for (key, value, found) in
            [("apiBudgetCalls", json!(100), "a number"), ("companions", json!(false), "true or false")]
        {
            let (_, field, detail) = refusal(json!({"connectionOptions": {key: value}}));
            assert_eq!(field, format!("connectionOptions.{key}"));
            assert!(detail.contains(found) && detail.contains("a string"), "{detail}");
        }
    }

    #[test]
    fn an_option_of_somebody_else_is_kept_out_and_named() {
        let config = given(&json!({"companion": "false", "Objects": "custom", "poolSize": "5"}));
        assert_eq!(config.options, Options::default());
        let named = ["Objects (did you mean `objects`?)", "companion (did you mean `companions`?)", "poolSize"];
        let named = named.map(|key| format!("source.serviceConnection.config.connectionOptions.{key}"));
        assert_eq!(config.without_effect, named);
    }

    #[test]
    fn the_login_version_is_for_soap_alone() {
        let options = json!({"loginApiVersion": "60.0"});
        let Auth::Soap { version, .. } = given(&options).auth else { panic!("no SOAP login") };
        assert_eq!(version, ApiVersion::new(60));
        let app = json!({
            "consumerKey": "key", "consumerSecret": "secret:/sf/secret", "salesforceDomain": "acme.my",
            "connectionOptions": {"authentication": "clientCredentials", "loginApiVersion": "60.0"},
        });
        let unused = with(app).unwrap().without_effect;
        let path = "source.serviceConnection.config.connectionOptions.loginApiVersion".to_owned();
        assert!(unused.contains(&path), "{unused:?}");
    }
}
