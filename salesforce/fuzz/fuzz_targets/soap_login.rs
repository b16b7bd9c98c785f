//! Any bytes as the answer to a SOAP login.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|answer: &[u8]| hybrid_runner_salesforce::fuzzing::soap_login(answer));
