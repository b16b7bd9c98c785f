//! The `OTEL_*` variables that are read here; those of endpoint, headers, time-out, compression and queue are read by the
//! libraries.

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
    is_tls: bool,
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
        let endpoint = of_traces("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT");
        Ok(Self {
            is_tls: endpoint.is_some_and(|endpoint| endpoint.trim().starts_with("https")),
            sampler: sampler(environment)?,
            transport: transport(protocol.as_deref())?,
            certificate: certificate.map(std::fs::read).transpose().map_err(TracesError::Certificate)?,
        })
    }

    /// The exporter; made under the runtime that its connections shall live on.
    pub(super) fn exporter(&self) -> Result<SpanExporter, TracesError> {
        let setup = |error: opentelemetry_otlp::ExporterBuildError| TracesError::Setup(Box::new(error));
        match self.transport {
            Transport::Grpc if !self.is_tls => SpanExporter::builder().with_tonic().build().map_err(setup),
            Transport::Grpc => {
                let tls = ClientTlsConfig::new().with_native_roots();
                let tls = match &self.certificate {
                    Some(pem) => tls.ca_certificate(Certificate::from_pem(pem)),
                    None => tls,
                };
                SpanExporter::builder().with_tonic().with_tls_config(tls).build().map_err(setup)
            }
            Transport::Http => {
                let builder = SpanExporter::builder().with_http().with_protocol(Protocol::HttpBinary);
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
        assert_eq!(read(&[]).unwrap().transport, Transport::Http);
    }
}
