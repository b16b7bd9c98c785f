//! What a policy answers, and why.

use std::fmt;

use super::{Prefix, Purpose};

/// What a policy answers to a [`super::Request`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It may be read.
    Allowed {
        /// The first binding that permits it.
        binding: String,
    },
    /// It may not.
    Denied(Denial),
}

/// Why a secret may not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// It does not lie below the prefix of its store.
    OutsidePrefix {
        /// The store.
        store: String,
        /// Its prefix.
        prefix: Prefix,
    },
    /// No binding covers it.
    Unbound {
        /// What it was asked for.
        purpose: Purpose,
        /// What each binding lacks, in their order.
        misses: Vec<Miss>,
    },
}

/// Why one binding does not permit something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Miss {
    /// Its name.
    pub binding: String,
    /// What of the request it does not cover, at least one.
    pub lacks: Vec<Lack>,
}

/// A part of a request that a binding does not cover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// The reference.
    Reference,
    /// The host or its port.
    Host,
    /// The use.
    Use,
    /// The pipeline.
    Pipeline,
}

impl Decision {
    /// Whether it may be read.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed { .. })
    }
}

impl Denial {
    /// What to change so that it is permitted, if it is to be.
    #[must_use]
    pub fn remedy(&self) -> String {
        let (purpose, misses) = match self {
            Self::OutsidePrefix { store, prefix } => {
                return format!("keep the secret below {prefix}, or change secrets.stores.{store}.prefix");
            }
            Self::Unbound { purpose, misses } => (purpose, misses),
        };
        let Some(nearest) = misses.iter().min_by_key(|miss| miss.lacks.len()) else {
            return "write a binding for it in policy.bindings".to_owned();
        };
        let Miss { binding, lacks } = nearest;
        let place = |lack: &Lack| match lack {
            Lack::Reference => "the reference to its references".to_owned(),
            Lack::Host => format!("{}:{} to its hosts", purpose.host, purpose.port),
            Lack::Use => format!("{} to its uses", purpose.usage),
            Lack::Pipeline => "the pipeline to its pipelines".to_owned(),
        };
        let places = lacks.iter().map(place).collect::<Vec<_>>().join(" and ");
        if binding.starts_with("policy.") {
            format!("in {binding}, add {places}; or write a binding of its own")
        } else {
            "write a binding for it in policy.bindings, or list the host in salesforce.hosts".to_owned()
        }
    }
}

/// A clause: why.
impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed { binding } => write!(f, "{binding} permits it"),
            Self::Denied(denial) => denial.fmt(f),
        }
    }
}

/// A clause: why.
impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutsidePrefix { store, prefix } => {
                write!(
                    f,
                    "only what lies below {prefix} is read from the store `{store}` (secrets.stores.{store}.prefix)"
                )
            }
            Self::Unbound { purpose, misses } => {
                write!(f, "no binding permits {purpose}")?;
                for (index, miss) in misses.iter().enumerate() {
                    f.write_str(if index == 0 { ": " } else { ", " })?;
                    miss.fmt(f)?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lacks = self.lacks.iter().map(|lack| lack.as_str()).collect::<Vec<_>>().join(" and ");
        write!(f, "{} does not cover the {lacks}", self.binding)
    }
}

impl Lack {
    /// A word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Host => "host",
            Self::Use => "use",
            Self::Pipeline => "pipeline",
        }
    }
}
