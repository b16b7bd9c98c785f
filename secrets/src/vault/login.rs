//! Logging in: what each method sends, read from its file when it is sent.

use rustify::endpoint::Endpoint;
use rustify::enums::{RequestMethod, RequestType, ResponseType};
use rustify::errors::ClientError as TransportError;
use serde::Serialize;
use vaultrs::api::AuthInfo;
use vaultrs::auth::{approle, kubernetes, oidc};

use super::VaultAuth;
use super::client::{self, Api};
use crate::remote::{read_credential, unreachable};
use crate::{ReadError, Redactor};

/// Asks for a token by a method that grants one.
pub(super) async fn log_in(auth: &VaultAuth, api: &Api, redactor: &Redactor) -> Result<AuthInfo, ReadError> {
    let anonymous = api.client("");
    let (granted, mount) = match auth {
        VaultAuth::AppRole { role_id, secret_id_file, mount } => {
            let secret_id = read_credential(secret_id_file).await?;
            let _watched = redactor.watch_text(&secret_id);
            (approle::login(&anonymous, mount, role_id, &secret_id).await, mount)
        }
        VaultAuth::Kubernetes { role, token_file, mount } => {
            let token = read_credential(token_file).await?;
            let _watched = redactor.watch_text(&token);
            (kubernetes::login(&anonymous, mount, role, &token).await, mount)
        }
        VaultAuth::Jwt { role, token_file, mount } => {
            let token = read_credential(token_file).await?;
            let _watched = redactor.watch_text(&token);
            (oidc::login(&anonymous, mount, &token, Some(role.clone())).await, mount)
        }
        VaultAuth::Certificate { role, mount } => {
            let login = CertificateLogin { mount: mount.clone(), name: role.clone() };
            (vaultrs::api::auth(&anonymous, login).await, mount)
        }
        VaultAuth::TokenVariable | VaultAuth::TokenFile(_) => {
            return Err(unreachable("no token is configured"));
        }
    };
    match granted {
        Ok(granted) => Ok(granted),
        Err(error) => Err(match client::status(&error) {
            // None of them says what of it is wrong; the server's own log does.
            Some(400 | 401 | 403 | 404) => {
                ReadError::Denied(format!("a login at auth/{mount}/login, which was refused"))
            }
            _ => client::read_error(&anonymous, error).await,
        }),
    }
}

/// vaultrs' own one names the role in `cert_name`, which no server reads: any role that fits the certificate is granted.
#[derive(Debug, Serialize)]
struct CertificateLogin {
    #[serde(skip)]
    mount: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

impl Endpoint for CertificateLogin {
    type Response = ();

    const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
    const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;

    fn path(&self) -> String {
        format!("auth/{}/login", self.mount)
    }

    fn method(&self) -> RequestMethod {
        RequestMethod::POST
    }

    fn body(&self) -> Result<Option<Vec<u8>>, TransportError> {
        rustify::http::build_body(self, RequestType::JSON).map(Some)
    }
}
