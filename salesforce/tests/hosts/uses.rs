//! What `Source::secrets` says is what a login reads.

use std::sync::Arc;

use hybrid_runner_connector::{Reason, Source as _, Step, StepOutcome};
use hybrid_runner_salesforce::SalesforceSource;
use hybrid_runner_secrets::{MemoryStore, Resolver, SecretValue, Stores};

use crate::attack::{Attack, LOGINS};
use crate::evil::{Evil, Reply};

/// Tests the connection with these of the secrets only.
async fn test_with(attack: &Attack, source: &SalesforceSource, paths: &[String]) -> Vec<Step> {
    let given = attack.values().into_iter().filter(|(path, _)| paths.contains(&(*path).to_owned()));
    let store = given.fold(MemoryStore::default(), |store, (path, value)| store.with(path, SecretValue::new(value)));
    let stores = Arc::new(Stores::default().with("memory", store));
    let resolver = Resolver::new(stores, Arc::new(attack.local().policy()), None);
    source.test_connection(Arc::new(resolver)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_reads_each_secret_that_the_source_names_and_no_other() {
    for kind in LOGINS {
        let mut attack = Attack::new().await;
        let front = Evil::before(&attack.authority, &attack.org, |_| Reply::Relayed).await;
        attack.listed = vec![front.port()];
        let source = attack.plan("localhost", kind).unwrap();
        let secrets = source.secrets();
        let paths: Vec<String> = secrets.iter().map(|secret| secret.reference.path().to_string()).collect();
        assert!(paths.len() >= 2 && paths.len() < attack.values().len(), "{paths:?}");
        for missing in &secrets {
            let path = missing.reference.path().to_string();
            let others: Vec<_> = paths.iter().filter(|other| **other != path).cloned().collect();
            let steps = test_with(&attack, &source, &others).await;
            assert_eq!(steps[1].outcome, StepOutcome::Failed(Reason::SecretUnavailable), "{steps:?}");
            assert!(steps[1].message.starts_with(&format!("{}: secret secret:{path} ", missing.field)), "{steps:?}");
            assert_eq!((missing.purpose.host.as_str(), missing.purpose.port), ("localhost", front.port()));
        }
        assert_eq!(front.connections(), 0, "secrets are read before anything is sent");
        let steps = test_with(&attack, &source, &paths).await;
        assert_eq!(steps[0].outcome, StepOutcome::Passed, "{steps:?}");
    }
}
