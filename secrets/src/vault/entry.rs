//! What the server answers.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use rustify::endpoint::Endpoint;
use rustify::enums::{RequestMethod, RequestType, ResponseType};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use vaultrs::client::VaultClient;
use vaultrs::error::ClientError;

use super::KvVersion;
use crate::remote::pick;
use crate::{Read, ReadError, SecretValue};

/// An entry: values by key.
pub(super) struct Entry {
    fields: Fields,
    version: Option<Version>,
}

type Fields = BTreeMap<String, Field>;

/// Which version of an entry it is; KV 2 only.
#[derive(Deserialize)]
struct Version {
    version: u64,
    created_time: String,
}

/// The value of a key, zeroed when dropped.
enum Field {
    Text(SecretValue),
    /// A number, a list: no credential.
    Other,
}

impl Entry {
    /// Reads it from a mount of KV 1.
    pub(super) async fn unversioned(client: &VaultClient, mount: &str, path: &str) -> Result<Self, ClientError> {
        let fields = vaultrs::kv1::get(client, mount, path).await?;
        Ok(Self { fields, version: None })
    }

    /// Reads its newest version from a mount of KV 2.
    pub(super) async fn newest(client: &VaultClient, mount: &str, path: &str) -> Result<Self, ClientError> {
        let read = ReadNewest { mount: mount.to_owned(), path: path.to_owned() };
        let Newest { data, metadata } = vaultrs::api::exec_with_result(client, read).await?;
        Ok(Self { fields: data, version: Some(metadata) })
    }

    /// The value of a key, and which version of it this is.
    pub(super) fn read(mut self, key: Option<&str>) -> Result<Read, ReadError> {
        let version = self.version.take().map(|Version { version, created_time }| {
            // To the second: a server says nine digits more.
            let created = created_time.parse::<Timestamp>().map_or(created_time, |time| format!("{time:.0}"));
            format!("version {version}, created {created}")
        });
        Ok(Read { value: self.value(key)?, version })
    }

    /// The value of a key; without one of the only key, else of `value`.
    fn value(self, key: Option<&str>) -> Result<SecretValue, ReadError> {
        match pick(self.fields, key)? {
            Field::Text(value) if value.expose().len() > SecretValue::MAX => Err(ReadError::TooLarge),
            Field::Text(value) => Ok(value),
            Field::Other => Err(ReadError::NotText),
        }
    }
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Field;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_str<E>(self, text: &str) -> Result<Field, E> {
                Ok(Field::Text(SecretValue::new(text.to_owned())))
            }

            fn visit_string<E>(self, text: String) -> Result<Field, E> {
                Ok(Field::Text(SecretValue::new(text)))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Field, E> {
                Ok(Field::Other)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Field, E> {
                Ok(Field::Other)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Field, E> {
                Ok(Field::Other)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Field, E> {
                Ok(Field::Other)
            }

            fn visit_unit<E>(self) -> Result<Field, E> {
                Ok(Field::Other)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Field, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Field::Other)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Field, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Field::Other)
            }
        }

        deserializer.deserialize_any(Any)
    }
}

/// The newest version of an entry of KV 2.
#[derive(Deserialize)]
struct Newest {
    data: Fields,
    metadata: Version,
}

/// vaultrs' own request keeps the values in a tree of JSON, which nobody zeroes.
#[derive(Debug)]
struct ReadNewest {
    mount: String,
    path: String,
}

impl Endpoint for ReadNewest {
    type Response = Newest;

    const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
    const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;

    fn path(&self) -> String {
        format!("{}/data/{}", self.mount, self.path)
    }

    fn method(&self) -> RequestMethod {
        RequestMethod::GET
    }
}

/// A mount, as far as its version needs it.
#[derive(Deserialize)]
pub(super) struct Mount {
    #[serde(rename = "type")]
    kind: String,
    options: Option<BTreeMap<String, String>>,
}

impl Mount {
    /// Asks the server; every token that may do something below the mount may do this.
    pub(super) async fn of(client: &VaultClient, mount: &str) -> Result<Self, ClientError> {
        vaultrs::api::exec_with_result(client, ReadMount { mount: mount.to_owned() }).await
    }

    /// `None`: it is no KV store.
    pub(super) fn version(&self) -> Option<KvVersion> {
        let version = self.options.as_ref().and_then(|options| options.get("version")).map(String::as_str);
        match (self.kind.as_str(), version) {
            ("kv", Some("2")) => Some(KvVersion::V2),
            // The name of KV 1 before there was another.
            ("kv" | "generic", _) => Some(KvVersion::V1),
            _ => None,
        }
    }
}

/// vaultrs has the list of all mounts only, which tokens of applications may not read.
#[derive(Debug)]
struct ReadMount {
    mount: String,
}

impl Endpoint for ReadMount {
    type Response = Mount;

    const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
    const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;

    fn path(&self) -> String {
        format!("sys/internal/ui/mounts/{}", self.mount)
    }

    fn method(&self) -> RequestMethod {
        RequestMethod::GET
    }
}
