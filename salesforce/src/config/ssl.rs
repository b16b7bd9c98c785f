//! `sslConfig`: who is trusted beside the system's authorities, and who the agent is.

use hybrid_runner_connector::DefinitionError;
use hybrid_runner_openmetadata::strict::Object;
use hybrid_runner_secrets::SecretRef;

use super::{credential, refused};

/// A field of `sslConfig`: the schema's name, and the one in the prose of OpenMetadata's documentation.
const CA: (&str, &str) = ("caCertificate", "ssl_ca");
const CERTIFICATE: (&str, &str) = ("sslCertificate", "ssl_cert");
const KEY: (&str, &str) = ("sslKey", "ssl_key");

/// What `sslConfig` gives, as references to PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ssl {
    /// Certificates to trust in addition to the system's.
    pub ca: Option<SecretRef>,
    /// The client certificate's chain and its private key.
    pub identity: Option<(SecretRef, SecretRef)>,
    /// The fields that are given.
    paths: Vec<String>,
}

impl Ssl {
    pub(super) fn read(connection: &mut Object) -> Result<Self, DefinitionError> {
        let Some(mut ssl) = connection.object("sslConfig").map_err(refused)? else { return Ok(Self::default()) };
        let mut paths = Vec::new();
        let ca = read_either(&mut ssl, CA, &mut paths)?;
        let certificate = read_either(&mut ssl, CERTIFICATE, &mut paths)?;
        let key = read_either(&mut ssl, KEY, &mut paths)?;
        let identity = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (given, _) => {
                let (missing, beside) = if given.is_some() { (KEY.0, CERTIFICATE.0) } else { (CERTIFICATE.0, KEY.0) };
                let detail = format!("is missing beside {beside}: a client certificate needs both");
                return Err(refused(ssl.error(missing, detail)));
            }
        };
        ssl.finish().map_err(refused)?;
        Ok(Self { ca, identity, paths })
    }

    /// Drops everything; the paths of the fields that were given.
    pub(crate) fn discard(&mut self) -> Vec<String> {
        std::mem::take(self).paths
    }
}

fn read_either(
    ssl: &mut Object,
    (name, alias): (&'static str, &'static str),
    paths: &mut Vec<String>,
) -> Result<Option<SecretRef>, DefinitionError> {
    let mut found = None;
    for key in [name, alias] {
        let Some(reference) = credential::read(ssl, key)?.reference() else { continue };
        if found.replace(reference).is_some() {
            let detail = format!("stands beside {name}, which means the same; give one of them");
            return Err(refused(ssl.error(alias, detail)));
        }
        paths.push(ssl.path_of(key));
    }
    Ok(found)
}
