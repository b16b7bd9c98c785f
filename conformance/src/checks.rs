//! The checks, in the order in which they run: those of one run first, its commit last. Each stands alone, so that one can
//! be chosen: it takes what it needs from the [`Kit`](crate::kit::Kit).

mod batches;
mod commits;
mod definitions;
mod handshake;
mod leases;
mod limits;
mod streams;

use crate::check::Check;

/// All of them.
pub(crate) fn all() -> impl Iterator<Item = &'static Check> {
    [
        handshake::CHECKS,
        definitions::CHECKS,
        streams::CHECKS,
        batches::CHECKS,
        limits::CHECKS,
        leases::CHECKS,
        commits::CHECKS,
    ]
    .into_iter()
    .flatten()
}
