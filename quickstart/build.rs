//! Tells the program the profile that it is built in, so that `--write` builds the others in the same one.

use std::path::Path;

#[expect(clippy::disallowed_methods, reason = "cargo tells a build script by the environment")]
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // target/PROFILE/build/quickstart-HASH/out; cargo's own PROFILE says only `debug` or `release`.
    let out = std::env::var("OUT_DIR").unwrap_or_default();
    let folder = Path::new(&out).ancestors().nth(3).and_then(Path::file_name).and_then(|name| name.to_str());
    let profile = match folder {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    println!("cargo::rustc-env=QUICKSTART_PROFILE={profile}");
}
