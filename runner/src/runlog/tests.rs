use std::sync::Arc;

use hybrid_runner_secrets::SecretValue;
use serde_json::Value;
use tracing::{debug, info, warn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry;

use super::*;
use crate::clock::SystemClock;
use crate::telemetry::run_span;

fn log_of(redactor: &Redactor) -> RunLog {
    RunLog::new(1 << 20, Arc::new(SystemClock), redactor.clone(), Arc::default())
}

fn lines(log: &RunLog) -> Vec<Value> {
    let (first, lines) = log.take(usize::MAX).unwrap_or_default();
    assert_eq!(first, 0);
    lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_is_logged_inside_of_a_run_is_in_its_log_and_nothing_else_is() {
    let redactor = Redactor::default();
    let (mine, other) = (log_of(&redactor), log_of(&redactor));
    tracing::subscriber::with_default(registry().with(layer()), || {
        let (span, neighbour) = (run_span(false, "1", "crm"), run_span(false, "2", "erp"));
        mine.attach(&span);
        other.attach(&neighbour);
        info!("beside");
        span.in_scope(|| {
            info!(attempt = 2_u64, full = true, rate = 0.5, delta = -1_i64, "run started");
            tracing::info_span!("inner").in_scope(|| warn!(code = "odd", answer = ?Some("x"), "unusual"));
            debug!(target: "hybrid_runner::run", "a detail");
        });
        neighbour.in_scope(|| info!("of the other run"));
    });
    let lines = lines(&mine);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!((&lines[0]["level"], &lines[0]["message"]), (&"INFO".into(), &"run started".into()));
    assert_eq!(lines[0]["fields"], serde_json::json!({"attempt": 2, "full": true, "rate": 0.5, "delta": -1}));
    assert_eq!(lines[0]["target"], "hybrid_runner::runlog::tests");
    assert!(lines[0]["time"].as_str().unwrap().ends_with('Z'), "{lines:?}");
    assert_eq!((&lines[1]["code"], &lines[1]["fields"]["answer"]), (&"odd".into(), &"Some(\"x\")".into()));
    assert_eq!(other.take(usize::MAX).unwrap().1.len(), 1);
}

#[test]
fn the_debug_toggle_raises_its_own_run_only_and_only_what_this_product_says() {
    let redactor = Redactor::default();
    let logs = [log_of(&redactor), log_of(&redactor)];
    tracing::subscriber::with_default(registry().with(layer()), || {
        for (is_verbose, log) in [(true, &logs[0]), (false, &logs[1])] {
            let span = run_span(is_verbose, "1", "crm");
            log.attach(&span);
            span.in_scope(|| {
                debug!(target: "hybrid_runner_salesforce::http", "ours");
                debug!(target: "h2::codec", "theirs");
                warn!(target: "vaultrs::client", "what a store answered");
                info!("always");
            });
        }
    });
    let messages = logs.map(|log| lines(&log).iter().map(|line| line["message"].clone()).collect::<Vec<_>>());
    assert_eq!(messages, [vec![Value::from("ours"), "always".into()], vec!["always".into()]]);
}

#[test]
fn a_value_in_a_message_or_a_field_is_replaced_before_the_line_is_kept() {
    const PASSWORD: &str = "pWq7<&>\"'/\\+ %=é~;";
    let redactor = Redactor::default();
    let _held = redactor.watch(SecretValue::new(PASSWORD.to_owned()));
    let log = log_of(&redactor);
    tracing::subscriber::with_default(registry().with(layer()), || {
        let span = run_span(false, "1", "crm");
        log.attach(&span);
        span.in_scope(|| {
            let error = std::io::Error::other(PASSWORD);
            info!(shown = PASSWORD, debugged = ?Some(PASSWORD), %error, code = PASSWORD, "it said {PASSWORD}");
            // At the place of the cut.
            warn!("{}{PASSWORD}", "x".repeat(8 * 1024 - 10));
        });
    });
    let (_, lines) = log.take(usize::MAX).unwrap();
    assert_eq!(lines[0].matches("[redacted]").count(), 5, "{}", lines[0]);
    assert!(lines.iter().all(|line| !line.contains("pWq7")), "{lines:?}");
}

#[test]
fn a_line_is_never_longer_than_the_contract_allows_and_stays_json() {
    let log = log_of(&Redactor::default());
    tracing::subscriber::with_default(registry().with(layer()), || {
        let span = run_span(false, "1", "crm");
        log.attach(&span);
        span.in_scope(|| {
            let long = "\u{1}".repeat(10_000);
            info!(a = long, b = long, c = long, d = long, e = long, f = long, "{long}");
            info!("{}", "ä".repeat(20_000));
        });
    });
    let (_, lines) = log.take(usize::MAX).unwrap();
    for line in lines {
        let parsed: Value = serde_json::from_str(&line).unwrap();
        assert!(line.len() <= 16 * 1024 && line.len() > 2 * 1024, "{}", line.len());
        assert!(parsed["message"].as_str().unwrap().ends_with('…'), "{parsed}");
    }
}
