//! Attacks by host: whatever a definition, a login's answer, a redirect or a name server says, no byte of a secret goes
//! to a host that is neither Salesforce's nor listed locally.
//!
//! Each case watches a foreign server that the client would get on with: it is on this machine, and its certificate is
//! one that is trusted. Answers that are no HTTP have a place here, because it takes the same servers. Each test prints how
//! many cases it had.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that cannot be set up fails, and the count of cases is reported"
)]

mod addresses;
mod answers;
mod attack;
mod domains;
mod evil;
mod framing;
mod redirects;
mod uses;
