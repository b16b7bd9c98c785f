//! Any bytes as the answer to an OAuth token request.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|answer: &[u8]| hybrid_runner_salesforce::fuzzing::token(answer));
