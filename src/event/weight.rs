//! The memory that an event takes while something holds it.
//!
//! All byte limits on events use this sum: payload, headers, audience, names, keys and trace.
//! Hence, a publisher cannot enlarge any part that a limit does not count.

use super::{Audience, Draft, Event, IdempotencyKey};

/// The reference counts of an `Arc` allocation.
const COUNTS: usize = 2 * size_of::<usize>();

/// The size of one allocation. The allocator rounds up by at most an eighth, and small sizes to 16
/// bytes.
#[must_use]
pub const fn allocated(bytes: usize) -> usize {
    if bytes == 0 {
        0
    } else {
        bytes.saturating_add(bytes / 8).saturating_add(16)
    }
}

/// The memory of a shared string.
#[must_use]
pub const fn shared(text: &str) -> usize {
    allocated(COUNTS + text.len())
}

impl Audience {
    /// The memory that it takes, in bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        let names = self.users.iter().chain(&self.roles);
        let ids = self.connections.capacity() + self.except_connections.capacity();
        allocated(COUNTS + size_of::<Audience>())
            + allocated((self.users.capacity() + self.roles.capacity()) * size_of::<&str>())
            + allocated(ids * size_of::<super::ConnectionId>())
            + names.map(|name| shared(name)).sum::<usize>()
    }
}

impl Draft {
    /// The memory that it takes as an event, in bytes. Shared parts count in full, because this may
    /// be their last owner.
    #[must_use]
    pub fn weight(&self) -> usize {
        let optional = [
            self.payload.explicit_content_type(),
            self.key.as_ref(),
            self.source.as_ref(),
            self.trace.as_ref().and_then(|trace| trace.state.as_ref()),
        ];
        let texts = optional.into_iter().flatten().map(|text| shared(text));
        let names = shared(self.event_type.as_str())
            + self
                .channel
                .as_ref()
                .map_or(0, |name| shared(name.as_str()));
        let key = self.idempotency_key.as_ref().map_or(0, |key| {
            allocated(COUNTS + size_of::<IdempotencyKey>())
                + shared(&key.publisher)
                + allocated(key.key.len())
        });
        key + allocated(COUNTS + size_of::<Event>())
            + allocated(self.payload.data().len())
            + names
            + texts.sum::<usize>()
            + self.headers.weight()
            + self
                .audience
                .as_ref()
                .map_or(0, |audience| audience.weight())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::event::{
        AcceptedAt, ChannelName, ConnectionId, EventType, Headers, Payload, Timestamp, TraceContext,
    };

    fn draft() -> Draft {
        let now = Timestamp::now();
        Draft {
            id: Draft::new_id(now),
            channel: Some(ChannelName::new("a:1").unwrap()),
            event_type: EventType::new("tick").unwrap(),
            payload: Payload::new(Bytes::from_static(b"1"), "").unwrap(),
            headers: Headers::default(),
            key: None,
            idempotency_key: None,
            audience: None,
            source: None,
            time: now,
            trace: None,
            accepted: AcceptedAt::now(),
        }
    }

    fn keyed(publisher: &str) -> Arc<IdempotencyKey> {
        let key = IdempotencyKey {
            publisher: publisher.into(),
            key: "k".into(),
        };
        Arc::new(key)
    }

    #[test]
    fn all_publisher_controlled_parts_count() {
        let long = "x".repeat(5000);
        let text = || Some(Arc::<str>::from(&*long));
        let pairs = || Headers::new([("h".to_owned(), long.clone())]).unwrap();
        let trace = TraceContext {
            trace_id: 1,
            span_id: 1,
            sampled: false,
            state: text(),
        };
        let payload = Payload::new(Bytes::from(long.clone()), "image/png").unwrap();
        let users = vec![Arc::<str>::from(&*long)];
        let ids = vec![ConnectionId::new(0, 0, 0); 5000 / size_of::<ConnectionId>() + 1];
        let of = |audience| Some(Arc::new(audience));
        let heavy = [
            ("payload", Draft { payload, ..draft() }),
            (
                "headers",
                Draft {
                    headers: pairs(),
                    ..draft()
                },
            ),
            (
                "key",
                Draft {
                    key: text(),
                    ..draft()
                },
            ),
            (
                "idempotency_key",
                Draft {
                    idempotency_key: Some(keyed(&long)),
                    ..draft()
                },
            ),
            (
                "source",
                Draft {
                    source: text(),
                    ..draft()
                },
            ),
            (
                "trace",
                Draft {
                    trace: Some(trace),
                    ..draft()
                },
            ),
            (
                "users",
                Draft {
                    audience: of(Audience {
                        users: users.clone(),
                        ..Audience::default()
                    }),
                    ..draft()
                },
            ),
            (
                "roles",
                Draft {
                    audience: of(Audience {
                        roles: users,
                        ..Audience::default()
                    }),
                    ..draft()
                },
            ),
            (
                "connections",
                Draft {
                    audience: of(Audience {
                        connections: ids.clone(),
                        ..Audience::default()
                    }),
                    ..draft()
                },
            ),
            (
                "except_connections",
                Draft {
                    audience: of(Audience {
                        except_connections: ids,
                        ..Audience::default()
                    }),
                    ..draft()
                },
            ),
        ];
        let plain = draft().weight();
        assert!(plain < 600, "{plain}");
        for (what, draft) in heavy {
            let weight = draft.weight();
            assert!(weight >= plain + 5000, "{what}: {weight}");
            assert_eq!(Event::new(draft, None).weight(), weight, "{what}");
        }
    }

    #[test]
    fn payload_does_not_pin_request_buffer() {
        let buffer = Bytes::from(vec![b'1'; 1 << 20]);
        for content_type in ["", "text/plain"] {
            let payload = Payload::new(buffer.slice(0..10), content_type).unwrap();
            assert_eq!(payload.data().len(), 10);
            assert!(
                payload.data().is_unique(),
                "it must not keep the request's buffer alive"
            );
        }
    }
}
