//! Whether each store can be reached and lets us in, without reading any secret.

use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::{ReadError, Stores};

/// A store, and what was seen of it.
#[derive(Debug)]
pub struct Seen {
    /// Its name.
    pub store: String,
    /// Its kind.
    pub kind: &'static str,
    /// What it said, in a sentence for people.
    pub found: Result<String, StoreError>,
}

/// A store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It refused, or cannot be asked for lack of a credential.
    #[error("it needs {needs}")]
    Denied {
        /// What is missing.
        needs: String,
    },
    /// It is sealed.
    #[error("it is sealed")]
    Sealed,
    /// It asks for fewer requests.
    #[error("it answers fewer requests than are sent (throttled)")]
    Throttled,
    /// It is not what was configured.
    #[error("it is not what is configured: {0}")]
    Unusable(String),
    /// No answer.
    #[error("it could not be reached")]
    Unreachable {
        /// The cause.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl From<ReadError> for StoreError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Denied(needs) => Self::Denied { needs },
            ReadError::Sealed => Self::Sealed,
            ReadError::Throttled => Self::Throttled,
            ReadError::Unreachable(cause) => Self::Unreachable { cause },
            ReadError::Unusable(problem) => Self::Unusable(problem.to_owned()),
            // Nothing was read that could be missing, too large or no text.
            ReadError::NotFound | ReadError::KeyMissing | ReadError::NotText | ReadError::TooLarge => {
                Self::Unusable("it answers what it does not answer to this question".to_owned())
            }
        }
    }
}

impl Stores {
    /// Looks at every store, side by side, once, each within [`Stores::READ_TIMEOUT`]; by name. No secret is read.
    ///
    /// # Cancel safety
    /// Dropping the future ends the looks.
    pub async fn look(&self) -> Vec<Seen> {
        let mut looks = JoinSet::new();
        for (name, store) in self.all() {
            looks.spawn(async move {
                let found = match timeout(Self::READ_TIMEOUT, store.look()).await {
                    Ok(found) => found.map_err(StoreError::from),
                    Err(elapsed) => Err(StoreError::Unreachable { cause: elapsed.into() }),
                };
                Seen { store: name, kind: store.kind(), found }
            });
        }
        let mut seen = looks.join_all().await;
        seen.sort_unstable_by(|a, b| a.store.cmp(&b.store));
        seen
    }
}
