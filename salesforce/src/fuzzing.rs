//! The doors of the fuzz targets to parsers that nobody else outside may call. Built with `--cfg fuzzing` only.

/// Reads the answer to a SOAP login.
pub fn soap_login(answer: &[u8]) {
    crate::auth::fuzz_soap(answer);
}

/// Reads the answer to an OAuth token request, granted or refused.
pub fn token(answer: &[u8]) {
    crate::auth::fuzz_token(answer);
}
