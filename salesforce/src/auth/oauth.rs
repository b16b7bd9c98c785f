//! OAuth: client credentials, JWT bearer, user name and password. One endpoint, one shape of answer.

mod refusal;

use hybrid_runner_connector::SourceError;
use hybrid_runner_secrets::SecretValue;
use serde::Deserialize;
use url::{Url, form_urlencoded};
use zeroize::Zeroizing;

use super::{Granted, MAX_ANSWER, not_an_answer};
use crate::http::{Call, CallError, Http, Retry};

/// A flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// An External Client App with a Run As user.
    ClientCredentials,
    /// An assertion that the app's certificate vouches for.
    Jwt,
    /// User name and password.
    Password,
}

impl Flow {
    fn grant_type(self) -> &'static str {
        match self {
            Self::ClientCredentials => "client_credentials",
            Self::Jwt => "urn:ietf:params:oauth:grant-type:jwt-bearer",
            Self::Password => "password",
        }
    }

    /// The body of a token request. Its memory is zeroed in the end.
    pub(super) fn request(self, parameters: &[(&str, &str)]) -> Zeroizing<Vec<u8>> {
        // Room for everything percent-encoded: growing would leave copies behind.
        let room = parameters.iter().map(|(name, value)| 2 + name.len() + 3 * value.len()).sum::<usize>();
        let mut form = form_urlencoded::Serializer::new(String::with_capacity(128 + room));
        form.append_pair("grant_type", self.grant_type());
        form.extend_pairs(parameters);
        Zeroizing::new(form.finish().into_bytes())
    }

    /// Sends the request and reads its answer.
    pub(super) async fn log_in(self, http: &Http, body: Zeroizing<Vec<u8>>) -> Result<Granted, SourceError> {
        let call = Call::post_secret("/services/oauth2/token", "application/x-www-form-urlencoded", body)
            .answered_by(&[200, 400, 401])
            .at_most(MAX_ANSWER);
        let answer = http.call(call, &Retry::LOGIN).await.map_err(CallError::into_source_error)?;
        let json = Zeroizing::new(answer.body.into_bytes());
        if answer.status == 200 {
            parse(&json).ok_or_else(|| not_an_answer(http.host(), "has no access_token and instance_url"))
        } else {
            Err(refusal::of(http.host(), self, &json))
        }
    }
}

/// The token of an answer. Why it cannot be read is not said: the parser's words quote what it met.
fn parse(json: &[u8]) -> Option<Granted> {
    #[derive(Deserialize)]
    struct Token {
        access_token: String,
        instance_url: String,
        id: Option<String>,
    }
    let token: Token = serde_json::from_slice(json).ok()?;
    let access_token = SecretValue::new(token.access_token);
    let (organization_id, user_id) = token.id.as_deref().and_then(ids).unzip();
    (!access_token.expose().is_empty() && !token.instance_url.is_empty()).then(|| Granted {
        address: token.instance_url,
        token: access_token,
        organization: None,
        user_id,
        organization_id,
        language: None,
    })
}

/// Organization and user in an identity URL, `https://login.salesforce.com/id/00D…/005…`.
fn ids(identity: &str) -> Option<(String, String)> {
    let url = Url::parse(identity).ok()?;
    let mut segments = url.path_segments()?;
    let (id, organization, user) = (segments.next()?, segments.next()?, segments.next()?);
    let is_id = |text: &str| matches!(text.len(), 15 | 18) && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (id == "id" && is_id(organization) && is_id(user)).then(|| (organization.to_owned(), user.to_owned()))
}

/// The door of a fuzz target.
#[cfg(fuzzing)]
pub(crate) fn fuzz(json: &[u8]) {
    drop(parse(json));
    drop(crate::http::ErrorCode::of_body(json));
}

#[cfg(test)]
mod tests;
