//! What this product knows of OpenMetadata: its Create requests, its names, its workflow files.
//!
//! - [`entity`]: the requests themselves.
//! - [`fqn`]: fully qualified names, quoting and the rewriting of reserved characters.
//! - [`filter`]: include and exclude patterns with the semantics of Python's `re.match`.
//! - [`rules`]: what the server refuses although its schema allows it.
//! - [`strict`]: reading objects whose every key must be known; [`suggest`]: the known key nearest to an unknown one.
//! - [`yaml`]: YAML that someone else wrote, with its places and limits.
//! - [`workflow`]: ingestion workflow files, every key of 1.6 to 2.0.

pub mod entity;
pub mod filter;
pub mod fqn;
pub mod rules;
pub mod strict;
pub mod suggest;
pub mod workflow;
pub mod yaml;
