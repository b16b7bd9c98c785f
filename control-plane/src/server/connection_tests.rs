//! Connection tests: sessions are told of those that nobody took, and those that nobody can answer any more are ended.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tracing::info;

use crate::shared::Shared;
use crate::store::{ConnectionTest, StoreError, TestAnswer};

/// How long an agent's answer may be under way when the test's time is over: agents say themselves that it is.
const UNDER_WAY: SignedDuration = SignedDuration::from_secs(2);

/// Looks at the tests that are not answered.
pub(super) async fn look(shared: &Shared) -> Result<(), StoreError> {
    let mut open = Vec::new();
    for test in shared.store.open_tests().await? {
        match hopeless(shared, &test, shared.clock.now()) {
            Some(why) => {
                // An answer that came meanwhile stays.
                if shared.store.answer_test(test.id, None, TestAnswer::Failed(why.clone())).await? {
                    info!(pipeline = test.pipeline, test_id = %test.id, why, "a connection test was given up");
                }
            }
            None => open.push(test),
        }
    }
    shared.tests.send_if_modified(|known| {
        let changed = **known != open;
        if changed {
            *known = Arc::new(open);
        }
        changed
    });
    Ok(())
}

/// Why a test will have no answer.
fn hopeless(shared: &Shared, test: &ConnectionTest, now: Timestamp) -> Option<String> {
    let over = now.duration_since(test.expires_at);
    match &test.agent {
        Some(agent) if over >= UNDER_WAY => {
            Some(format!("agent {agent} did not answer in time; its log says how far it came"))
        }
        None if !over.is_negative() => Some("no agent took the test in time".to_owned()),
        Some(agent) if !shared.is_testing(test.id) => {
            Some(format!("agent {agent} was asked and its session ended before it answered; test again"))
        }
        None if !is_answerable(shared, test) => Some(format!(
            "no agent is connected that can test a {} connection; start one (hybrid-runner run) and test again",
            test.source
        )),
        Some(_) | None => None,
    }
}

fn is_answerable(shared: &Shared, test: &ConnectionTest) -> bool {
    shared.sessions().iter().any(|session| session.tests_connections && session.sources.contains(&test.source))
}
