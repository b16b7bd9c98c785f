//! A moto server, as the SDK sees it.

#[path = "server.rs"]
mod server;

use aws_config::{BehaviorVersion, ConfigLoader, Region};
use aws_sdk_secretsmanager::config::Credentials;
use aws_sdk_secretsmanager::{Client, config};
use hybrid_runner_secrets::{AwsSettings, AwsStore};

pub(crate) use server::Moto;

impl Moto {
    pub(crate) fn settings(&self) -> AwsSettings {
        AwsSettings {
            region: Some("eu-central-1".to_owned()),
            endpoint: Some(self.endpoint.clone()),
            ..AwsSettings::default()
        }
    }

    pub(crate) fn store(&self, settings: AwsSettings) -> AwsStore {
        AwsStore::with_loader(settings, || loader("any", "any"))
    }

    /// Another client than the one under test, to write with.
    pub(crate) fn writer(&self) -> Client {
        Client::from_conf(
            config::Builder::new()
                .behavior_version(BehaviorVersion::latest())
                .region(Region::new("eu-central-1"))
                .endpoint_url(&self.endpoint)
                .credentials_provider(credentials("any", "any"))
                .http_client(aws_smithy_http_client::Builder::new().build_http())
                .build(),
        )
    }
}

pub(crate) fn loader(id: &str, key: &str) -> ConfigLoader {
    aws_config::defaults(BehaviorVersion::latest()).credentials_provider(credentials(id, key))
}

fn credentials(id: &str, key: &str) -> Credentials {
    Credentials::new(id, key, None, None, "test")
}
