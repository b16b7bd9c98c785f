//! What `Source::secrets` says is what a login reads.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use hybrid_runner_connector::{Source as _, StepOutcome};
use hybrid_runner_secrets::{MemoryStore, Read, ReadError, Resolver, SecretPath, SecretStore, Stores};

use crate::attack::{Attack, LOGINS};
use crate::evil::{Evil, Reply};

/// Keeps what it is asked for.
#[derive(Debug)]
struct Asked {
    asked: Arc<Mutex<Vec<String>>>,
    store: MemoryStore,
}

#[async_trait]
impl SecretStore for Asked {
    async fn read(&self, path: &SecretPath) -> Result<Read, ReadError> {
        self.asked.lock().unwrap().push(path.to_string());
        self.store.read(path).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_reads_each_secret_that_the_source_names_in_that_order_and_no_other() {
    for kind in LOGINS {
        let mut attack = Attack::new().await;
        let front = Evil::before(&attack.authority, &attack.org, |_| Reply::Relayed).await;
        attack.listed = vec![front.port()];
        let source = attack.plan("localhost", kind).unwrap();
        let asked = Arc::default();
        let stores = Stores::default().with("asked", Asked { asked: Arc::clone(&asked), store: attack.store() });
        let resolver = Resolver::new(Arc::new(stores), Arc::new(attack.local().policy()), None);
        let steps = source.test_connection(Arc::new(resolver)).await;
        assert_eq!(steps[0].outcome, StepOutcome::Passed, "{steps:?}");
        let secrets = source.secrets();
        let named: Vec<String> = secrets.iter().map(|secret| secret.reference.path().to_string()).collect();
        assert_eq!(*asked.lock().unwrap(), named);
        assert!(named.len() >= 2, "{named:?}");
        for secret in secrets {
            assert_eq!((secret.purpose.host.as_str(), secret.purpose.port), ("localhost", front.port()));
        }
    }
}
