//! Compiles the server's side of `proto/tidings/v1` in pure Rust, so that nobody needs protoc. The messages and
//! clients are those of `clients/rust`.

use std::path::PathBuf;

const FILES: [&str; 4] = [
    "tidings/v1/catalog_service.proto",
    "tidings/v1/connection_service.proto",
    "tidings/v1/event_service.proto",
    "tidings/v1/store_service.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(
        out.join("tidings.bin"),
        prost::Message::encode_to_vec(&descriptors),
    )?;
    let servers_out = out.join("server");
    std::fs::create_dir_all(&servers_out)?;
    servers().out_dir(servers_out).compile_fds(descriptors)?;
    // Messages between nodes, in a set of their own: reflection does not show them to clients.
    let cluster = protox::compile(["tidings/cluster/v1/cluster.proto"], ["proto"])?;
    let cluster_out = out.join("cluster");
    std::fs::create_dir_all(&cluster_out)?;
    tonic_prost_build::configure()
        .build_client(false)
        .build_server(false)
        .out_dir(cluster_out)
        .compile_fds(cluster)?;
    Ok(())
}

/// `crate::transport::grpc::service`: the servers' traits, over the same messages. Only the stream of
/// `Subscribe` is of a type of our own, so that an event is encoded once for all subscribers.
fn servers() -> tonic_prost_build::Builder {
    tonic_prost_build::configure()
        .build_client(false)
        .codec_path("crate::transport::grpc::Codec")
        .extern_path(".google.rpc", "::tonic_types::pb")
        .extern_path(".tidings.v1", "crate::proto")
        .extern_path(
            ".tidings.v1.SubscribeResponse",
            "crate::transport::grpc::SharedResponse",
        )
}
