//! A connection for the unit tests of a shard's parts.

use std::sync::Arc;

use bytes::Bytes;

use super::ConnCtx;
use crate::auth::Identity;
use crate::error::CloseCode;
use crate::event::{Event, Timestamp};
use crate::hub::dialect_ids::DialectId;
use crate::hub::pipe::Pipe;
use crate::hub::protocol::{Notice, Protocol};
use crate::hub::shard::connection::Connection;
use crate::hub::shard::connection_io::Link;
use crate::telemetry::Transport;

/// A codec that encodes nothing.
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

/// A connection with a pipe that is never read.
pub(super) fn connection(user: Option<&str>) -> Connection {
    let (pipe, _reader) = Pipe::new();
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
    Connection {
        identity: user.map(|user| Arc::new(Identity::trusted(user))),
        ..Connection::new(1, Link::Pipe(pipe), Arc::new(Silent), address)
    }
}
