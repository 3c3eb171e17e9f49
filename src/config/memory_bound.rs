//! The most memory that a server with this configuration may use: a sum of named terms.
//!
//! Each term is the worst case of one kind of memory, as the product of a limit in the
//! configuration and of a size that the code guarantees. SECURITY.md has the same list; a test of
//! the documents compares the two. A new limit is one more line in [`terms`].

use std::thread::available_parallelism;

use super::{Config, Engine, Storage};
use crate::broker::{COMMIT_QUEUE_BYTES, REDIS_QUEUE_BYTES};
use crate::event::{Audience, Headers};
use crate::hub::{INBOX_BYTES, REPLAY_BYTES, THROTTLE_BYTES};
use crate::session::MAX_ANSWER_BYTES;
use crate::sources::BATCH_BYTES;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// One part of the sum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// What uses the memory.
    pub name: &'static str,
    /// The most bytes that it uses.
    pub bytes: u64,
    /// The formula, in terms of the configuration's keys.
    pub formula: &'static str,
}

/// The sum with its terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryBound {
    /// The terms.
    pub terms: Vec<Term>,
}

impl MemoryBound {
    /// The sum, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let bytes = self.terms.iter().map(|term| term.bytes);
        bytes.fold(0, u64::saturating_add)
    }
}

impl Config {
    /// The most memory that a server with this configuration may use.
    #[must_use]
    pub fn memory_bound(&self) -> MemoryBound {
        let mut terms = terms(self);
        let sum = terms.iter().map(|term| term.bytes);
        let sum = sum.fold(0, u64::saturating_add);
        terms.push(Term {
            name: "allocator",
            bytes: sum / 4,
            formula: "a quarter of the rest: what is free but not given back yet",
        });
        MemoryBound { terms }
    }
}

/// Sizes that the terms are computed from.
struct Sizes {
    connections: u64,
    sockets: u64,
    subscriptions: u64,
    shards: u64,
    threads: u64,
    message: u64,
    /// An event in memory: data, headers, audience, names.
    event: u64,
    /// An event as encoded in one dialect.
    frame: u64,
    outbox: u64,
}

impl Sizes {
    fn of(config: &Config) -> Self {
        let limits = &config.limits;
        let cores = available_parallelism().map_or(1, std::num::NonZero::get);
        let or = |set: usize, otherwise: usize| if set == 0 { otherwise } else { set };
        let shards = or(config.server.shards, cores);
        let runtime = or(config.server.runtime_threads, (cores / 2).max(1));
        let data = bytes(limits.event_bytes);
        // Names cost their text and 64 bytes each: an allocation and its reference.
        let names = bytes(Audience::MAX_BYTES) + 64 * bytes(4 * Audience::MAX_NAMES);
        Sizes {
            connections: bytes(limits.connections),
            sockets: bytes(limits.connections).saturating_add(1024),
            subscriptions: bytes(limits.subscriptions_per_connection),
            shards: bytes(shards),
            threads: bytes(shards.saturating_add(runtime)),
            message: bytes(limits.message_bytes),
            event: times(data, 9, 8) + 2 * bytes(Headers::MAX_BYTES) + names + 4 * KIB,
            frame: times(data, 4, 3) + 64 * KIB,
            outbox: bytes(limits.outbox_bytes),
        }
    }
}

