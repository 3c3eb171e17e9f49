//! Extracts the socket from an upgraded connection.

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::prefixed_io::PrefixedIo;
use crate::hub::Link;
use crate::net::timeout_io::TimeoutIo;

/// The socket of an upgraded connection, and the bytes that were already read from it. All memory
/// of the HTTP connection is released. `None` if the socket cannot be taken over, which is logged.
#[must_use]
pub fn bare_socket(upgraded: Upgraded) -> Option<(Link, Vec<u8>)> {
    let upgraded = match upgraded.downcast::<TokioIo<TimeoutIo<PrefixedIo<TcpStream>>>>() {
        Ok(parts) => {
            let (socket, unread) = parts.io.into_inner().into_inner().into_parts();
            let early = [parts.read_buf, unread].concat();
            return Some((Link::Socket(to_mio(socket)?), early));
        }
        Err(upgraded) => upgraded,
    };
    let Ok(parts) = upgraded.downcast::<TokioIo<TimeoutIo<TlsStream<TcpStream>>>>() else {
        tracing::warn!("an upgraded connection has an unknown type");
        return None;
    };
    let early = parts.read_buf.to_vec();
    let (socket, tls) = parts.io.into_inner().into_inner().into_inner();
    Some((Link::Tls(to_mio(socket)?, Box::new(tls)), early))
}

/// Deregisters the socket from the runtime. `None` if it cannot be taken over, which is logged.
#[must_use]
pub fn to_mio(socket: TcpStream) -> Option<mio::net::TcpStream> {
    match socket.into_std() {
        Ok(socket) => Some(mio::net::TcpStream::from_std(socket)),
        Err(error) => {
            tracing::warn!(%error, "a socket could not be taken over");
            None
        }
    }
}
