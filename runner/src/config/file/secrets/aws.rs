//! `secrets.stores.NAME.aws`

use std::path::Path;

#[cfg(feature = "aws")]
use hybrid_runner_secrets::{AwsSettings, AwsStore};
use schemars::JsonSchema;
use serde::Deserialize;

use super::super::super::ConfigError;
#[cfg(feature = "aws")]
use super::super::super::schema;
use super::Opened;

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AwsFile {
    /// The region; that of the environment, the profile or the instance when absent.
    region: Option<String>,
    /// The address of Secrets Manager, such as a VPC endpoint: https, or http to this machine.
    endpoint: Option<String>,
    /// What comes before the path of a reference in each secret's name, such as `/salesforce`.
    name_prefix: Option<String>,
    /// Whether `secret:/a/b` is the secret named `a/b` and not `/a/b`.
    strip_leading_slash: bool,
    /// The role to assume.
    role_arn: Option<String>,
    /// The external id that the role asks for.
    external_id: Option<String>,
    /// The name of the role's session in CloudTrail; `hybrid-runner` when absent.
    session_name: Option<String>,
}

impl AwsFile {
    #[cfg(feature = "aws")]
    pub(super) fn open(self, path: &str, _directory: &Path) -> Opened {
        let settings = AwsSettings {
            region: self.region,
            endpoint: self.endpoint,
            name_prefix: self.name_prefix,
            strip_leading_slash: self.strip_leading_slash,
            role_arn: self.role_arn,
            external_id: self.external_id,
            session_name: self.session_name,
        };
        settings.check().map_err(|bad| ConfigError::field(schema::join(path, bad.setting), bad.problem))?;
        Ok(Box::new(AwsStore::new(settings)))
    }

    #[cfg(not(feature = "aws"))]
    #[expect(clippy::unused_self, reason = "as where the feature is")]
    pub(super) fn open(self, path: &str, _directory: &Path) -> Opened {
        Err(ConfigError::field(path, "was left out of this build of hybrid-runner (feature `aws`)"))
    }
}
