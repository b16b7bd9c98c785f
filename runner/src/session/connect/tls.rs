//! The handshake, and what to do when it fails.

use std::error::Error as _;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, ClientConfig};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::Identity;
use crate::dial::Connection;

/// What HTTP/2 is called in the handshake.
pub(super) const HTTP2: &[u8] = b"h2";
/// A server that wants a client certificate tells in this time what it thinks of ours; most say it with their first
/// bytes. One that says nothing costs each connection this much.
const VERDICT: Duration = Duration::from_secs(1);

/// There is no TLS with the control plane.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("{advice}")]
    Failed { advice: Advice, source: io::Error },
    #[error("the handshake was not over within 10 s; is it the control plane's gRPC port?")]
    Stalled,
    #[error(
        "it does not speak HTTP/2; is it the control plane's gRPC port, or does a load balancer that ends TLS before it \
         offer no `h2`?"
    )]
    NoHttp2,
    #[error("control_plane.endpoint: `{host}` is no DNS name or IP address")]
    Name { host: String },
}

impl TlsError {
    /// Whether the control plane refused this agent's certificate, or wants one.
    pub(crate) fn is_about_identity(&self) -> bool {
        use AlertDescription as Alert;
        let Self::Failed { source, .. } = self else { return false };
        let Some(rustls::Error::AlertReceived(alert)) = tls_error(source) else { return false };
        matches!(
            alert,
            Alert::CertificateExpired
                | Alert::UnknownCA
                | Alert::CertificateRequired
                | Alert::BadCertificate
                | Alert::CertificateUnknown
                | Alert::CertificateRevoked
                | Alert::AccessDenied
                | Alert::DecryptError
        )
    }
}

/// The failure of a handshake, and what to do about it.
pub(super) fn failed(source: io::Error) -> TlsError {
    TlsError::Failed { advice: advice(&source), source }
}

/// A host as TLS knows it.
pub(super) fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(host.to_owned()).map_err(|_invalid| TlsError::Name { host: host.to_owned() })
}

/// Makes TLS on a stream.
///
/// # Cancel safety
/// Dropping the future closes the stream.
pub(super) async fn handshake(
    config: Arc<ClientConfig>,
    host: &str,
    stream: Box<dyn Connection>,
    identity: &Identity,
) -> Result<BufReader<TlsStream<Box<dyn Connection>>>, TlsError> {
    let stream = TlsConnector::from(config).connect(server_name(host)?, stream).await.map_err(failed)?;
    if stream.get_ref().1.alpn_protocol() != Some(HTTP2) {
        return Err(TlsError::NoHttp2);
    }
    let mut stream = BufReader::new(stream);
    // With TLS 1.3 the client is done before the server has looked at its certificate: a refusal comes as an alert in
    // place of the server's first bytes, which HTTP/2 lets it send unasked.
    if matches!(identity, Identity::Certificate { .. }) {
        match tokio::time::timeout(VERDICT, stream.fill_buf()).await {
            Ok(Ok([])) => return Err(failed(io::ErrorKind::UnexpectedEof.into())),
            Ok(Err(error)) => return Err(failed(error)),
            Ok(Ok(_)) | Err(_) => {}
        }
    }
    Ok(stream)
}

/// What to do about a TLS failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Advice {
    Say(&'static str),
    /// The server's certificate ended so long ago by this machine's clock.
    Expired(Duration),
    /// It begins in so long by this machine's clock.
    NotYet(Duration),
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Say(what) => f.write_str(what),
            Self::Expired(ago) => write!(
                f,
                "its certificate expired {} ago by this machine's clock; renew it at the control plane, or set the clock",
                Rough(*ago)
            ),
            Self::NotYet(left) => write!(
                f,
                "its certificate is valid only in {} by this machine's clock; set the clock, or look at the certificate",
                Rough(*left)
            ),
        }
    }
}

