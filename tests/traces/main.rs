//! One trace a run, through both programs. A process of its own: the subscriber that sends spans is the one of all its threads
//! (the store's close spans, too), and spans of other subscribers must not meet it.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod collector;
mod rotel;

use hybrid_runner_observability::Traces;
use hybrid_runner_tests::install_crypto;
use hybrid_runner_tests::world::{Setup, World};
use tracing_subscriber::layer::SubscriberExt as _;

use collector::{Collector, Span};

/// Begins to send the spans of this thread to a collector.
fn traces_to(endpoint: &str) -> Traces {
    install_crypto();
    let endpoint = endpoint.to_owned();
    let environment = move |name: &str| match name {
        "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(endpoint.clone()),
        "OTEL_EXPORTER_OTLP_PROTOCOL" => Some("grpc".to_owned()),
        _ => None,
    };
    Traces::start("both", "0", &environment, |text| text).unwrap().unwrap()
}

#[tokio::test]
async fn one_trace_runs_from_the_trigger_of_a_run_to_its_commit() {
    let collector = Collector::start().await;
    let traces = traces_to(&collector.endpoint());
    // For all threads: the store's own threads close spans, too, and a registry closes their parents only where it is the
    // subscriber. Other cases' spans are of other traces.
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(traces.layer())).unwrap();
    let world = World::with(Setup { roots: traces.roots(), ..Setup::default() }).await;
    let agent = world.start_agent();
    let done = world.run().await;
    let entities = world.entities().await;
    agent.stop().await;
    world.stop().await;
    tokio::task::spawn_blocking(move || traces.shutdown()).await.unwrap();
    let all = collector.spans();
    let trace = done.run_id.to_string().replace('-', "");
    let spans: Vec<Span> = all.iter().filter(|span| span.trace == trace).cloned().collect();
    assert!(spans.iter().all(|span| span.service == "both"), "{spans:#?}");
    let child = |name: &str, of: &Span| {
        let found = spans.iter().filter(|span| span.name == name && span.parent == of.id).collect::<Vec<_>>();
        assert!(!found.is_empty(), "no {name} below {}: {all:#?}", of.name);
        found
    };
    let root = spans.iter().find(|span| span.parent.is_empty()).expect("a first span");
    assert_eq!((root.name.as_str(), root.attribute("state"), root.attribute("pipeline")), ("run", "committed", "crm"));
    let grant = child("grant", root)[0];
    let run = child("run", grant)[0];
    assert_eq!((run.attribute("end"), run.attribute("run_id")), ("committed", done.run_id.to_string().as_str()));
    let push = child("push", child("open push", run)[0])[0];
    let (batches, commit) = (child("batch", push), child("commit", push)[0]);
    assert!(batches.iter().all(|batch| batch.start <= commit.start), "{spans:#?}");
    assert!(child("read secret", run).iter().all(|read| read.attribute("outcome") == "read"));
    // Describes and annotations are read in tasks of their own.
    let above: Vec<&str> = [vec![run], child("describe", run), child("annotate", run)]
        .concat()
        .iter()
        .map(|span| span.id.as_str())
        .collect();
    let calls: Vec<&Span> = spans.iter().filter(|span| span.name == "salesforce call").collect();
    assert!(calls.iter().all(|call| above.contains(&call.parent.as_str())), "{calls:#?}");
    let requests = usize::try_from(done.figures.unwrap().summary.source_requests).unwrap();
    assert_eq!(calls.len(), requests, "a span for each request");
    assert!(calls.iter().all(|call| call.attribute("http.response.status_code") == "200"), "{calls:#?}");
    assert!(
        root.start <= grant.start && grant.start <= run.start && commit.start <= root.end + 1_000_000,
        "{spans:#?}"
    );
    // A run's end is the moment at which its commit began, in milliseconds. Names of objects and references stay at home.
    let shown = format!("{all:?}");
    let names = entities.iter().filter(|(kind, _, _)| kind == "table").filter_map(|(_, fqn, _)| fqn.rsplit('.').next());
    for word in names.chain(["secret:/", "salesforce/password", "/services/data", "sobjects"]) {
        assert!(!shown.contains(word), "{word} is in a span");
    }
}
