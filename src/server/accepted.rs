//! What a new socket says first.

use std::io::{self, Read};
use std::time::Duration;

use bytes::Bytes;
use mio::net::TcpStream as Unwatched;
use tokio::net::TcpStream as Watched;

use crate::net::to_mio;

/// How much is read at once, in bytes. A head that is longer is left to HTTP.
const FIRST: usize = 4096;
/// How long the first bytes are waited for here. Who takes longer is left to HTTP.
pub(super) const PEEK_TIMEOUT: Duration = Duration::from_secs(1);

/// A socket that has just been accepted.
pub(super) enum Accepted {
    /// The runtime doesn't watch it, which is spared when a shard takes it over at once.
    Unwatched(Unwatched),
    /// The runtime watches it.
    Watched(Watched),
}

impl Accepted {
    /// The first bytes of the socket, at most 4 KiB: those that are there already, or come soon.
    /// Empty where none have come.
    ///
    /// # Errors
    /// The client has gone, the socket broke, or it can't be watched.
    pub(super) async fn peek(mut self) -> io::Result<(Self, Bytes)> {
        if let Accepted::Unwatched(socket) = &mut self {
            match read(|buffer| socket.read(buffer)) {
                Err(error) if is_early(&error) => {}
                said => return Ok((self, said?)),
            }
        }
        let socket = self.watched()?;
        let said = match tokio::time::timeout(PEEK_TIMEOUT, socket.readable()).await {
            Ok(readable) => {
                readable?;
                match read(|buffer| socket.try_read(buffer)) {
                    Err(error) if is_early(&error) => Bytes::new(),
                    said => said?,
                }
            }
            Err(_) => Bytes::new(),
        };
        Ok((Accepted::Watched(socket), said))
    }

    /// The socket, watched by the runtime, within which this is to be called.
    ///
    /// # Errors
    /// It can't be watched.
    pub(super) fn watched(self) -> io::Result<Watched> {
        match self {
            Accepted::Unwatched(socket) => Watched::from_std(socket.into()),
            Accepted::Watched(socket) => Ok(socket),
        }
    }

    /// The socket for a shard to watch. `None` where it can't be taken over, which is logged.
    pub(super) fn unwatched(self) -> Option<Unwatched> {
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
        // A client that has gone needs no HTTP.
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Bytes::copy_from_slice(
        buffer.get(..count).unwrap_or_default(),
    ))
}
