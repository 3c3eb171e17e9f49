//! The declarations of the keys of `[hooks]`.

use super::keys::{Key, key};
use super::kind::{Kind, MANY};

const ONE: Kind = Kind::Whole(1, MANY);

/// The keys of `[hooks]`.
pub(super) const HOOKS: &[Key] = &[
    key(
        "hooks.endpoint",
        Kind::Text,
        r#""""#,
        "The application: an `http`, `https`, `grpc` or `grpcs` URL; empty: no hooks. [What it is asked](../how-to/hooks.md).",
    ),
    key(
        "hooks.ask",
        Kind::List,
        "[]",
        "The questions that it is asked: of `connect`, `refresh`, `subscribe`, `publish`, `rpc` and `disconnected`.",
    ),
    key(
        "hooks.timeout",
        Kind::Duration,
        r#""2s""#,
        "Longest time for an answer, including the wait for a free request.",
    ),
    key(
        "hooks.on_failure",
        Kind::OneOf(&["refuse", "rules"]),
        r#""refuse""#,
        "What holds if the application does not answer: `refuse` (the client gets `unavailable`) or `rules` (the configured rules decide alone). A call is always refused.",
    ),
    key(
        "hooks.forward_headers",
        Kind::List,
        "[]",
        "Headers of a client's request that go with questions about it, such as \"cookie\"; empty: none.",
    ),
    key(
        "hooks.secret",
        Kind::Text,
        r#""""#,
        "Signs every request as Standard Webhooks has it: `whsec_` and 24 to 64 bytes in base64; empty: no signatures.",
    ),
    key(
        "hooks.concurrency",
        ONE,
        "256",
        "Requests at the same time. One user gets at most half of them.",
    ),
    key(
        "hooks.waiting",
        ONE,
        "10000",
        "Questions that wait for a free request. Further ones fail at once.",
    ),
    key(
        "hooks.cache_bytes",
        Kind::Whole(0, MANY),
        "16777216",
        "Bytes of answers that are kept because of their `cache_seconds`; 0: none are kept.",
    ),
    key(
        "hooks.answer_bytes",
        Kind::Whole(64, 1 << 30),
        "65536",
        "Longest answer, in bytes. A longer one is a failure of the application.",
    ),
    key(
        "hooks.header_bytes",
        Kind::Whole(1, 65_536),
        "8192",
        "Bytes of one client's forwarded headers. A client with more is refused.",
    ),
    key(
        "hooks.breaker_failures",
        Kind::Whole(0, 4_294_967_295),
        "10",
        "Failures in a row after which the application is not asked for a while; 0: it is always asked.",
    ),
];
