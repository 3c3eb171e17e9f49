//! Stubs of the hub files' imports from the rest of the program.

pub(crate) mod command {
    /// Anything but an event.
    #[derive(Default)]
    pub struct ShardCommand;
}

pub(crate) mod error {
    /// Why a connection ended.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct CloseCode;
}

pub(crate) mod event {
    use std::sync::Arc;

    /// Names a connection.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct ConnectionId;

    /// The part of an event that a delivery uses.
    pub struct Event {
        pub trace: Option<TraceContext>,
        pub weight: usize,
    }

    impl Event {
        pub fn weight(&self) -> usize {
            self.weight
        }

        pub fn payload_len(&self) -> usize {
            0
        }
    }

    /// A trace.
    pub struct TraceContext;

    /// A channel.
    #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
    pub struct ChannelName(pub Arc<str>);

    impl ChannelName {
        pub fn as_str(&self) -> &str {
            &self.0
        }

        pub fn namespace(&self) -> &str {
            self.0.split(':').next().unwrap()
        }
    }

    /// One channel, all of a namespace, or all.
    #[derive(Debug, Clone)]
    pub enum ChannelPattern {
        Exact(ChannelName),
        Namespace(Arc<str>),
        All,
    }
}

pub(crate) mod telemetry {
    /// Ends when the last shard has finished, with the counts of all shards.
    pub struct FanoutSpan(pub Box<dyn FnOnce([u64; 4]) + Send + Sync>);

    impl FanoutSpan {
        pub fn context(&self) -> &super::event::TraceContext {
            &super::event::TraceContext
        }

        pub fn finish(self, subscribers: u64, delivered: u64, filtered: u64, dropped: u64) {
            (self.0)([subscribers, delivered, filtered, dropped]);
        }
    }
}

pub(crate) mod protocol {
    use bytes::Bytes;

    use crate::dialect_ids::DialectId;
    use crate::event::Event;

    /// Makes frames.
    pub trait Protocol: Send + Sync {
        fn dialect(&self) -> DialectId;
        fn event(&self, event: &Event) -> Bytes;

        fn event_to_confirm(&self, event: &Event) -> Option<Bytes> {
            let _ = event;
            None
        }
    }
}

pub(crate) mod shard {
    /// The state of a shard: the number of processed items.
    #[derive(Default)]
    pub struct Shard {
        pub done: usize,
    }
}

pub(crate) mod hub {
    use crate::event::ConnectionId;
    use crate::pipe::PipeOwner;
    use crate::sync::{Mutex, Waker};

    /// The hub of a model with one shard: records the notifications of the shard.
    pub struct Hub {
        pub notified: Mutex<Notified>,
        pub waker: Waker,
    }

    #[derive(Default)]
    pub struct Notified {
        pub refills: usize,
        pub gone: usize,
    }

    impl Hub {
        pub(crate) fn new() -> Self {
            Hub {
                notified: Mutex::new(Notified::default()),
                waker: Waker::new(),
            }
        }
    }

    impl PipeOwner for Hub {
        fn pipe_drained(&self, _: ConnectionId) {
            self.told.lock().unwrap().refills += 1;
            self.waker.wake().unwrap();
        }

        fn pipe_closed(&self, _: ConnectionId) {
            self.told.lock().unwrap().gone += 1;
            self.waker.wake().unwrap();
        }
    }
}
