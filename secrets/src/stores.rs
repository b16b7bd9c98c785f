//! The stores that a process reads secrets from.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::field::Empty;
use tracing::{Instrument as _, info_span};

use crate::counts::Counts;
use crate::{Redactor, SecretError, SecretPath, SecretRef, SecretValue};

/// A place that secrets are read from. A new kind of store is one file that implements this and one line in the table
/// of kinds.
#[async_trait]
pub trait SecretStore: fmt::Debug + Send + Sync {
    /// Reads the current value at a path, once: [`Stores`] tries again. Caches nothing.
    ///
    /// # Errors
    /// What went wrong, without the reference: [`Stores`] adds it.
    async fn read(&self, path: &SecretPath) -> Result<Read, ReadError>;

    /// Whether the store can be reached and lets us in, as far as it shows without reading a secret; what it said, in a
    /// sentence for people. Once: nobody tries again.
    ///
    /// # Errors
    /// What went wrong; never that something is not found.
    async fn look(&self) -> Result<String, ReadError> {
        Ok("nothing is to be seen of it before a secret is read".to_owned())
    }

    /// What kind of store it is, in a word: for metrics, which do not say which one.
    fn kind(&self) -> &'static str {
        "other"
    }

    /// Has the values that the store itself holds watched: its own tokens, and what it was given. What it reads is watched
    /// by [`Stores`].
    fn watch_with(&mut self, _redactor: &Redactor) {}
}

/// What a [`SecretStore`] read.
pub struct Read {
    /// The value.
    pub value: SecretValue,
    /// Which version of it this is, for people, such as `version 3, created 2026-01-31T08:30:00Z`; `None`: the store
    /// knows none.
    pub version: Option<String>,
}

impl From<SecretValue> for Read {
    /// A value without a version.
    fn from(value: SecretValue) -> Self {
        Self { value, version: None }
    }
}

/// The value is left out.
impl fmt::Debug for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Read").field("version", &self.version).finish_non_exhaustive()
    }
}

/// Why a [`SecretStore`] has no value.
#[derive(Debug)]
pub enum ReadError {
    /// No such entry.
    NotFound,
    /// The entry has no such key.
    KeyMissing,
    /// The store refused; the permission that is missing, such as `read on secret/data/a/b`.
    Denied(String),
    /// The value is no text in UTF-8.
    NotText,
    /// The value has more than [`SecretValue::MAX`] bytes.
    TooLarge,
    /// The value cannot be used otherwise; what is wrong with it, such as `is not a regular file`.
    Unusable(&'static str),
    /// The store is sealed.
    Sealed,
    /// The store asks for fewer requests.
    Throttled,
    /// No answer.
    Unreachable(Box<dyn std::error::Error + Send + Sync>),
}

#[async_trait]
impl SecretStore for Box<dyn SecretStore> {
    async fn read(&self, path: &SecretPath) -> Result<Read, ReadError> {
        self.as_ref().read(path).await
    }

    async fn look(&self) -> Result<String, ReadError> {
        self.as_ref().look().await
    }

    fn kind(&self) -> &'static str {
        self.as_ref().kind()
    }

    fn watch_with(&mut self, redactor: &Redactor) {
        self.as_mut().watch_with(redactor);
    }
}

/// The configured stores by name, and the default one.
#[derive(Debug, Clone, Default)]
pub struct Stores {
    named: BTreeMap<String, Arc<Bounded>>,
    default: Option<String>,
    redactor: Redactor,
    counts: Counts,
}

impl Stores {
    /// How long one read may take with all its tries. A store that needs longer counts as unreachable.
    pub const READ_TIMEOUT: Duration = Duration::from_secs(10);
    /// Reads of one store at a time: the secrets of one login. More wait, within the time of whoever asks.
    pub const READS_AT_ONCE: usize = 4;

    /// No stores yet; what they will read is watched by this redactor, and not by one of their own.
    #[must_use]
    pub fn watched_by(redactor: Redactor) -> Self {
        Self { redactor, ..Self::default() }
    }

