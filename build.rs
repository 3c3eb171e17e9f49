//! Compiles `proto/tidings/v1` in pure Rust, so that nobody needs protoc.

use std::path::PathBuf;

const FILES: [&str; 3] = [
    "tidings/v1/catalog_service.proto",
    "tidings/v1/connection_service.proto",
    "tidings/v1/event_service.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(
        out.join("tidings.bin"),
        prost::Message::encode_to_vec(&descriptors),
    )?;
    tonic_prost_build::configure()
        .bytes(".")
        .extern_path(".google.rpc", "::tonic_types::pb")
        .compile_fds(descriptors)?;
    Ok(())
}
