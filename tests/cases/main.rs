//! The one test binary: a file a behaviour. Names are promises; `docs/guarantees.md` says which case keeps which.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a case and what helps it fail loudly"
)]

mod architecture;
mod backup;
mod bad_input;
mod chaos;
mod chart;
mod conformance;
mod doctor;
mod documentation;
mod entities;
mod extract;
mod faults;
mod fencing;
mod judge;
mod leaks;
mod observability;
mod options;
mod outages;
mod policy;
mod preflight;
mod processes;
mod proxies;
mod resume;
mod rotation;
mod run_log;
mod secrets;
mod test_connection;
mod transport;
mod vault;
mod whole_path;
mod wire;
