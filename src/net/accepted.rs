//! Accepted sockets, and peeking at their first bytes.

use std::io::{self, Read};
use std::time::Duration;

use bytes::Bytes;
use mio::net::TcpStream as Unwatched;
use tokio::net::TcpStream as Watched;

use crate::net::to_mio;

/// The most bytes that one peek reads. A longer request head is left to hyper.
const FIRST: usize = 4096;
/// How long a peek waits for the first bytes. A slower client is left to hyper.
pub(crate) const PEEK_TIMEOUT: Duration = Duration::from_secs(1);

/// A socket that has just been accepted.
pub(crate) enum Accepted {
    /// Not registered with the runtime. This saves the registration if a shard takes it over at
    /// once.
    Unwatched(Unwatched),
    /// Registered with the runtime.
    Watched(Watched),
}

impl Accepted {
    /// The first bytes of the socket, at most 4 KiB, waiting up to [`PEEK_TIMEOUT`] for them. Empty
    /// if none arrive in time.
    ///
    /// # Errors
    /// The client closed the socket, the socket failed, or it cannot be registered.
    pub(crate) async fn peek(mut self) -> io::Result<(Self, Bytes)> {
        if let Accepted::Unwatched(socket) = &mut self {
            match read(|buffer| socket.read(buffer)) {
                Err(error) if is_early(&error) => {}
                result => return Ok((self, result?)),
            }
        }
        let socket = self.watched()?;
        let bytes = match tokio::time::timeout(PEEK_TIMEOUT, socket.readable()).await {
            Ok(readable) => {
                readable?;
                match read(|buffer| socket.try_read(buffer)) {
                    Err(error) if is_early(&error) => Bytes::new(),
                    bytes => bytes?,
                }
            }
            Err(_) => Bytes::new(),
        };
        Ok((Accepted::Watched(socket), bytes))
    }

    /// The socket, registered with the runtime. Must be called within the runtime.
    ///
    /// # Errors
    /// It cannot be registered.
    pub(crate) fn watched(self) -> io::Result<Watched> {
        match self {
            Accepted::Unwatched(socket) => Watched::from_std(socket.into()),
            Accepted::Watched(socket) => Ok(socket),
        }
    }

    /// The socket for a shard to register. `None` if it cannot be taken over, which is logged.
    pub(crate) fn unwatched(self) -> Option<Unwatched> {
        match self {
            Accepted::Unwatched(socket) => Some(socket),
            Accepted::Watched(socket) => to_mio(socket),
        }
    }
}

fn is_early(error: &io::Error) -> bool {
    let kind = error.kind();
    kind == io::ErrorKind::WouldBlock || kind == io::ErrorKind::Interrupted
}

fn read(from: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<Bytes> {
    let mut buffer = [0; FIRST];
    let count = from(&mut buffer)?;
    if count == 0 {
        // The client has closed the socket, so there is nothing to pass to hyper.
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Bytes::copy_from_slice(
        buffer.get(..count).unwrap_or_default(),
    ))
}