    /// Knows every value that was read here.
    #[must_use]
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// Adds a store; the first one added is the default for references without a store's name.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, mut store: impl SecretStore + 'static) -> Self {
        let name = name.into();
        store.watch_with(&self.redactor);
        self.default.get_or_insert_with(|| name.clone());
        self.named.insert(name, Arc::new(Bounded::new(store)));
        self
    }

    /// Reads the value that a reference names.
    ///
    /// # Errors
    /// See [`SecretError`]. A reference is never used as a value.
    pub async fn read(&self, reference: &SecretRef) -> Result<SecretValue, SecretError> {
        Ok(self.read_with_version(reference).await?.value)
    }

    /// Reads the value that a reference names, and which version of it that is.
    ///
    /// # Errors
    /// See [`SecretError`].
    pub async fn read_with_version(&self, reference: &SecretRef) -> Result<Read, SecretError> {
        let kind = self.kind_of(reference);
        let span = info_span!(target: "otel", "read secret", store = kind, outcome = Empty, otel.status_code = Empty);
        let read = self.read_counted(reference).instrument(span.clone()).await;
        let outcome = read.as_ref().map_or_else(SecretError::outcome, |_| "read");
        span.record("outcome", outcome);
        if read.is_err() {
            span.record("otel.status_code", "ERROR");
        }
        self.counts.add(kind, outcome);
        read
    }

    /// How often secrets were asked for so far, by the kind of store and how it went; those that the policy denied, too.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        self.counts.so_far()
    }

    /// The policy denied a read before the store heard of it.
    pub(crate) fn count_denied(&self, reference: &SecretRef) {
        self.counts.add(self.kind_of(reference), "policy_denied");
    }

    fn kind_of(&self, reference: &SecretRef) -> &'static str {
        self.named.get(self.store_of(reference)).map_or("none", |store| store.store.kind())
    }

    async fn read_counted(&self, reference: &SecretRef) -> Result<Read, SecretError> {
        let name = self.store_of(reference);
        let Some(store) = self.named.get(name) else {
            return Err(SecretError::UnknownStore {
                reference: reference.clone(),
                store: name.to_owned(),
                configured: self.names(),
            });
        };
        let read = store.read(reference.path()).await;
        let (reference, store) = (reference.clone(), name.to_owned());
        let read = read.map_err(|error| error.of(reference.clone(), store.clone()))?;
        match read.value.expose().len() {
            0 => Err(SecretError::Empty { reference, store }),
            1..=SecretValue::MAX => Ok(Read { value: self.redactor.watch(read.value), ..read }),
            _ => Err(SecretError::TooLarge { reference, store }),
        }
    }

    /// The name of the store that a reference is read from, configured or not.
    pub(crate) fn store_of<'a>(&'a self, reference: &'a SecretRef) -> &'a str {
        reference.store().or_else(|| self.default_store()).unwrap_or("default")
    }

    /// The name of the store of references that name none.
    pub(crate) fn default_store(&self) -> Option<&str> {
        self.default.as_deref()
    }

    /// Every store with its name.
    pub(crate) fn all(&self) -> impl Iterator<Item = (String, Arc<Bounded>)> {
        self.named.iter().map(|(name, store)| (name.clone(), Arc::clone(store)))
    }

    fn names(&self) -> String {
        if self.named.is_empty() {
            "none".to_owned()
        } else {
            self.named.keys().cloned().collect::<Vec<_>>().join(", ")
        }
    }
}

impl ReadError {
    /// Whether the same read may succeed in a moment.
    fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Throttled)
    }

    fn of(self, reference: SecretRef, store: String) -> SecretError {
        match self {
            Self::NotFound => SecretError::NotFound { reference, store },
            Self::KeyMissing => SecretError::KeyMissing { reference, store },
            Self::Denied(needs) => SecretError::Denied { reference, store, needs },
            Self::NotText => SecretError::NotText { reference, store },
            Self::TooLarge => SecretError::TooLarge { reference, store },
            Self::Unusable(problem) => SecretError::Unusable { reference, store, problem },
            Self::Sealed => SecretError::Sealed { reference, store },
            Self::Throttled => SecretError::Throttled { reference, store },
            Self::Unreachable(cause) => SecretError::Unreachable { reference, store, cause },
        }
    }
}

/// Waits before the second and the third try; each is cut at random to between half and all of it, so that agents that
/// were refused together do not come back together.
const WAITS: [Duration; 2] = [Duration::from_millis(400), Duration::from_millis(1600)];

/// A store with a bound on how much it is asked at once, for how long and how often.
#[derive(Debug)]
pub(crate) struct Bounded {
    reads: Semaphore,
    store: Box<dyn SecretStore>,
}

impl Bounded {
    fn new(store: impl SecretStore + 'static) -> Self {
        Self { reads: Semaphore::new(Stores::READS_AT_ONCE), store: Box::new(store) }
    }

    pub(crate) fn kind(&self) -> &'static str {
        self.store.kind()
    }

    pub(crate) async fn look(&self) -> Result<String, ReadError> {
        self.store.look().await
    }

    async fn read(&self, path: &SecretPath) -> Result<Read, ReadError> {
        // Not in the time of the read: a store that is busy with others is not unreachable.
        let _permit = self.reads.acquire().await.map_err(|closed| ReadError::Unreachable(closed.into()))?;
        let deadline = Instant::now() + Stores::READ_TIMEOUT;
        let mut waits = WAITS.into_iter();
        let mut reason = None;
        loop {
            let error = match timeout_at(deadline, self.store.read(path)).await {
                Ok(Err(error)) if error.may_pass() => error,
                Ok(other) => return other,
                // A reason that the store gave says more than that time is up.
                Err(elapsed) => return Err(reason.unwrap_or_else(|| ReadError::Unreachable(elapsed.into()))),
            };
            let next = waits.next().map(|wait| Instant::now() + wait.mul_f64(0.5 + fastrand::f64() / 2.0));
            let Some(next) = next.filter(|next| *next < deadline) else { return Err(error) };
            reason = Some(error);
            sleep_until(next).await;
        }
    }
}
