//! The protocol over real sockets and TLS, spoken by agents that are written by hand from the .proto files alone.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

mod agent;
mod connection_tests;
mod full_disk;
mod identity;
mod plane;
mod push;
mod resume;
mod session;
mod watch;
