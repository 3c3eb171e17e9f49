//! End-to-end tests: the real binary, real sockets, and clients that share no code with the server
//! except the generated gRPC stubs. Each test starts the server that it needs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::let_underscore_must_use,
    clippy::match_wild_err_arm,
    clippy::needless_pass_by_value,
    clippy::too_many_lines,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

mod filter_overlaps;
mod harness;

mod admission;
mod attack_bodies;
mod attack_filters;
mod attack_floods;
mod attack_frames;
mod attack_http2;
mod attack_identity;
mod attack_judge;
mod attack_listener;
mod attack_logs;
mod attack_memory;
mod attack_publish;
mod attack_slow;
mod attack_unread;
mod audience;
mod audit;
mod bad_input;
mod binary;
mod churn;
mod cli;
mod cli_setup;
mod clocks;
mod closing;
mod cluster;
mod cluster_redis;
mod collectors;
mod compression;
mod confirmations;
mod connections;
mod delivery;
mod descriptors;
mod dialects;
mod disk;
mod disk_backup;
mod disk_damage;
mod disk_full;
mod durable;
mod envelope;
mod filter_replays;
mod first_minute;
mod grpc_errors;
mod grpc_subscribe;
mod heartbeat;
mod history;
mod hooks;
mod hooks_grpc;
mod http;
mod http_abuse;
mod http_api;
mod http_catalog;
mod idempotency;
mod internal_listener;
mod jwks;
mod keep_alive;
mod limits;
mod many_sockets;
mod messages;
mod metrics;
mod moving_in;
mod namespaces;
mod one_reader;
mod openapi;
mod operations;
mod origins;
mod patterns;
mod presence;
mod presets;
mod presets_clients;
mod presets_events;
mod proxies;
mod publish;
mod recovery;
mod revocation;
mod rights;
mod rust_client;
mod seam;
mod slow_consumer;
mod socketio;
mod socketio_abuse;
mod socketio_life;
mod socketio_upgrade;
mod sources_nats;
mod sources_postgres;
mod sources_redis;
mod sse;
mod stats;
mod stream;
mod subscribe;
mod tls;
mod together;
mod token_lifetime;
mod tokens;
mod traces;
mod webhooks;
