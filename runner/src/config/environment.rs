//! The one place that reads the environment.

use std::collections::BTreeMap;

/// The environment of the process, read once.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

/// What begins the name of a variable that sets a key.
const PREFIX: &str = "HYBRID_RUNNER_";
/// The default prefix of secrets in the environment (CONTRACTS §3): these set no key.
const SECRETS: &str = "HYBRID_RUNNER_SECRET_";

impl Environment {
    /// The variables of this process whose names and values are UTF-8.
    #[must_use]
    pub fn of_process() -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    /// The value of a variable.
    #[must_use]
    pub fn var(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The variables that set keys of the configuration, with the path of the key each of them sets.
    pub(super) fn overrides(&self) -> impl Iterator<Item = (&str, Vec<String>, &str)> {
        self.0.iter().filter_map(|(name, value)| {
            let key = name.strip_prefix(PREFIX)?;
            let sets_key = !name.starts_with(SECRETS) && !is_service_link(key) && !value.is_empty();
            sets_key
                .then(|| (name.as_str(), key.to_lowercase().split("__").map(str::to_owned).collect(), value.as_str()))
        })
    }
}

/// Kubernetes sets `X_SERVICE_HOST`, `X_PORT`, `X_PORT_80_TCP` and their like in every pod for every Service, also for
/// one named `hybrid-runner` or `hybrid-runner-control-plane`. None of our keys at the top level looks like that.
fn is_service_link(key: &str) -> bool {
    let linked = |word: &str| key.split('_').any(|part| part == word);
    !key.contains("__") && (linked("SERVICE") || linked("PORT"))
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Self(variables.into_iter().collect())
    }
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
