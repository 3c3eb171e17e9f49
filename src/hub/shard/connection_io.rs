//! The IO of a connection: a socket that the shard owns, or a pipe to another task.

use std::io::{self, IoSlice, Read, Write};

use bytes::Bytes;
use mio::net::TcpStream;
use tokio_rustls::rustls::ServerConnection;

use super::outbox::{MAX_SLICES, Outbox, QueuePool};
use crate::error::CloseCode;
use crate::hub::pipe::Pipe;

/// A connection's IO: both directions of a socket, or the outgoing one of a pipe.
pub enum Link {
    /// A plain socket.
    Socket(TcpStream),
    /// A socket under TLS.
    Tls(TcpStream, Box<ServerConnection>),
    /// A stream that another task sends.
    Pipe(Pipe),
}

/// The result of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Got {
    /// This many bytes.
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// The client has closed its side, or the connection broke.
    End,
}

/// The result of flushing an outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flushed {
    /// The bytes written.
    pub bytes: usize,
    /// False if the connection broke.
    pub alive: bool,
}

impl Link {
    /// The socket, if there is one.
    pub fn socket(&mut self) -> Option<&mut TcpStream> {
        match self {
            Link::Socket(socket) | Link::Tls(socket, _) => Some(socket),
            Link::Pipe(_) => None,
        }
    }

    /// The socket, if it can be written directly (without TLS).
    pub fn plain(&self) -> Option<&TcpStream> {
        match self {
            Link::Socket(socket) => Some(socket),
            Link::Tls(..) | Link::Pipe(_) => None,
        }
    }

    /// Reads available bytes.
    pub fn read(&mut self, buffer: &mut [u8]) -> Got {
        let read = match self {
            Link::Socket(socket) => socket.read(buffer),
            Link::Tls(socket, tls) => return read_tls(socket, tls, buffer),
            Link::Pipe(_) => return Got::Nothing,
        };
        match read {
            Ok(0) => Got::End,
            Ok(count) => Got::Bytes(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Got::Nothing,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.read(buffer),
            Err(_) => Got::End,
        }
    }

    /// Writes as much of the outbox as the peer accepts: many frames in one system call.
    pub fn flush(&mut self, outbox: &mut Outbox, pool: &mut QueuePool) -> Flushed {
        match self {
            Link::Socket(socket) => flush_socket(socket, outbox, pool),
            Link::Tls(socket, tls) => flush_tls(socket, tls, outbox, pool),
            Link::Pipe(pipe) => {
                let bytes = pipe.write(|| {
                    let frame = first_frame(outbox)?;
                    outbox.advance(frame.len(), pool);
                    Some(frame)
                });
                Flushed { bytes, alive: true }
            }
        }
    }

    /// True if TLS has bytes that the socket has not accepted.
    pub fn wants_write(&self) -> bool {
        match self {
            Link::Tls(_, tls) => tls.wants_write(),
            Link::Socket(_) | Link::Pipe(_) => false,
        }
    }

    /// Signals the end of sending.
    ///
    /// # Errors
    ///
    /// The client closed before the last byte.
    pub fn finish(&mut self, code: CloseCode, reason: &str) -> io::Result<()> {
        match self {
            Link::Socket(socket) => socket.shutdown(std::net::Shutdown::Write),
            Link::Tls(socket, tls) => {
                tls.send_close_notify();
                let sent = tls.write_tls(socket).map(|_| ());
                sent.and_then(|()| socket.shutdown(std::net::Shutdown::Write))
            }
            Link::Pipe(pipe) => {
                pipe.end(code, reason);
                Ok(())
            }
        }
    }
}

fn first_frame(outbox: &Outbox) -> Option<Bytes> {
    outbox.first().map(|frame| frame.bytes().clone())
}

fn flush_socket(socket: &mut TcpStream, outbox: &mut Outbox, pool: &mut QueuePool) -> Flushed {
    let mut bytes = 0;
    while !outbox.is_empty() {
        let written = match outbox.only() {
            Some(one) => socket.write(one),
            None => write_many(socket, outbox),
        };
        match written {
            Ok(0) => {
                return Flushed {
                    bytes,
                    alive: false,
                };
            }
            Ok(count) => {
                bytes += count;
                outbox.advance(count, pool);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => {
                return Flushed {
                    bytes,
                    alive: false,
                };
            }
        }
    }
    Flushed { bytes, alive: true }
}

fn write_many(socket: &mut TcpStream, outbox: &Outbox) -> io::Result<usize> {
    let mut slices = [IoSlice::new(&[]); MAX_SLICES];
    let filled = outbox.slices(&mut slices);
    socket.write_vectored(slices.get(..filled).unwrap_or_default())
}

/// The most plaintext buffered inside TLS for the socket.
const TLS_WINDOW: usize = 64 * 1024;

fn flush_tls(
    socket: &mut TcpStream,
    tls: &mut ServerConnection,
    outbox: &mut Outbox,
    pool: &mut QueuePool,
) -> Flushed {
    let mut bytes = 0;
    tls.set_buffer_limit(Some(TLS_WINDOW));
    loop {
        while tls.wants_write() {
            match tls.write_tls(socket) {
                Ok(0) => {
                    return Flushed {
                        bytes,
                        alive: false,
                    };
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Flushed { bytes, alive: true };
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    return Flushed {
                        bytes,
                        alive: false,
                    };
                }
            }
        }
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let filled = outbox.slices(&mut slices);
        if filled == 0 {
            return Flushed { bytes, alive: true };
        }
        match tls
            .writer()
            .write_vectored(slices.get(..filled).unwrap_or_default())
        {
            Ok(count) => {
                bytes += count;
                outbox.advance(count, pool);
            }
            Err(_) => {
                return Flushed {
                    bytes,
                    alive: false,
                };
            }
        }
    }
}

fn read_tls(socket: &mut TcpStream, tls: &mut ServerConnection, buffer: &mut [u8]) -> Got {
    loop {
        match tls.reader().read(buffer) {
            Ok(0) => return Got::End,
            Ok(count) => return Got::Bytes(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Got::End,
        }
        match tls.read_tls(socket) {
            Ok(0) => return Got::End,
            Ok(_) => {
                if tls.process_new_packets().is_err() {
                    return Got::End;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Got::Nothing,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Got::End,
        }
    }
}