/// A duration in its largest unit.
struct Rough(Duration);

impl fmt::Display for Rough {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            seconds @ ..120 => write!(f, "{seconds} s"),
            seconds @ ..7_200 => write!(f, "{} min", seconds / 60),
            seconds @ ..172_800 => write!(f, "{} h", seconds / 3_600),
            seconds => write!(f, "{} days", seconds / 86_400),
        }
    }
}

/// What to do about a TLS failure that a stream met later than the handshake: a server that wants a certificate tells an
/// agent without one only then.
pub(in crate::session) fn late_advice(status: &tonic::Status) -> Option<Advice> {
    let mut cause = status.source();
    while let Some(error) = cause {
        let found = error.downcast_ref::<io::Error>();
        if let Some(error) = found
            && tls_error(error).is_some()
        {
            return Some(advice(error));
        }
        cause = error.source();
    }
    None
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|error| error.downcast_ref())
}

fn between(early: UnixTime, late: UnixTime) -> Duration {
    Duration::from_secs(late.as_secs().saturating_sub(early.as_secs()))
}

fn advice(error: &io::Error) -> Advice {
    use rustls::Error::{AlertReceived, InvalidCertificate, InvalidMessage, NoApplicationProtocol, PeerIncompatible};
    Advice::Say(match tls_error(error) {
        Some(InvalidCertificate(CertificateError::ExpiredContext { time, not_after })) => {
            return Advice::Expired(between(*not_after, *time));
        }
        Some(InvalidCertificate(CertificateError::NotValidYetContext { time, not_before })) => {
            return Advice::NotYet(between(*time, *not_before));
        }
        Some(InvalidCertificate(problem)) => advice_on_certificate(problem),
        Some(AlertReceived(alert)) => advice_on_alert(*alert),
        Some(PeerIncompatible(_)) => NO_TLS_13,
        Some(NoApplicationProtocol) => NO_HTTP2,
        Some(InvalidMessage(_)) => "what it answers is no TLS; is it the control plane's gRPC port?",
        _ if error.kind() == io::ErrorKind::UnexpectedEof => {
            "it closed the connection; is it the control plane's gRPC port, and does it accept this agent's certificate?"
        }
        _ => "the handshake failed; is it the control plane's gRPC port?",
    })
}

const NO_TLS_13: &str = "it does not speak TLS 1.3";
const NO_HTTP2: &str = "it does not speak HTTP/2; is it the control plane's gRPC port?";

fn advice_on_certificate(problem: &CertificateError) -> &'static str {
    match problem {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate is not from the CA in control_plane.ca (the system's roots when absent), or it signed its \
             own; give the CA that signed it"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another host name than the one in control_plane.endpoint"
        }
        CertificateError::Expired => "its certificate has expired; renew it at the control plane",
        CertificateError::NotValidYet => "its certificate is not valid yet; are both clocks right?",
        _ => "its certificate is not accepted",
    }
}

fn advice_on_alert(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::CertificateExpired => {
            "it refused this agent's certificate (control_plane.tls) as expired, or not valid yet; make a new one with \
             `control-plane agent add`, or set the clock of whichever machine is wrong"
        }
        AlertDescription::UnknownCA => {
            "it refused this agent's certificate (control_plane.tls): it is not from a CA that the control plane trusts"
        }
        AlertDescription::CertificateRequired => {
            "it wants a client certificate; give control_plane.tls.certificate and key"
        }
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateRevoked
        | AlertDescription::AccessDenied
        | AlertDescription::DecryptError => "it refused this agent's certificate (control_plane.tls)",
        AlertDescription::ProtocolVersion => NO_TLS_13,
        AlertDescription::NoApplicationProtocol => NO_HTTP2,
        AlertDescription::UnrecognisedName => "it knows no host of the name in control_plane.endpoint",
        _ => "it ended the handshake with an alert; is it the control plane's gRPC port?",
    }
}
