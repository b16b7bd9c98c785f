//! The `OTEL_*` variables that are read here; those of headers, time-out and queue are read by the libraries.

use opentelemetry_otlp::tonic_types::transport::{Certificate, ClientTlsConfig};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::trace::Sampler;

use super::super::{Environment, TracesError};

/// How spans are chosen and sent.
pub(super) struct Settings {
    pub(super) sampler: Sampler,
    transport: Transport,
    /// PEM of authorities that vouch for the collector, beside the system's.
    certificate: Option<Vec<u8>>,
    /// As it is connected to.
    endpoint: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Grpc,
    Http,
}

impl Settings {
    pub(super) fn read(environment: Environment<'_>) -> Result<Self, TracesError> {
        let of_traces = |name: &str, general: &str| {
            let value = environment(name).or_else(|| environment(general));
            value.filter(|value| !value.is_empty())
        };
        let protocol = of_traces("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL");
        let certificate = of_traces("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE");
        let transport = transport(protocol.as_deref())?;
        Ok(Self {
            endpoint: endpoint(environment, transport),
            sampler: sampler(environment)?,
            transport,
            certificate: certificate.map(std::fs::read).transpose().map_err(TracesError::Certificate)?,
        })
    }

    /// The exporter; made under the runtime that its connections shall live on.
    pub(super) fn exporter(&self) -> Result<SpanExporter, TracesError> {
        let setup = |error: opentelemetry_otlp::ExporterBuildError| TracesError::Setup(Box::new(error));
        match self.transport {
            Transport::Grpc => {
                let builder = SpanExporter::builder().with_tonic().with_endpoint(&self.endpoint);
                if !self.endpoint.starts_with("https://") {
                    return builder.build().map_err(setup);
                }
                let tls = ClientTlsConfig::new().with_native_roots();
                let tls = match &self.certificate {
                    Some(pem) => tls.ca_certificate(Certificate::from_pem(pem)),
                    None => tls,
                };
                builder.with_tls_config(tls).build().map_err(setup)
            }
            Transport::Http => {
                let builder = SpanExporter::builder().with_http().with_endpoint(&self.endpoint);
                let builder = builder.with_protocol(Protocol::HttpBinary);
                builder.with_http_client(self.client()?).build().map_err(setup)
            }
        }
    }

    /// Each request has a deadline of the exporter's.
    fn client(&self) -> Result<reqwest::Client, TracesError> {
        let setup = |error: reqwest::Error| TracesError::Setup(Box::new(error));
        let mut builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).referer(false);
        if let Some(pem) = &self.certificate {
            builder = builder.tls_certs_merge(reqwest::Certificate::from_pem_bundle(pem).map_err(setup)?);
        }
        builder.build().map_err(setup)
    }
}

/// The general endpoint is the root of all signals over HTTP, that of traces is the whole address.
fn endpoint(environment: Environment<'_>, transport: Transport) -> String {
    let set = |name: &str| environment(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
    if let Some(endpoint) = set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") {
        return endpoint;
    }
    let endpoint = set("OTEL_EXPORTER_OTLP_ENDPOINT").unwrap_or_default();
    match transport {
        Transport::Grpc => endpoint,
        Transport::Http => format!("{}/v1/traces", endpoint.trim_end_matches('/')),
    }
}

fn transport(protocol: Option<&str>) -> Result<Transport, TracesError> {
    match protocol {
        None | Some("http/protobuf") => Ok(Transport::Http),
        Some("grpc") => Ok(Transport::Grpc),
        Some(_) => Err(TracesError::Variable {
            variable: "OTEL_EXPORTER_OTLP_PROTOCOL",
            detail: "is not a protocol; accepted: grpc, http/protobuf (the default)".to_owned(),
        }),
    }
}

fn sampler(environment: Environment<'_>) -> Result<Sampler, TracesError> {
    let ratio = || {
        let Some(text) = environment("OTEL_TRACES_SAMPLER_ARG").filter(|text| !text.is_empty()) else { return Ok(1.0) };
        text.parse::<f64>().ok().filter(|ratio| (0.0..=1.0).contains(ratio)).ok_or_else(|| TracesError::Variable {
            variable: "OTEL_TRACES_SAMPLER_ARG",
            detail: "is not a share; accepted: 0 to 1, such as 0.1".to_owned(),
        })
    };
    let with_parent = |root: Sampler| Sampler::ParentBased(Box::new(root));
    let name = environment("OTEL_TRACES_SAMPLER").unwrap_or_default();
    Ok(match name.as_str() {
        "" | "parentbased_always_on" => with_parent(Sampler::AlwaysOn),
        "parentbased_always_off" => with_parent(Sampler::AlwaysOff),
        "parentbased_traceidratio" => with_parent(Sampler::TraceIdRatioBased(ratio()?)),
        "always_on" => Sampler::AlwaysOn,
        "always_off" => Sampler::AlwaysOff,
        "traceidratio" => Sampler::TraceIdRatioBased(ratio()?),
        _ => {
            return Err(TracesError::Variable {
                variable: "OTEL_TRACES_SAMPLER",
                detail: "is not a sampler; accepted: always_on, always_off, traceidratio, and each of them with \
                         parentbased_ before it (parentbased_always_on is the default)"
                    .to_owned(),
            });
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(set: &[(&str, &str)]) -> Result<Settings, TracesError> {
        Settings::read(&|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    fn refusal(set: &[(&str, &str)]) -> String {
        read(set).err().unwrap().to_string()
    }

    #[test]
    fn what_is_no_setting_is_refused_with_what_is() {
        assert!(refusal(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")]).contains("accepted: grpc, http/protobuf"));
        assert!(refusal(&[("OTEL_TRACES_SAMPLER", "xray")]).contains("accepted: always_on"));
        let ratio = [("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "50%")];
        assert!(refusal(&ratio).starts_with("OTEL_TRACES_SAMPLER_ARG: "));
        assert!(refusal(&[("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere")]).contains("OTEL_EXPORTER_OTLP_CERTIFICATE"));
    }

    #[test]
    fn the_variables_of_traces_win_over_the_general_ones() {
        let set = [("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"), ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc")];
        assert_eq!(read(&set).unwrap().transport, Transport::Grpc);
        let set = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/")];
        let settings = read(&set).unwrap();
        assert_eq!((settings.transport, settings.endpoint.as_str()), (Transport::Http, "http://c:4318/v1/traces"));
        let set = [set[0], ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t:1/x")];
        assert_eq!(read(&set).unwrap().endpoint, "http://t:1/x");
        let set = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")];
        assert_eq!(read(&set).unwrap().endpoint, "http://c:4317");
    }
}
