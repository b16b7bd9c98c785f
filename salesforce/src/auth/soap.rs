//! SOAP `login()`: user name, password and security token, or an organization id in place of the token. Salesforce
//! retires it with Summer '27.

mod fault;

use hybrid_runner_connector::{Reason, SourceError};
use hybrid_runner_secrets::SecretValue;
use quick_xml::Writer;
use quick_xml::escape::{escape, resolve_xml_entity};
use quick_xml::events::{BytesDecl, BytesEnd, BytesRef, BytesStart, BytesText, Event};
use quick_xml::reader::Reader;
use zeroize::Zeroizing;

use super::{Granted, MAX_ANSWER, not_an_answer};
use crate::config::ApiVersion;
use crate::http::{Call, CallError, ErrorCode, Http, Retry};

const ENVELOPE: &str = "http://schemas.xmlsoap.org/soap/envelope/";
const PARTNER: &str = "urn:partner.soap.sforce.com";

/// The deepest element looked into; a real answer has seven levels.
const MAX_DEPTH: usize = 64;

/// The body of a login request; `secret` is the password with the security token. Its memory is zeroed in the end.
pub(super) fn request(
    username: &str,
    secret: &str,
    organization: Option<&str>,
) -> Result<Zeroizing<Vec<u8>>, SourceError> {
    // Room for everything escaped: growing would leave copies behind.
    let room = 512 + 6 * (username.len() + secret.len());
    write_envelope(username, secret, organization, Zeroizing::new(Vec::with_capacity(room)))
        .map_err(|error| SourceError::caused(Reason::SourceProtocol, "the login request could not be written", error))
}

fn write_envelope(
    username: &str,
    secret: &str,
    organization: Option<&str>,
    mut body: Zeroizing<Vec<u8>>,
) -> Result<Zeroizing<Vec<u8>>, std::io::Error> {
    let mut writer = Writer::new(&mut *body);
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let envelope = BytesStart::new("e:Envelope").with_attributes([("xmlns:e", ENVELOPE)]);
    let login = BytesStart::new("p:login").with_attributes([("xmlns:p", PARTNER)]);
    writer.write_event(Event::Start(envelope))?;
    if let Some(organization) = organization {
        let scope = BytesStart::new("p:LoginScopeHeader").with_attributes([("xmlns:p", PARTNER)]);
        let id = BytesStart::new("p:organizationId");
        for event in [Event::Start(BytesStart::new("e:Header")), Event::Start(scope), Event::Start(id)] {
            writer.write_event(event)?;
        }
        writer.write_event(Event::Text(BytesText::new(organization)))?;
        for name in ["p:organizationId", "p:LoginScopeHeader", "e:Header"] {
            writer.write_event(Event::End(BytesEnd::new(name)))?;
        }
    }
    for start in [BytesStart::new("e:Body"), login] {
        writer.write_event(Event::Start(start))?;
    }
    for (name, value) in [("p:username", username), ("p:password", secret)] {
        let escaped = Zeroizing::new(escape(value).into_owned());
        writer.write_event(Event::Start(BytesStart::new(name)))?;
        writer.write_event(Event::Text(BytesText::from_escaped(escaped.as_str())))?;
        writer.write_event(Event::End(BytesEnd::new(name)))?;
    }
    for name in ["p:login", "e:Body", "e:Envelope"] {
        writer.write_event(Event::End(BytesEnd::new(name)))?;
    }
    Ok(body)
}

/// Sends the request and reads its answer.
pub(super) async fn log_in(http: &Http, version: ApiVersion, body: Zeroizing<Vec<u8>>) -> Result<Granted, SourceError> {
    let path = format!("/services/Soap/u/{version}");
    let call = Call::post_secret(&path, "text/xml; charset=UTF-8", body)
        .with_header("soapaction", "login")
        // A fault comes with 500.
        .answered_by(&[200, 500])
        .at_most(MAX_ANSWER);
    let answer = http.call(call, &Retry::LOGIN).await.map_err(CallError::into_source_error)?;
    let xml = Zeroizing::new(answer.body.into_bytes());
    match parse(&xml).map_err(|problem| not_an_answer(http.host(), problem))? {
        Parsed::Granted { password_expired: true, .. } => Err(SourceError::new(
            Reason::AuthFailed,
            "the password of the Salesforce user has expired: set a new one in Salesforce and in the secret store",
        )),
        Parsed::Granted { granted, .. } => Ok(granted),
        Parsed::Fault(code) => Err(fault::refusal(http.host(), code.as_ref(), version)),
    }
}

/// What an answer says.
enum Parsed {
    Granted { granted: Granted, password_expired: bool },
    Fault(Option<ErrorCode>),
}

