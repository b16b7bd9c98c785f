//! The whole source against a simulated org, over real sockets and TLS.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod case;
mod faults;
mod incremental;
mod quota;
mod reading;
