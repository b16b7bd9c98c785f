//! What a case needs from outside the repository. Absent, it fails where `CI` is set; elsewhere it says `not run: …`, which
//! `./test` counts.

use std::path::PathBuf;

use crate::root;

/// The recorded Salesforce responses; `None`: not run.
#[must_use]
pub fn recordings(case: &str) -> Option<PathBuf> {
    needs(case, root().join("../shared/fixtures/salesforce"), "put the recordings there, in the layout of their README")
}

/// OpenMetadata's JSON schemas; `None`: not run.
#[must_use]
pub fn schemas(case: &str) -> Option<PathBuf> {
    needs(case, root().join("../shared/schemas/openmetadata"), "put OpenMetadata's JSON schemas 1.13 and 2.0 there")
}

/// The linter of the .proto files; `None`: not run.
#[must_use]
pub fn buf(case: &str) -> Option<PathBuf> {
    needs(case, root().join("target/peers/node_modules/.bin/buf"), "run tools/peers (it needs npm)")
}

/// A Python that has simple-salesforce, and SQLite; `None`: not run.
#[must_use]
pub fn simple_salesforce(case: &str) -> Option<PathBuf> {
    let how = "run tools/peers (it needs python3 3.9 or newer with venv and pip)";
    needs(case, root().join("target/peers/python/bin/python"), how)
}

/// The library that changes a program's clock; `None`: not run.
#[must_use]
pub fn faketime(case: &str) -> Option<PathBuf> {
    needs(case, root().join("target/peers/faketime/libfaketimeMT.so.1"), "run tools/peers (it needs Debian's apt-get)")
}

/// The program of the packet filter; `None`: not run.
#[must_use]
pub fn nft(case: &str) -> Option<PathBuf> {
    needs(case, root().join("target/peers/nftables/nft"), "run tools/peers (it needs Debian's apt-get)")
}

/// The folder of `prometheus` and `promtool`; `None`: not run.
#[must_use]
pub fn prometheus(case: &str) -> Option<PathBuf> {
    let folder = root().join("target/peers/prometheus");
    // The file that is copied last.
    needs(case, folder.join("promtool"), "run tools/peers (it needs Debian's apt-get)").map(|_| folder)
}

/// A collector of traces that others wrote; `None`: not run.
#[must_use]
pub fn rotel(case: &str) -> Option<PathBuf> {
    needs(case, root().join("target/peers/rotel/run"), "run tools/peers (it needs python3 3.10 to 3.13)")
}

/// Helm, of the version that `tools/helm` builds; `None`: not run.
#[must_use]
pub fn helm(case: &str) -> Option<PathBuf> {
    needs(case, root().join("target/tools/bin/helm"), "run tools/helm (it needs go)")
}

/// The certificates of public authorities, which go into an image; `None`: not run.
#[must_use]
pub fn authorities(case: &str) -> Option<PathBuf> {
    needs(case, PathBuf::from("/etc/ssl/certs/ca-certificates.crt"), "install ca-certificates, on a Linux")
}

fn needs(case: &str, path: PathBuf, how: &str) -> Option<PathBuf> {
    if path.exists() {
        return Some(path);
    }
    let absent = format!("{case}: {} is absent; {how}", path.display());
    assert!(std::env::var_os("CI").is_none(), "{absent}");
    eprintln!("not run: {absent}");
    None
}
