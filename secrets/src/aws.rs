//! Secrets in AWS Secrets Manager.

mod credentials;
mod failure;
mod http;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader, Region};
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use aws_sdk_secretsmanager::primitives::DateTime;
use aws_sdk_secretsmanager::{Client, config};
use jiff::Timestamp;
use serde_json::value::RawValue;
use tokio::sync::OnceCell;
use zeroize::Zeroizing;

use crate::kind::Kind;
use crate::{Read, ReadError, Redactor, SecretPath, SecretStore, SecretValue};
use credentials::WatchedCredentials;

/// Reads `secret:/a/b` from the secret named `/a/b`, its current version, and `secret:/a/b#key` from the string at `key`
/// of the JSON object that it holds.
///
/// Credentials come from the chain that every AWS SDK has: environment, profile, web identity (IRSA), container (EKS Pod
/// Identity, ECS), instance metadata. They are kept until they expire; values are not kept at all.
pub struct AwsStore {
    settings: AwsSettings,
    loader: Box<dyn Fn() -> ConfigLoader + Send + Sync>,
    redactor: Redactor,
    /// Built at the first read: the chain may ask the network.
    connected: OnceCell<Connected>,
}

struct Connected {
    client: Client,
    credentials: Option<SharedCredentialsProvider>,
}

/// Where an [`AwsStore`] reads, and as whom. What is absent comes from the environment and the profile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AwsSettings {
    /// The region, such as `eu-central-1`.
    pub region: Option<String>,
    /// The address of Secrets Manager, such as a VPC endpoint; `http://` to this machine only.
    pub endpoint: Option<String>,
    /// What comes before the path of a reference in each secret's name.
    pub name_prefix: Option<String>,
    /// Whether the name is `a/b` and not `/a/b`.
    pub strip_leading_slash: bool,
    /// The role to assume with the credentials of the chain.
    pub role_arn: Option<String>,
    /// The external id that the role asks for.
    pub external_id: Option<String>,
    /// How CloudTrail names the session of the role; `hybrid-runner` when absent.
    pub session_name: Option<String>,
}

/// A setting cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct BadAwsSetting {
    /// The name of the setting.
    pub setting: &'static str,
    /// What is wrong, and what is accepted.
    pub problem: &'static str,
}

impl AwsSettings {
    /// Whether all of it can be used.
    ///
    /// # Errors
    /// The first setting that cannot.
    pub fn check(&self) -> Result<(), BadAwsSetting> {
        let bad = |setting, problem| Err(BadAwsSetting { setting, problem });
        if self.endpoint.as_deref().is_some_and(|endpoint| !http::may_be_endpoint(endpoint)) {
            return bad("endpoint", "is refused; accepted: https://host, or http:// to this machine");
        }
        if self.name_prefix.as_deref().is_some_and(|prefix| prefix.is_empty() || !prefix.bytes().all(is_of_name)) {
            return bad(
                "name_prefix",
                "begins no secret's name; accepted: letters, digits and /_+=.@-, such as /salesforce",
            );
        }
        if self.role_arn.as_deref().is_some_and(|role| !role.starts_with("arn:")) {
            return bad("role_arn", "is not the ARN of a role; accepted: arn:aws:iam::ACCOUNT:role/NAME");
        }
        if self.external_id.is_some() && self.role_arn.is_none() {
            return bad("external_id", "stands alone; give role_arn too");
        }
        Ok(())
    }
}

/// What AWS accepts in a secret's name.
fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/_+=.@-".contains(&byte)
}

/// A connection is up within this. AWS answers from the same region in milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// An answer has begun within this, so that there is time for a second try within [`crate::Stores::READ_TIMEOUT`].
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// The secret and the credentials before it: below [`crate::Stores::READ_TIMEOUT`], so that the reason is AWS's.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(9);

impl AwsStore {
    /// A store with the default chain of credentials. Nothing is asked or read before the first secret is.
    #[must_use]
    pub fn new(settings: AwsSettings) -> Self {
        Self::with_loader(settings, || aws_config::defaults(BehaviorVersion::latest()))
    }

    /// A store with the credentials and profiles of `loader`, whose HTTP client, timeouts and retries are replaced.
    #[must_use]
    pub fn with_loader(settings: AwsSettings, loader: impl Fn() -> ConfigLoader + Send + Sync + 'static) -> Self {
        Self { settings, loader: Box::new(loader), redactor: Redactor::default(), connected: OnceCell::new() }
    }

