//! A connection for the unit tests of a shard's parts.

use std::sync::Arc;

use bytes::Bytes;

use super::ConnCtx;
use crate::auth::Identity;
use crate::error::CloseCode;
use crate::event::{Event, Timestamp};
use crate::hub::delivery::DialectId;
use crate::hub::pipe::Pipe;
use crate::hub::protocol::{Notice, Protocol};
use crate::hub::shard::connection::{Connection, Flags, Subscriptions};
use crate::hub::shard::connection_io::Link;
use crate::hub::shard::outbox::Outbox;
use crate::telemetry::Transport;

/// A codec that says nothing.
struct Silent;

impl Protocol for Silent {
    fn transport(&self) -> Transport {
        Transport::Sse
    }

    fn dialect(&self) -> DialectId {
        DialectId::SSE
    }

    fn event(&self, _: &Event) -> Bytes {
        Bytes::new()
    }

    fn notice(&self, _: &Notice<'_>) -> Option<Bytes> {
        None
    }

    fn heartbeat(&self, _: Timestamp) -> Bytes {
        Bytes::new()
    }

    fn close(&self, _: CloseCode, _: &str) -> Bytes {
        Bytes::new()
    }

    fn received(&self, _: &mut ConnCtx<'_>, input: &mut [u8]) -> usize {
        input.len()
    }
}

/// A connection with a pipe that nobody reads.
pub(super) fn connection(user: Option<&str>) -> Connection {
    let (pipe, _reader) = Pipe::new();
    let identity = user.map(|user| Arc::new(Identity::trusted(user)));
    Connection {
        nonce: 1,
        link: Link::Pipe(pipe),
        dialect: DialectId::SSE,
        transport: Transport::Sse,
        protocol: Arc::new(Silent),
        identity,
        cold: None,
        address: std::net::SocketAddr::from(([127, 0, 0, 1], 9)).into(),
        outbox: Outbox::default(),
        partial: None,
        subscriptions: Subscriptions::default(),
        recoveries: None,
        ending: None,
        connected_at: 0,
        last_seen: 0,
        last_ping: 0,
        timer: 0,
        last_batch: 0,
        covered: 0,
        next_message: 0,
        delivered: 0,
        bytes_in: 0,
        bytes_out: 0,
        dropped: 0,
        round_trip_us: 0,
        refused_messages: 0,
        unjudged: false,
        flags: Flags::default(),
    }
}