fn bytes(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn times(count: u64, by: u64, over: u64) -> u64 {
    count.saturating_mul(by) / over
}

fn product(factors: &[u64]) -> u64 {
    let factors = factors.iter().copied();
    factors.fold(1, u64::saturating_mul)
}

fn sum(parts: &[u64]) -> u64 {
    let parts = parts.iter().copied();
    parts.fold(0, u64::saturating_add)
}

/// The terms, except the allocator's own.
#[expect(clippy::too_many_lines, reason = "a table: a line for each term")]
fn terms(config: &Config) -> Vec<Term> {
    let size = Sizes::of(config);
    let (n, shards) = (size.connections, size.shards);
    let (history, history_formula) = history(config, &size);
    let (audit, spans) = (
        bytes(crate::audit::QUEUE_BYTES),
        bytes(crate::telemetry::SPAN_BYTES + crate::telemetry::OPEN_SPAN_BYTES),
    );
    let term = |name, bytes, formula| Term {
        name,
        bytes,
        formula,
    };
    vec![
        term(
            "program",
            // A shard keeps up to 4,096 empty queues for outboxes.
            sum(&[
                64 * MIB,
                product(&[shards, 32 * MIB]),
                product(&[size.threads, 4 * MIB]),
            ]),
            "64 MiB + shards × 32 MiB + (shards + runtime_threads) × 4 MiB",
        ),
        term(
            "sockets",
            product(&[size.sockets, 192 * KIB]),
            "(limits.connections + 1024) × 192 KiB: a head, TLS and the protocol's buffers",
        ),
        term(
            "connections",
            product(&[
                n,
                sum(&[
                    32 * KIB,
                    product(&[size.subscriptions, KIB]),
                    product(&[3, size.message]),
                ]),
            ]),
            "limits.connections × (32 KiB + limits.subscriptions_per_connection × 1 KiB + 3 × limits.message_bytes)",
        ),
        term(
            "outboxes",
            // Replies may exceed the limit of events, and small frames use twice their length.
            product(&[n, times(size.outbox.max(size.frame), 5, 2)]),
            "limits.connections × 5/2 × the larger of limits.outbox_bytes and one frame",
        ),
        term(
            "streams",
            product(&[n, sum(&[320 * KIB, size.frame])]),
            "limits.connections × (320 KiB + one frame): on the way to SSE, gRPC and polls",
        ),
        term(
            "replays",
            // A second page while a filter is evaluated on the first.
            sum(&[
                product(&[2, n, (size.outbox / 2).max(size.event)]),
                product(&[shards, bytes(REPLAY_BYTES)]),
            ]),
            "limits.connections × 2 × the larger of limits.outbox_bytes / 2 and one event + shards × 4 MiB",
        ),
        term(
            "inboxes",
            sum(&[
                product(&[shards, bytes(INBOX_BYTES)]),
                // One publish names up to 100 channels.
                product(&[
                    size.threads,
                    sum(&[size.event, product(&[100, size.frame])]),
                ]),
            ]),
            "shards × 32 MiB + (shards + runtime_threads) × (one event + 100 frames)",
        ),
        term("history", history, history_formula),
        term(
            "requests",
            // A body and its decoded form, and the window of HTTP/2.
            sum(&[
                product(&[2, bytes(config.limits.body_bytes)]),
                product(&[bytes(config.internal.connections), 256 * KIB]),
                product(&[size.sockets, 64 * KIB]),
            ]),
            "2 × limits.body_bytes + internal.connections × 256 KiB + (limits.connections + 1024) × 64 KiB",
        ),
        term(
            "answers",
            product(&[size.sockets, size.frame.max(bytes(MAX_ANSWER_BYTES))]),
            "(limits.connections + 1024) × the larger of 3 MiB and one frame",
        ),
        term("filters", filters(config, &size), FILTERS),
        term(
            "idempotency keys",
            product(&[bytes(config.limits.idempotency_keys), 512]),
            "limits.idempotency_keys × 512 B",
        ),
        term(
            "cursors",
            match config.cluster.engine {
                Engine::None => product(&[bytes(config.limits.cursors), KIB]),
                Engine::Nats | Engine::Redis => 0,
            },
            "limits.cursors × 1 KiB, without an engine",
        ),
        term(
            "minimum intervals",
            product(&[size.shards, bytes(THROTTLE_BYTES)]),
            "shards × 32 MiB",
        ),
        term(
            "polling sessions",
            product(&[size.sockets, sum(&[2 * KIB, size.message])]),
            "(limits.connections + 1024) × (2 KiB + limits.message_bytes)",
        ),
        term(
            "tokens",
            product(&[16_384, 8 * KIB]),
            "16,384 × 8 KiB: identities of tokens that were verified lately",
        ),
        term(
            "revocations",
            product(&[2, bytes(config.auth.revocations), 512]),
            "2 × auth.revocations × 512 B",
        ),
        term(
            "catalog",
            product(&[bytes(config.event_type.len()), 256 * KIB]),
            "event types × 256 KiB",
        ),
        term("hooks", hooks(config, &size), HOOKS),
        term(
            "sources",
            // A batch, its decoded form, and its answer in the connection's buffer.
            product(&[
                bytes(config.source.len()),
                3,
                sum(&[bytes(BATCH_BYTES), size.event, 10_000 * KIB]),
            ]),
            "sources × 3 × (8 MiB + one event + 10,000 × 1 KiB)",
        ),
        term(
            "webhooks",
            webhooks(config, &size),
            "webhooks, each: a batch + webhook.queue_bytes + webhook.dead_letter_bytes (in memory) + 136 MiB + (limits.connections × (limits.subscriptions_per_connection + 1)) × 512 B, if there are any",
        ),
        term("audit log", audit, "8 MiB"),
        term("spans", spans, "36 MiB"),
    ]
}

const FILTERS: &str = "limits.filter_memory + 6 MiB + shards × 2 MiB + a quarter of the cores × 32 × limits.event_bytes + limits.connections × (limits.outbox_bytes + one event)";

/// Compiled filters, cached results, parsed JSON, and events that wait for a filter.
fn filters(config: &Config, size: &Sizes) -> u64 {
    let cores = available_parallelism().map_or(1, std::num::NonZero::get);
    let elsewhere = bytes((cores / 4).max(1));
    sum(&[
        bytes(config.limits.filter_memory),
        6 * MIB,
        product(&[size.shards, 2 * MIB]),
        product(&[elsewhere, 32, bytes(config.limits.event_bytes)]),
        product(&[size.connections, sum(&[size.outbox, size.event])]),
    ])
}

const HOOKS: &str = "with hooks.endpoint: hooks.waiting × (16 KiB + hooks.header_bytes + limits.message_bytes) + hooks.concurrency × (64 KiB + 2 × hooks.answer_bytes) + hooks.cache_bytes + limits.connections × hooks.header_bytes";

/// Questions that wait, answers, and the headers of connections.
fn hooks(config: &Config, size: &Sizes) -> u64 {
    let hooks = &config.hooks;
    if hooks.endpoint.is_none() {
        return 0;
    }
    let headers = bytes(hooks.header_bytes);
    sum(&[
        product(&[
            bytes(hooks.waiting),
            sum(&[16 * KIB, headers, size.message]),
        ]),
        product(&[
            bytes(hooks.concurrency),
            sum(&[64 * KIB, product(&[2, bytes(hooks.answer_bytes)])]),
        ]),
        bytes(hooks.cache_bytes),
        product(&[size.connections, headers]),
    ])
}

/// The queues of webhooks if they are in memory, edges on their way, the database's own memory, and
/// what was reported.
fn webhooks(config: &Config, size: &Sizes) -> u64 {
    if config.webhook.is_empty() {
        return 0;
    }
    let queues = config.webhook.iter().map(|webhook| {
        let in_memory = bytes(webhook.queue_bytes).saturating_add(bytes(webhook.dead_letter_bytes));
        sum(&[2 * MIB, in_memory])
    });
    let reported = product(&[size.connections, size.subscriptions.saturating_add(1), 512]);
    sum(&[queues.fold(0, u64::saturating_add), 136 * MIB, reported])
}

/// The memory of the store.
fn history(config: &Config, size: &Sizes) -> (u64, &'static str) {
    let channels = bytes(config.limits.channels);
    if config.cluster.engine == Engine::Redis {
        return (
            sum(&[
                bytes(REDIS_QUEUE_BYTES),
                // Pages that are being read.
                product(&[64, sum(&[8 * MIB, size.event])]),
                product(&[channels, KIB]),
            ]),
            "136 MiB to and from Redis + 64 × (8 MiB + one event) + limits.channels × 1 KiB",
        );
    }
    match config.history.storage {
        Storage::Memory | Storage::Nats => (
            sum(&[
                bytes(config.history.most_memory()),
                product(&[size.threads, size.event]),
            ]),
            "history.memory_bytes (0: a quarter of the memory) + (shards + runtime_threads) × one event",
        ),
        Storage::Disk => (
            sum(&[
                bytes(config.history.cache_bytes),
                // Events that wait to be written, and as many written ones that wait for shards.
                product(&[2, bytes(COMMIT_QUEUE_BYTES)]),
                // A batch being built, and its encoded form.
                product(&[2, sum(&[4 * MIB, size.event])]),
                // Reads in progress.
                product(&[16, sum(&[4 * MIB, size.event])]),
                // The database's own memory: its memtables and its cache of blocks.
                256 * MIB,
                product(&[channels, 2 * KIB]),
            ]),
            "history.cache_bytes + 2 × 64 MiB to be written and handed out + 18 × (4 MiB + one event) + 256 MiB + limits.channels × 2 KiB",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(change: impl FnOnce(&mut Config)) -> MemoryBound {
        let mut config = Config::default();
        config.server.shards = 2;
        config.server.runtime_threads = 1;
        config.history.memory_bytes = 1 << 30;
        change(&mut config);
        config.memory_bound()
    }

    fn term(bound: &MemoryBound, name: &str) -> u64 {
        let found = bound.terms.iter().find(|term| term.name == name);
        found.expect("a term").bytes
    }

    #[test]
    fn each_limit_changes_its_own_terms() {
        let plain = bound(|_| {});
        let moved = |change: &dyn Fn(&mut Config)| -> Vec<&'static str> {
            let changed = bound(change);
            let pairs = plain.terms.iter().zip(&changed.terms);
            let other = pairs.filter(|(before, after)| before.bytes < after.bytes);
            let names = other.map(|(term, _)| term.name);
            names.filter(|name| *name != "allocator").collect()
        };
        let of = |change: &dyn Fn(&mut Config)| moved(change);
        assert_eq!(of(&|c| c.history.memory_bytes *= 2), ["history"]);
        assert_eq!(of(&|c| c.auth.revocations *= 2), ["revocations"]);
        assert_eq!(
            of(&|c| c.limits.subscriptions_per_connection *= 2),
            ["connections"]
        );
        assert_eq!(
            of(&|c| c.limits.outbox_bytes *= 4),
            ["outboxes", "replays", "filters"]
        );
        assert_eq!(
            of(&|c| c.limits.message_bytes *= 2),
            ["connections", "polling sessions"]
        );
        let by_connections = of(&|c| c.limits.connections *= 2);
        for name in [
            "sockets",
            "connections",
            "outboxes",
            "streams",
            "replays",
            "requests",
            "answers",
            "filters",
        ] {
            assert!(by_connections.contains(&name), "{name}");
        }
        let by_events = of(&|c| c.limits.event_bytes *= 2);
        for name in [
            "outboxes", "streams", "replays", "inboxes", "history", "filters",
        ] {
            assert!(by_events.contains(&name), "{name}");
        }
    }

    #[test]
    fn largest_event_fits_the_formula() {
        let config = Config::default();
        let names = |count: usize, bytes: usize| -> Vec<std::sync::Arc<str>> {
            (0..count).map(|_| "x".repeat(bytes).into()).collect()
        };
        let id = crate::event::ConnectionId::new(0, 0, 0);
        let audience = Audience {
            users: names(Audience::MAX_NAMES, 60),
            roles: names(Audience::MAX_ROLES, 55),
            connections: vec![id; Audience::MAX_NAMES],
            except_connections: vec![id; Audience::MAX_NAMES],
        };
        audience.validate().expect("as large as may be");
        let pairs = (0..Headers::MAX_PAIRS).map(|n| (format!("{n:02}"), "x".repeat(250)));
        let headers = Headers::new(pairs).expect("as large as may be");
        let data = crate::event::allocated(config.limits.event_bytes);
        let weight = bytes(data + audience.weight() + headers.weight());
        let allowed = Sizes::of(&config).event;
        assert!(weight + 3 * KIB <= allowed, "{weight} of {allowed}");
    }

    #[test]
    fn every_term_is_documented() {
        let document = include_str!("../../SECURITY.md");
        for storage in [Storage::Memory, Storage::Disk] {
            for term in bound(|c| c.history.storage = storage).terms {
                let row = format!("| {} | {} |", term.name, term.formula);
                assert!(document.contains(&row), "SECURITY.md lacks {row}");
            }
        }
    }

    #[test]
    fn sum_saturates() {
        let huge = bound(|c| {
            c.limits.connections = 1 << 40;
            c.limits.outbox_bytes = 1 << 40;
            c.limits.event_bytes = 1 << 30;
        });
        assert_eq!(huge.bytes(), u64::MAX);
        assert_eq!(term(&huge, "outboxes"), u64::MAX);
    }
}