    async fn connected(&self) -> Result<&Connected, ReadError> {
        self.connected.get_or_try_init(|| self.connect()).await
    }

    async fn connect(&self) -> Result<Connected, ReadError> {
        let http =
            tokio::task::spawn_blocking(http::client).await.map_err(|error| ReadError::Unreachable(error.into()))??;
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(ANSWER_TIMEOUT)
            .operation_timeout(OPERATION_TIMEOUT)
            .build();
        // [`crate::Stores`] tries again; two that do would multiply.
        let once = RetryConfig::disabled();
        let mut loader = (self.loader)().http_client(http).timeout_config(timeouts).retry_config(once);
        if let Some(region) = &self.settings.region {
            loader = loader.region(Region::new(region.clone()));
        }
        let mut shared = loader.load().await;
        if shared.region().is_none() {
            let none = "no AWS region is known; give `region` of the store, or AWS_REGION";
            return Err(ReadError::Unreachable(none.into()));
        }
        if let Some(chain) = shared.credentials_provider() {
            let watched = WatchedCredentials::shared(chain, &self.redactor);
            shared = shared.into_builder().credentials_provider(watched).build();
        }
        let mut credentials = shared.credentials_provider();
        let mut service = config::Builder::from(&shared);
        if let Some(role) = &self.settings.role_arn {
            let name = self.settings.session_name.as_deref().unwrap_or("hybrid-runner");
            let mut provider = AssumeRoleProvider::builder(role).session_name(name).configure(&shared);
            if let Some(id) = &self.settings.external_id {
                provider = provider.external_id(id);
            }
            let role = SharedCredentialsProvider::new(provider.build().await);
            let role = WatchedCredentials::shared(role, &self.redactor);
            service = service.credentials_provider(role.clone());
            credentials = Some(role);
        }
        // Of this service alone: STS has an address of its own.
        if let Some(endpoint) = &self.settings.endpoint {
            service = service.endpoint_url(endpoint);
        }
        Ok(Connected { client: Client::from_conf(service.build()), credentials })
    }

    fn name(&self, path: &SecretPath) -> String {
        let name =
            format!("{}/{}", self.settings.name_prefix.as_deref().unwrap_or_default(), path.segments().join("/"));
        match name.strip_prefix('/') {
            Some(stripped) if self.settings.strip_leading_slash => stripped.to_owned(),
            _ => name,
        }
    }
}

pub(crate) const KIND: Kind = Kind {
    name: "aws",
    form: "aws",
    open: |argument| match argument {
        None => Ok(Box::new(AwsStore::new(AwsSettings::default()))),
        Some(_) => Err("takes nothing behind it; \
                        write aws, and the region and the rest into AWS's own variables or profile"
            .to_owned()),
    },
};

#[async_trait]
impl SecretStore for AwsStore {
    fn kind(&self) -> &'static str {
        "aws"
    }

    async fn read(&self, path: &SecretPath) -> Result<Read, ReadError> {
        let Connected { client, .. } = self.connected().await?;
        let name = self.name(path);
        let found = client.get_secret_value().secret_id(&name).send().await;
        let found = found.map_err(|error| failure::reason(&error, &name, self.settings.role_arn.as_deref()))?;
        let Some(text) = found.secret_string.map(Zeroizing::new) else {
            drop(found.secret_binary.map(|binary| Zeroizing::new(binary.into_inner())));
            return Err(ReadError::Unusable("holds SecretBinary, which is no text; store a SecretString"));
        };
        let value = match path.key() {
            None => SecretValue::new(text.as_str().to_owned()),
            Some(key) => member(&text, key)?,
        };
        Ok(Read { value, version: version(found.version_id, found.created_date) })
    }

    /// Whether there are credentials. Secrets Manager has no question that needs no permission, and not every network lets
    /// STS through: what they permit, reading a secret shows.
    async fn look(&self) -> Result<String, ReadError> {
        let Connected { credentials, .. } = self.connected().await?;
        let none = || ReadError::Denied("AWS credentials, and no source of them is configured".to_owned());
        let found = credentials.as_ref().ok_or_else(none)?.provide_credentials().await;
        found.map_err(|error| failure::of_credentials(&error, self.settings.role_arn.as_deref()))?;
        Ok("there are credentials; what they permit shows when a secret is read".to_owned())
    }

    fn watch_with(&mut self, redactor: &Redactor) {
        self.redactor = redactor.clone();
    }
}

