//! A collector that others wrote takes the spans of both programs, and says what it understood.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use hybrid_runner_tests::deployment::{Deployment, assert_ends_well, committed};
use hybrid_runner_tests::processes::{Running, command};
use hybrid_runner_tests::{outside, within};
use tempfile::TempDir;
use tokio::net::TcpStream;

/// A rotel that prints each span that it takes.
struct Rotel {
    grpc: SocketAddr,
    http: SocketAddr,
    process: Running,
    _home: TempDir,
}

impl Rotel {
    /// `None`: not run.
    async fn start(case: &str) -> Option<Self> {
        let program = outside::rotel(case)?;
        // It takes no port 0. Both are held at once, so that they differ.
        let (grpc, http) = {
            let free = || TcpListener::bind("127.0.0.1:0").unwrap();
            let (grpc, http) = (free(), free());
            (grpc.local_addr().unwrap(), http.local_addr().unwrap())
        };
        let home = TempDir::new().unwrap();
        let mut rotel = command(&program);
        rotel.args(["start", "--exporter", "blackhole", "--debug-log", "traces", "--debug-log-verbosity", "detailed"]);
        rotel.arg("--otlp-grpc-endpoint").arg(grpc.to_string()).arg("--otlp-http-endpoint").arg(http.to_string());
        rotel.arg("--pid-file").arg(home.path().join("pid")).arg("--log-file").arg(home.path().join("rotel.log"));
        let process = Running::start(rotel, &home.path().join("output.log"));
        let mut rotel = Self { grpc, http, process, _home: home };
        within("rotel listens", rotel.listens()).await;
        Some(rotel)
    }

    async fn listens(&mut self) {
        // Nothing that it prints says so.
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        while TcpStream::connect(self.grpc).await.is_err() || TcpStream::connect(self.http).await.is_err() {
            assert!(self.process.is_alive(), "{}", self.process.log());
            ticks.tick().await;
        }
    }

    /// What it took, to its end.
    async fn ended(self) -> Vec<Span> {
        self.process.signal("TERM");
        let (status, printed) = self.process.ended().await;
        assert!(status.success(), "{status}: {printed}");
        spans(&printed)
    }
}

/// A span, as rotel prints it.
#[derive(Debug, Default, Clone)]
struct Span {
    service: String,
    trace: String,
    /// Empty: the first one of its trace.
    parent: String,
    id: String,
    name: String,
    /// `key: Str(text)`, a line each.
    attributes: String,
}

fn spans(printed: &str) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut service = String::new();
    let mut is_resource = false;
    for line in printed.lines().map(str::trim) {
        if line.starts_with("Resource attributes:") || line.starts_with("Span #") {
            is_resource = line.starts_with("Resource");
        }
        if line.starts_with("Span #") {
            spans.push(Span { service: service.clone(), ..Span::default() });
        }
        if let Some(attribute) = line.strip_prefix("-> ") {
            let name = attribute.strip_prefix("service.name: Str(").and_then(|name| name.strip_suffix(')'));
            match (is_resource, name) {
                (true, Some(name)) => name.clone_into(&mut service),
                (true, None) => {}
                (false, _) => spans.last_mut().unwrap().attributes += &format!("{attribute}\n"),
            }
        }
        let Some((key, value)) = line.split_once(':') else { continue };
        let Some(span) = spans.last_mut().filter(|_| !is_resource) else { continue };
        match key.trim() {
            "Trace ID" => value.trim().clone_into(&mut span.trace),
            "Parent ID" => value.trim().clone_into(&mut span.parent),
            "ID" => value.trim().clone_into(&mut span.id),
            "Name" => value.trim().clone_into(&mut span.name),
            _ => {}
        }
    }
    spans
}

#[tokio::test]
async fn a_collector_of_others_takes_the_spans_of_both_programs_over_both_transports_as_one_trace() {
    let Some(rotel) = Rotel::start("a collector of others").await else { return };
    let deployment = Deployment::written(&["--objects", "30"]).await;
    let org = deployment.start_org().await;
    let http = format!("http://{}", rotel.http);
    // Without OTEL_EXPORTER_OTLP_PROTOCOL it is http/protobuf.
    let mut plane = deployment.start_with("control-plane", "plane.log", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &http)]);
    plane.until("the control plane listens", |log| log.contains("control plane listens").then_some(())).await;
    let grpc = format!("http://{}", rotel.grpc);
    let over_grpc = [("OTEL_EXPORTER_OTLP_ENDPOINT", grpc.as_str()), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")];
    let agent = deployment.start_with("hybrid-runner", "agent.log", &over_grpc);
    plane.until("the commit", |log| committed(log, "")).await;
    let run_id = deployment.shown_run(None).await["run_id"].as_str().unwrap().to_owned();
    // Each hands its last spans on before it ends.
    assert_ends_well([agent, plane, org]).await;
    deployment.assert_quiet(&["plane.log", "agent.log"], &[]);
    let all = rotel.ended().await;

    let trace = run_id.replace('-', "");
    let found = |service: &str, name: &str| {
        let found = all.iter().find(|span| span.trace == trace && span.service == service && span.name == name);
        found.unwrap_or_else(|| panic!("no {name} of {service} in the trace {trace}: {all:#?}"))
    };
    let trigger = found("control-plane", "run");
    assert_eq!(trigger.parent, "", "{trigger:?}");
    assert!(trigger.attributes.contains("state: Str(committed)"), "{trigger:?}");
    // Each is below the one before it, from program to program and back.
    let way = [
        ("control-plane", "grant"),
        ("hybrid-runner", "run"),
        ("hybrid-runner", "open push"),
        ("control-plane", "push"),
        ("control-plane", "commit"),
    ];
    way.iter().fold(trigger, |above, (service, name)| {
        let span = found(service, name);
        assert_eq!(span.parent, above.id, "{name} of {service}: {all:#?}");
        span
    });
    let run = found("hybrid-runner", "run");
    assert_eq!(found("hybrid-runner", "read secret").parent, run.id, "{all:#?}");
    // Also those that are made in tasks of their own.
    let jobs =
        all.iter().filter(|span| ["describe", "annotate"].contains(&span.name.as_str()) && span.parent == run.id);
    let above: Vec<&str> = jobs.map(|job| job.id.as_str()).chain([run.id.as_str()]).collect();
    assert!(above.len() > 2, "{all:#?}");
    for call in all.iter().filter(|span| span.name == "salesforce call") {
        assert!(above.contains(&call.parent.as_str()), "{call:?} is not below the run: {all:#?}");
    }
}
