//! Compiles `hybrid/runner/v1/*.proto` with protox, so that building needs no protoc.

use std::path::PathBuf;

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=hybrid");
    let descriptors = protox::compile(["hybrid/runner/v1/runner_service.proto"], ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        // Bodies stay slices of the received frame instead of copies.
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}
