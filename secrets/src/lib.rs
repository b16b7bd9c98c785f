//! References to secrets, the stores that they are read from, and values that cannot leak.
//!
//! A definition holds [`SecretRef`]s, never values. [`Stores`] reads one through the [`SecretStore`] that its name
//! selects and answers a [`SecretValue`], which is zeroed when dropped and has no `Debug`, `Display`, `Clone` or
//! `Serialize`. Nothing here caches: a value is read when a login needs it. A [`Redactor`] recognises what was read, so that
//! whatever leaves the process can be searched for it.
//!
//! A connector sees no store but a [`Resolver`], which asks the local [`Policy`] first and answers a [`BoundSecret`]: a
//! value that comes out only for the hosts that the policy permits.

#[cfg(feature = "aws")]
mod aws;
mod counts;
mod env;
mod error;
mod file;
mod kind;
#[cfg(feature = "kubernetes")]
mod kubernetes;
mod look;
mod memory;
mod policy;
mod redact;
mod reference;
#[cfg(any(feature = "kubernetes", feature = "vault"))]
mod remote;
mod resolver;
mod stores;
mod value;
#[cfg(feature = "vault")]
mod vault;

#[cfg(feature = "aws")]
pub use aws::{AwsSettings, AwsStore, BadAwsSetting};
pub use env::EnvStore;
pub use error::SecretError;
pub use file::FileStore;
pub use kind::{UnknownStore, open_store};
#[cfg(feature = "kubernetes")]
pub use kubernetes::{KubernetesSettings, KubernetesSettingsError, KubernetesStore};
pub use look::{Seen, StoreError};
pub use memory::MemoryStore;
pub use policy::{
    Binding, Decision, Denial, HostPattern, Lack, MalformedHost, MalformedNetwork, MalformedPattern, MalformedPipeline,
    MalformedPrefix, Miss, Network, PipelinePattern, Policy, Prefix, Purpose, ReferencePattern, Request, Use,
};
pub use redact::{Redactor, Watched};
pub use reference::{MalformedReference, SecretPath, SecretRef};
pub use resolver::{BoundSecret, NotPermitted, Readable, Reads, Resolver};
pub use stores::{Read, ReadError, SecretStore, Stores};
pub use value::SecretValue;
#[cfg(feature = "vault")]
pub use vault::{KvVersion, VaultAuth, VaultSettings, VaultSettingsError, VaultStore};
