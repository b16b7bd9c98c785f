//! SOAP `login()`, in the shape of the partner API.

use anyhow::{Context as _, bail};
use quick_xml::Reader;
use quick_xml::escape::escape;
use quick_xml::events::Event;

use super::{ORGANIZATION, Sessions, USER, instance, password_fits};
use crate::org::ApiVersion;
use crate::payload::Payload;
use crate::rest::{Answer, Call, XML};
use crate::server::World;

/// The last API version that has `login()`.
const LAST: ApiVersion = ApiVersion(64);

const HEAD: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>";
const INVALID: &str = "Invalid username, password, security token; or user locked out.";
const TOKEN_NEEDED: &str = "Invalid username, password, security token; or user locked out. Are you at a new location? When \
    accessing Salesforce--either via a desktop client or the API--from outside of your company's trusted networks, you must \
    add a security token to your password to log in.";
const DISABLED: &str = "SOAP API login() is disabled by default in this org. Contact the org administrator to enable SOAP API \
    login().";

/// What a login request says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Login {
    username: Option<String>,
    password: Option<String>,
    organization: Option<String>,
}

pub(crate) fn soap(world: &World, call: &Call<'_>, version: &str) -> Answer {
    let plan = world.faults.plan();
    let org = world.org();
    let version = match version.parse::<ApiVersion>() {
        Ok(version) if (org.oldest_version()..=LAST).contains(&version) => version,
        _ => return fault("UNSUPPORTED_API_VERSION", &format!("Invalid Api version specified on URL: {version}")),
    };
    if !call.headers.contains_key("soapaction") {
        return fault("MISSING_SOAP_ACTION", "SOAPAction HTTP header missing");
    }
    if let Some(bytes) = plan.soap_doctype {
        return xml(200, with_doctype(bytes));
    }
    let login = match read(call.body) {
        Ok(login) => login,
        Err(problem) => return fault("INVALID_SOAP", &format!("{problem:#}")),
    };
    let (own, username) = (&org.credentials, login.username.as_deref());
    let bare = username == Some(&own.username) && login.password.as_deref() == Some(&own.password);
    if !own.soap_login {
        return fault("INVALID_OPERATION", DISABLED);
    }
    // As from a trusted address: the password alone will do, with the organization in the header.
    let trusted = bare && login.organization.as_deref().is_some_and(|id| id.get(..15) == ORGANIZATION.get(..15));
    if trusted || password_fits(own, username, login.password.as_deref()) {
        return success(world, call, version, &own.username);
    }
    if bare { fault("LOGIN_MUST_USE_SECURITY_TOKEN", TOKEN_NEEDED) } else { fault("INVALID_LOGIN", INVALID) }
}

fn read(body: &[u8]) -> anyhow::Result<Login> {
    let mut reader = Reader::from_str(std::str::from_utf8(body).context("the request is not UTF-8")?);
    let mut login = Login::default();
    let (mut element, mut text, mut depth) = (String::new(), String::new(), 0_usize);
    loop {
        match reader.read_event().context("the request is not well-formed XML")? {
            Event::Start(start) => {
                start.local_name().as_ref().clone_into(&mut element);
                text.clear();
                depth += 1;
            }
            Event::Text(part) => text.push_str(&part),
            Event::CData(part) => text.push_str(&part),
            Event::GeneralRef(reference) => match reference.resolve_char_ref().context("bad character reference")? {
                Some(c) => text.push(c),
                None => match quick_xml::escape::resolve_predefined_entity(&reference) {
                    Some(value) => text.push_str(value),
                    None => bail!("unknown entity {}", &*reference),
                },
            },
            Event::End(_) => {
                depth = depth.saturating_sub(1);
                let field = match element.as_str() {
                    "username" => Some(&mut login.username),
                    "password" => Some(&mut login.password),
                    "organizationId" => Some(&mut login.organization),
                    _ => None,
                };
                if let Some(field) = field {
                    *field = Some(std::mem::take(&mut text));
                }
                element.clear();
            }
            Event::DocType(_) => bail!("a DOCTYPE is not allowed"),
            Event::Eof if depth > 0 => bail!("the request is not well-formed XML"),
            Event::Eof => return Ok(login),
            _ => {}
        }
    }
}

