//! Compiles the schema in pure Rust, so that protoc is not needed.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let mut files = Vec::new();
    for entry in std::fs::read_dir("proto/tidings/v1")? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "proto") {
            files.push(path);
        }
    }
    files.sort();
    let descriptors = protox::compile(files, [PathBuf::from("proto")])?;
    tonic_prost_build::configure()
        .bytes(".")
        .extern_path(".google.rpc", "::tonic_types::pb")
        .build_server(false)
        .compile_fds(descriptors)?;
    if std::env::var_os("CARGO_FEATURE_HOOKS").is_some() {
        let hooks = protox::compile(["tidings/hooks/v1/hooks.proto"], ["proto"])?;
        tonic_prost_build::configure()
            .bytes(".")
            .compile_fds(hooks)?;
    }
    Ok(())
}