fn version(id: Option<String>, created: Option<DateTime>) -> Option<String> {
    let id = id?;
    let created = created.and_then(|time| Timestamp::from_second(time.secs()).ok());
    Some(created.map_or_else(|| format!("version {id}"), |created| format!("version {id}, created {created}")))
}

/// The string at a key of a JSON object. Only that one is copied out of the text.
fn member(text: &str, key: &str) -> Result<SecretValue, ReadError> {
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(text)
        .ok()
        .ok_or(ReadError::Unusable("is not a JSON object and has no keys; leave `#` and what follows it out"))?;
    let value = members.get(key).ok_or(ReadError::KeyMissing)?;
    serde_json::from_str(value.get())
        .map(SecretValue::new)
        .ok()
        .ok_or(ReadError::Unusable("holds something other than a string at that key; store it as a JSON string"))
}

impl fmt::Debug for AwsStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the loader: it may hold credentials.
        f.debug_struct("AwsStore").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{AwsSettings, AwsStore, member};
    use crate::{ReadError, SecretRef};

    fn name(prefix: Option<&str>, strip_leading_slash: bool) -> String {
        let settings =
            AwsSettings { name_prefix: prefix.map(str::to_owned), strip_leading_slash, ..AwsSettings::default() };
        AwsStore::new(settings).name("secret:/a/b#key".parse::<SecretRef>().unwrap().path())
    }

    #[test]
    fn a_name_keeps_its_leading_slash_unless_the_setting_drops_it() {
        assert_eq!(name(None, false), "/a/b");
        assert_eq!(name(None, true), "a/b");
        assert_eq!(name(Some("/prod"), false), "/prod/a/b");
        assert_eq!(name(Some("/prod"), true), "prod/a/b");
        assert_eq!(name(Some("prod"), false), "prod/a/b");
        assert_eq!(name(Some("prod"), true), "prod/a/b");
    }

    #[test]
    fn a_setting_that_cannot_work_is_refused_by_name() {
        let settings = |set: fn(&mut AwsSettings)| {
            let mut settings = AwsSettings::default();
            set(&mut settings);
            settings.check().err().map(|error| error.setting)
        };
        assert_eq!(settings(|_| ()), None);
        assert_eq!(settings(|s| s.endpoint = Some("https://vpce-1.example".to_owned())), None);
        assert_eq!(settings(|s| s.endpoint = Some("http://127.0.0.1:5000".to_owned())), None);
        assert_eq!(settings(|s| s.endpoint = Some("http://vpce-1.example".to_owned())), Some("endpoint"));
        assert_eq!(settings(|s| s.endpoint = Some("vpce-1.example".to_owned())), Some("endpoint"));
        assert_eq!(settings(|s| s.name_prefix = Some("/prod".to_owned())), None);
        assert_eq!(settings(|s| s.name_prefix = Some(String::new())), Some("name_prefix"));
        assert_eq!(settings(|s| s.name_prefix = Some("a b".to_owned())), Some("name_prefix"));
        assert_eq!(settings(|s| s.role_arn = Some("reader".to_owned())), Some("role_arn"));
        assert_eq!(settings(|s| s.external_id = Some("1".to_owned())), Some("external_id"));
    }

    #[test]
    fn a_member_is_the_string_at_its_key_with_its_escapes_resolved() {
        assert_eq!(member(r#"{"a":"1","b":"q\"\u00e4"}"#, "b").ok().unwrap().expose(), "q\"ä");
        assert!(matches!(member(r#"{"a":"1"}"#, "b"), Err(ReadError::KeyMissing)));
        for other in ["1", "null", "true", "[\"x\"]", "{\"b\":\"x\"}"] {
            let text = format!("{{\"b\":{other}}}");
            assert!(matches!(member(&text, "b"), Err(ReadError::Unusable(problem)) if problem.contains("string")));
        }
        for text in ["plain", "\"b\"", "[\"b\"]", "{\"b\":\"x\"", "{\"b\":\"x\"}}", ""] {
            assert!(matches!(member(text, "b"), Err(ReadError::Unusable(problem)) if problem.contains("JSON object")));
        }
    }
}
