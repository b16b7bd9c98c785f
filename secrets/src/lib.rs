//! References to secrets, the stores that they are read from, and values that cannot leak.
//!
//! A definition holds [`SecretRef`]s, never values. [`Stores`] reads one through the [`SecretStore`] that its name
//! selects and answers a [`SecretValue`], which is zeroed when dropped and has no `Debug`, `Display`, `Clone` or
//! `Serialize`. Nothing here caches: a value is read when a login needs it. A [`Redactor`] recognises what was read, so that
//! whatever leaves the process can be searched for it.

mod env;
mod error;
mod file;
mod memory;
mod redact;
mod reference;
mod spec;
mod stores;
mod value;
#[cfg(feature = "vault")]
mod vault;

pub use env::EnvStore;
pub use error::SecretError;
pub use file::FileStore;
pub use memory::MemoryStore;
pub use redact::Redactor;
pub use reference::{MalformedReference, SecretPath, SecretRef};
pub use spec::{StoreSpec, UnknownStoreSpec};
pub use stores::{ReadError, SecretStore, Stores};
pub use value::SecretValue;
#[cfg(feature = "vault")]
pub use vault::{KvVersion, VaultAuth, VaultSettings, VaultSettingsError, VaultStore};