/// Why an answer cannot be read. Holds nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Malformed {
    #[error("is not UTF-8")]
    Utf8,
    #[error("is HTML, not SOAP")]
    Html,
    #[error("is not well-formed XML (byte {0})")]
    Syntax(u64),
    #[error("has a DOCTYPE, which SOAP forbids")]
    DocType,
    #[error("has elements nested more than 64 deep")]
    Depth,
    #[error("refers to an entity that XML does not define")]
    Entity,
    #[error("has no session id and server URL, and is no fault")]
    Incomplete,
}

/// The texts of an answer that are kept.
#[derive(Default)]
struct Texts {
    server_url: String,
    session_id: Zeroizing<String>,
    organization: String,
    organization_id: String,
    user_id: String,
    language: String,
    password_expired: String,
    fault_code: String,
    exception_code: String,
    is_fault: bool,
}

fn parse(xml: &[u8]) -> Result<Parsed, Malformed> {
    let text = str::from_utf8(xml).map_err(|_invalid| Malformed::Utf8)?;
    let mut reader = Reader::from_str(text);
    let mut path: Vec<String> = Vec::new();
    let mut texts = Texts::default();
    loop {
        let event = reader.read_event().map_err(|_invalid| Malformed::Syntax(reader.error_position()))?;
        match event {
            Event::DocType(doctype) => {
                let html = doctype.trim_start().get(..4).is_some_and(|name| name.eq_ignore_ascii_case("html"));
                return Err(if html { Malformed::Html } else { Malformed::DocType });
            }
            Event::Start(start) => {
                if path.len() == MAX_DEPTH {
                    return Err(Malformed::Depth);
                }
                path.push(start.local_name().into_inner().to_owned());
                texts.is_fault |= matches!(*names(&path), ["Envelope", "Body", "Fault"]);
            }
            Event::End(_) => {
                path.pop();
            }
            Event::Text(content) => texts.add(&path, &content),
            Event::CData(content) => texts.add(&path, &content),
            Event::GeneralRef(reference) => texts.add(&path, &resolve(&reference)?),
            Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            Event::Eof if path.is_empty() => return texts.finish(),
            Event::Eof => return Err(Malformed::Syntax(reader.buffer_position())),
        }
    }
}

/// The door of a fuzz target.
#[cfg(fuzzing)]
pub(crate) fn fuzz(xml: &[u8]) {
    drop(parse(xml));
}

fn names(path: &[String]) -> Vec<&str> {
    path.iter().map(String::as_str).collect()
}

/// The character that a reference stands for: one of XML's five, or a number. Entities of a document's own would need a
/// DOCTYPE.
fn resolve(reference: &BytesRef<'_>) -> Result<String, Malformed> {
    match reference.resolve_char_ref() {
        Ok(Some(character)) => Ok(character.to_string()),
        Ok(None) => resolve_xml_entity(reference).map(str::to_owned).ok_or(Malformed::Entity),
        Err(_invalid) => Err(Malformed::Entity),
    }
}

impl Texts {
    fn add(&mut self, path: &[String], text: &str) {
        let kept = match names(path).as_slice() {
            ["Envelope", "Body", "loginResponse", "result", leaf] => match *leaf {
                "serverUrl" => &mut self.server_url,
                "sessionId" => &mut *self.session_id,
                "passwordExpired" => &mut self.password_expired,
                _ => return,
            },
            ["Envelope", "Body", "loginResponse", "result", "userInfo", leaf] => match *leaf {
                "organizationName" => &mut self.organization,
                "organizationId" => &mut self.organization_id,
                "userId" => &mut self.user_id,
                "userLanguage" => &mut self.language,
                _ => return,
            },
            ["Envelope", "Body", "Fault", "faultcode"] => &mut self.fault_code,
            ["Envelope", "Body", "Fault", "detail", _, "exceptionCode"] => &mut self.exception_code,
            _ => return,
        };
        kept.push_str(text);
    }

    fn finish(mut self) -> Result<Parsed, Malformed> {
        if self.is_fault {
            let code = |text: &str| ErrorCode::parse(text.trim());
            return Ok(Parsed::Fault(code(&self.exception_code).or_else(|| code(&self.fault_code))));
        }
        if self.server_url.trim().is_empty() || self.session_id.is_empty() {
            return Err(Malformed::Incomplete);
        }
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        Ok(Parsed::Granted {
            password_expired: self.password_expired.trim() == "true",
            granted: Granted {
                address: self.server_url.trim().to_owned(),
                token: SecretValue::new(std::mem::take(&mut *self.session_id)),
                organization: given(self.organization),
                user_id: given(self.user_id),
                organization_id: given(self.organization_id),
                language: given(self.language),
            },
        })
    }
}

#[cfg(test)]
mod tests;