fn success(world: &World, call: &Call<'_>, version: ApiVersion, username: &str) -> Answer {
    let host = instance(world, call);
    let session = world.sessions(Sessions::open);
    let service =
        |kind: &str| escape(format!("https://{host}/services/Soap/{kind}/{version}/{}", &ORGANIZATION)).into_owned();
    let username = escape(username);
    xml(
        200,
        format!(
            "{HEAD}<soapenv:Envelope xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\" \
             xmlns=\"urn:partner.soap.sforce.com\" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"><soapenv:Body>\
             <loginResponse><result><metadataServerUrl>{}</metadataServerUrl><passwordExpired>false</passwordExpired>\
             <sandbox>false</sandbox><serverUrl>{}</serverUrl><sessionId>{session}</sessionId><userId>{USER}</userId><userInfo>\
             <accessibilityMode>false</accessibilityMode><currencySymbol>$</currencySymbol>\
             <orgAttachmentFileSizeLimit>26214400</orgAttachmentFileSizeLimit>\
             <orgDefaultCurrencyIsoCode>USD</orgDefaultCurrencyIsoCode><orgHasPersonAccounts>false</orgHasPersonAccounts>\
             <organizationId>{ORGANIZATION}</organizationId><organizationMultiCurrency>false</organizationMultiCurrency>\
             <organizationName>Example Org</organizationName><profileId>00e5g000001ExMpAAK</profileId><roleId xsi:nil=\"true\"/>\
             <sessionSecondsValid>7200</sessionSecondsValid><userDefaultCurrencyIsoCode xsi:nil=\"true\"/>\
             <userEmail>{username}</userEmail><userFullName>Integration User</userFullName><userId>{USER}</userId>\
             <userLanguage>en_US</userLanguage><userLocale>en_US</userLocale><userName>{username}</userName>\
             <userTimeZone>America/Los_Angeles</userTimeZone><userType>Standard</userType><userUiSkin>Theme3</userUiSkin>\
             </userInfo></result></loginResponse></soapenv:Body></soapenv:Envelope>",
            service("m"),
            service("u"),
        ),
    )
}

fn fault(code: &str, message: &str) -> Answer {
    let message = escape(message);
    xml(
        500,
        format!(
            "{HEAD}<soapenv:Envelope xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\" \
             xmlns:sf=\"urn:fault.partner.soap.sforce.com\" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\">\
             <soapenv:Body><soapenv:Fault><faultcode>sf:{code}</faultcode><faultstring>{code}: {message}</faultstring><detail>\
             <sf:LoginFault xsi:type=\"sf:LoginFault\"><sf:exceptionCode>{code}</sf:exceptionCode>\
             <sf:exceptionMessage>{message}</sf:exceptionMessage></sf:LoginFault></detail></soapenv:Fault></soapenv:Body>\
             </soapenv:Envelope>"
        ),
    )
}

/// What a hostile server sends: entities that expand, in a document that is long besides.
fn with_doctype(bytes: usize) -> String {
    let filler = "x".repeat(bytes);
    format!(
        "{HEAD}<!DOCTYPE lol [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;&a;&a;\"><!ENTITY c \"&b;&b;&b;&b;\">]>\
         <soapenv:Envelope xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\"><soapenv:Body><loginResponse><result>\
         <sessionId>&c;{filler}</sessionId></result></loginResponse></soapenv:Body></soapenv:Envelope>"
    )
}

fn xml(status: u16, text: String) -> Answer {
    Answer { status, content_type: XML, body: Payload::text(text), ..Answer::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_credentials_are_read_as_they_were_meant() {
        let body = b"<e:Envelope xmlns:e=\"x\"><e:Header><LoginScopeHeader><organizationId>00D</organizationId></LoginScopeHeader>\
            </e:Header><e:Body><n:login xmlns:n=\"y\"><n:username>a&amp;b@example.com</n:username>\
            <n:password>p&lt;&#x41;&quot;</n:password></n:login></e:Body></e:Envelope>";
        let login = read(body).unwrap();
        assert_eq!(login.username.as_deref(), Some("a&b@example.com"));
        assert_eq!(login.password.as_deref(), Some("p<A\""));
        assert_eq!(login.organization.as_deref(), Some("00D"));
        assert!(read(b"<a><b></a>").is_err());
        assert!(read(b"<!DOCTYPE x []><a/>").is_err());
    }
}
