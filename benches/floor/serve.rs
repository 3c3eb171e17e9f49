//! The WebSocket baseline: an epoll loop, prepared frames, one write per socket.

use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use tidings_loadgen::payload::{EVENT_TYPE, NAMESPACE};
use tidings_websocket::frame::{self, Opcode, write_header};
use tidings_websocket::handshake::accept_key;

use crate::{Failure, FloorArgs};

const SUBSCRIBERS: Token = Token(0);
const PUBLISHERS: Token = Token(1);
const FIRST_PEER: usize = 2;
const TURN: Duration = Duration::from_millis(200);
const READ_BYTES: usize = 256 << 10;
/// A peer that sends more than this without a valid message is dropped.
const MAX_INPUT: usize = 4 << 20;
/// A subscriber that lags this far behind is dropped.
const MAX_BACKLOG: usize = 64 << 20;
const MAX_CHANNELS: usize = 200_000;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    floor_args: FloorArgs,
    /// Bytes of an event's message around its data, to match Tidings' own
    #[arg(long, default_value_t = 180)]
    envelope: usize,
    /// Events for one channel that may be written at once
    #[arg(long, default_value_t = 1)]
    batch: usize,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let mut poll = Poll::new()?;
    let mut subscribers = TcpListener::bind(args.floor_args.listen)?;
    let mut control_address = args.floor_args.listen;
    control_address.set_port(0);
    let mut publishers = TcpListener::bind(control_address)?;
    let mut floor = Floor {
        registry: poll.registry().try_clone()?,
        peers: Vec::new(),
        channels: Vec::new(),
        buffer: vec![0; READ_BYTES],
        output: Vec::new(),
        envelope: args.envelope,
        batch: args.batch.max(1),
    };
    floor.envelope_for(MAX_CHANNELS - 1)?;
    floor
        .registry
        .register(&mut subscribers, SUBSCRIBERS, Interest::READABLE)?;
    floor
        .registry
        .register(&mut publishers, PUBLISHERS, Interest::READABLE)?;
    args.floor_args
        .ready(subscribers.local_addr()?, publishers.local_addr()?)?;
    let end = Instant::now() + args.floor_args.lifetime();
    let mut events = Events::with_capacity(1024);
    while Instant::now() < end {
        match poll.poll(&mut events, Some(TURN)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        for event in &events {
            match event.token() {
                SUBSCRIBERS => floor.accept(&subscribers, Role::Handshake)?,
                PUBLISHERS => floor.accept(&publishers, Role::Publisher)?,
                Token(token) => {
                    let number = token - FIRST_PEER;
                    let result = floor.ready(number, event.is_readable(), event.is_writable());
                    if result.is_err() {
                        floor.drop_peer(number);
                    }
                }
            }
        }
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Handshake,
    Subscriber(Option<usize>),
    Publisher,
}

struct Peer {
    stream: TcpStream,
    role: Role,
    input: Vec<u8>,
    backlog: Vec<u8>,
}

struct Floor {
    registry: mio::Registry,
    peers: Vec<Option<Peer>>,
    /// The subscribers of each channel.
    channels: Vec<Vec<usize>>,
    buffer: Vec<u8>,
    output: Vec<u8>,
    envelope: usize,
    batch: usize,
}

impl Floor {
    fn accept(&mut self, listener: &TcpListener, role: Role) -> io::Result<()> {
        loop {
            let mut stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let token = Token(self.peers.len() + FIRST_PEER);
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.registry.register(&mut stream, token, interest)?;
            self.peers.push(Some(Peer {
                stream,
                role,
                input: Vec::new(),
                backlog: Vec::new(),
            }));
        }
    }

    fn drop_peer(&mut self, number: usize) {
        let peer = self.peers.get_mut(number).and_then(Option::take);
        if let Some(Role::Subscriber(Some(channel))) = peer.map(|peer| peer.role)
            && let Some(members) = self.channels.get_mut(channel)
        {
            members.retain(|member| *member != number);
        }
    }

    fn ready(&mut self, number: usize, readable: bool, writable: bool) -> io::Result<()> {
        let Some(peer) = self.peers.get_mut(number).and_then(Option::as_mut) else {
            return Ok(());
        };
        if writable && !peer.backlog.is_empty() {
            let backlog = std::mem::take(&mut peer.backlog);
            peer.write(&backlog)?;
        }
        if readable { self.read(number) } else { Ok(()) }
    }

    fn read(&mut self, number: usize) -> io::Result<()> {
        loop {
            let Some(peer) = self.peers.get_mut(number).and_then(Option::as_mut) else {
                return Ok(());
            };
            match peer.stream.read(&mut self.buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => peer
                    .input
                    .extend_from_slice(self.buffer.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            if peer.input.len() > MAX_INPUT {
                return Err(ErrorKind::InvalidData.into());
            }
            match peer.role {
                Role::Handshake => peer.upgrade()?,
                Role::Subscriber(_) => self.subscribe(number)?,
                Role::Publisher => self.publish(number)?,
            }
        }
    }

    fn subscribe(&mut self, number: usize) -> io::Result<()> {
        while let Some(peer) = self.peers.get_mut(number).and_then(Option::as_mut) {
            let Some((text, length)) = client_text(&peer.input) else {
                return Ok(());
            };
            peer.input.drain(..length);
            let Some(channel) = channel_in(&text) else {
                continue;
            };
            let reply = format!(
                r#"{{"type":"subscribed","channels":[{{"channel":"{NAMESPACE}:{channel}","recovered":false,"replayed":0}}],"errors":[]}}"#
            );
            peer.role = Role::Subscriber(Some(channel));
            peer.write(&frame::text(reply.as_bytes()))?;
            if self.channels.len() <= channel {
                self.channels.resize_with(channel + 1, Vec::new);
            }
            if let Some(members) = self.channels.get_mut(channel) {
                members.push(number);
            }
        }
        Ok(())
    }

    /// Reads all complete events from the publisher and writes them to their channels' sockets.
    fn publish(&mut self, number: usize) -> io::Result<()> {
        let Some(peer) = self.peers.get_mut(number).and_then(Option::as_mut) else {
            return Ok(());
        };
        let input = std::mem::take(&mut peer.input);
        let mut rest = input.as_slice();
        let mut gathered = 0;
        while let Some((channel, data, after)) = command(rest) {
            rest = after;
            self.append(channel, data)?;
            gathered += 1;
            let more_of_it = command(rest).is_some_and(|(next, _, _)| next == channel);
            if gathered == self.batch || !more_of_it {
                self.deliver(channel);
                self.acknowledge(number, gathered)?;
                gathered = 0;
            }
        }
        let kept = rest.len();
        let mut input = input;
        input.drain(..input.len() - kept);
        if let Some(peer) = self.peers.get_mut(number).and_then(Option::as_mut) {
            peer.input = input;
        }
        Ok(())
    }

    fn append(&mut self, channel: usize, data: &[u8]) -> io::Result<()> {
        let (before, after) = self.envelope_for(channel)?;
        let length = before.len() + data.len() + after.len();
        write_header(&mut self.output, Opcode::Text, false, length);
        for part in [before.as_bytes(), data, after.as_bytes()] {
            self.output.extend_from_slice(part);
        }
        Ok(())
    }

    /// The text around the data, with as many bytes as requested.
    fn envelope_for(&self, channel: usize) -> io::Result<(String, &'static str)> {
        let bare = |pad: &str| {
            format!(
                r#"{{"type":"{EVENT_TYPE}","channel":"{NAMESPACE}:{channel}","pad":"{pad}","data":"#
            )
        };
        let missing = self
            .envelope
            .checked_sub(bare("").len() + 1)
            .ok_or_else(|| {
                io::Error::new(
                    ErrorKind::InvalidInput,
                    "--envelope is too short for the channel's name",
                )
            })?;
        Ok((bare(&"-".repeat(missing)), "}"))
    }

    fn deliver(&mut self, channel: usize) {
        let members = self
            .channels
            .get_mut(channel)
            .map(std::mem::take)
            .unwrap_or_default();
        let mut gone = Vec::new();
        for member in &members {
            let peer = self.peers.get_mut(*member).and_then(Option::as_mut);
            if peer.is_some_and(|peer| peer.write(&self.output).is_err()) {
                gone.push(*member);
            }
        }
        self.output.clear();
        if let Some(place) = self.channels.get_mut(channel) {
            *place = members;
        }
        for member in gone {
            self.drop_peer(member);
        }
    }

    fn acknowledge(&mut self, number: usize, count: usize) -> io::Result<()> {
        match self.peers.get_mut(number).and_then(Option::as_mut) {
            Some(peer) => peer.write(&vec![1; count]),
            None => Ok(()),
        }
    }
}

impl Peer {
    /// Writes what the socket accepts now, and the rest when it is writable again.
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while self.backlog.is_empty() && !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if self.backlog.len() + bytes.len() > MAX_BACKLOG {
            return Err(io::Error::other("too far behind"));
        }
        self.backlog.extend_from_slice(bytes);
        Ok(())
    }

    fn upgrade(&mut self) -> io::Result<()> {
        if !self.input.ends_with(b"\r\n\r\n") {
            return Ok(());
        }
        let request = String::from_utf8_lossy(&self.input).into_owned();
        let key = request
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find_map(|(name, value)| {
                name.eq_ignore_ascii_case("sec-websocket-key")
                    .then(|| value.trim())
            });
        let key = key.ok_or(ErrorKind::InvalidData)?;
        let reply = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n\r\n",
            accept_key(key).to_str().unwrap_or_default()
        );
        self.input = Vec::new();
        self.role = Role::Subscriber(None);
        self.write(reply.as_bytes())
    }
}

/// The first client frame of at most 65,535 bytes, unmasked, and its length in `input`.
fn client_text(input: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (header, length) = match input.get(1)? & 0x7f {
        126 => (
            4,
            usize::from(u16::from_be_bytes(*input.get(2..)?.first_chunk()?)),
        ),
        short => (2, usize::from(short)),
    };
    let key: &[u8; 4] = input.get(header..)?.first_chunk()?;
    let end = header + key.len() + length;
    let body = input.get(header + key.len()..end)?;
    Some((
        body.iter()
            .zip(key.iter().cycle())
            .map(|(byte, key)| byte ^ key)
            .collect(),
        end,
    ))
}

/// The number of the channel `bench:<number>` in `text`.
fn channel_in(text: &[u8]) -> Option<usize> {
    let (_, after) = std::str::from_utf8(text)
        .ok()?
        .split_once(&format!("\"{NAMESPACE}:"))?;
    let number: usize = after.split_once('"')?.0.parse().ok()?;
    (number < MAX_CHANNELS).then_some(number)
}

/// A publisher's first event: its channel, its data and the rest.
fn command(input: &[u8]) -> Option<(usize, &[u8], &[u8])> {
    let (channel, rest) = input.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let number = |bytes: &[u8; 4]| usize::try_from(u32::from_be_bytes(*bytes)).ok();
    let (data, rest) = rest.split_at_checked(number(length)?)?;
    Some((number(channel)?, data, rest))
}
