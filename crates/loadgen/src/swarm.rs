//! The subscribers: threads with one epoll loop each, sockets without tasks.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Protocol, Socket, Type};
use tidings_websocket::client::frame::client_frame;
use tidings_websocket::client::handshake;
use tidings_websocket::frame::Opcode;

use crate::clock;
use crate::connection::{Connection, Left, Outcome, READ_BYTES, State};
use crate::error::{Error, Result};
use crate::payload::NAMESPACE;
use crate::progress::Progress;
use crate::subscriber::Subscriber;
use crate::tally::Tally;
use crate::token::{Secret, Tokens};
use crate::type_filter::TypeFilter;

/// How often a thread checks whether it should stop.
const TURN: Duration = Duration::from_millis(50);

/// The plan of the subscribers.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The server's address.
    pub address: SocketAddr,
    /// The `Host` header.
    pub host: String,
    /// The request's path.
    pub path: String,
    /// The number of connections, over all threads. Number `i` subscribes to channel `i %
    /// channels`.
    pub connections: usize,
    /// The number of channels.
    pub channels: usize,
    /// The number of distinct filters: number `i` has filter `i % filters`. 0: none.
    pub filters: u32,
    /// How many may be connecting at once, over all threads.
    pub connecting: usize,
    /// The number of loopback source addresses: 127.0.0.1, 127.0.0.2, …
    pub sources: u8,
    /// The number of publishing tasks.
    pub tasks: usize,
    /// Their tokens.
    pub tokens: Tokens,
}

/// Starts `threads` threads that carry out `plan` until [`Progress::stop`].
///
/// # Errors
///
/// If a thread or its epoll instance can't be created.
pub fn start(
    plan: &Plan,
    threads: usize,
    progress: &Arc<Progress>,
) -> Result<Vec<JoinHandle<Tally>>> {
    let failed = |error: io::Error| Error::new(format!("can't start a thread: {error}"));
    let mut handles = Vec::with_capacity(threads);
    for first in 0..threads {
        let mut worker = Worker {
            poll: Poll::new().map_err(failed)?,
            numbers: (first..plan.connections).step_by(threads),
            connecting: plan.connecting.div_ceil(threads).max(1),
            opening: 0,
            slots: Vec::new(),
            buffer: vec![0; READ_BYTES],
            tally: Tally::new(Arc::clone(progress)),
            progress: Arc::clone(progress),
            plan: plan.clone(),
        };
        let thread = std::thread::Builder::new().name(format!("subscribers-{first}"));
        handles.push(
            thread
                .spawn(move || {
                    worker.run();
                    worker.finish()
                })
                .map_err(failed)?,
        );
    }
    Ok(handles)
}

struct Worker {
    plan: Plan,
    progress: Arc<Progress>,
    poll: Poll,
    /// Connections that are still to be opened.
    numbers: std::iter::StepBy<std::ops::Range<usize>>,
    connecting: usize,
    opening: usize,
    /// Every opened connection, by its token; empty once it has ended.
    slots: Vec<Option<Connection>>,
    buffer: Vec<u8>,
    tally: Tally,
}

impl Worker {
    fn run(&mut self) {
        let mut events = Events::with_capacity(1024);
        while !self.progress.stopped() {
            while self.opening < self.connecting {
                let Some(number) = self.numbers.next() else {
                    break;
                };
                match self.open(number) {
                    Ok(()) => self.opening += 1,
                    Err(error) => self.never_ready(format!("can't connect: {error}")),
                }
            }
            match self.poll.poll(&mut events, Some(TURN)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return self.tally.sample(format!("epoll: {error}")),
            }
            self.tally.refresh();
            for event in &events {
                self.handle(event);
            }
        }
    }

    fn open(&mut self, number: usize) -> io::Result<()> {
        let address = self.plan.address;
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if address.is_ipv4() && address.ip().is_loopback() {
            let source = number % usize::from(self.plan.sources.max(1)) + 1;
            let last = u8::try_from(source).unwrap_or(1);
            let ip = IpAddr::V4(Ipv4Addr::new(127, 0, 0, last));
            socket.bind(&SocketAddr::new(ip, 0).into())?;
        }
        match socket.connect(&address.into()) {
            Ok(()) => {}
            Err(error)
                if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
        let mut stream = TcpStream::from_std(socket.into());
        let token = Token(self.slots.len());
        self.poll.registry().register(
            &mut stream,
            token,
            Interest::READABLE | Interest::WRITABLE,
        )?;
        let channel = number % self.plan.channels.max(1);
        let subscriber = Subscriber::new(channel, TypeFilter::of(number, self.plan.filters));
        self.slots.push(Some(Connection::new(
            stream,
            number,
            subscriber,
            clock::now(),
        )));
        Ok(())
    }

    fn handle(&mut self, event: &Event) {
        let token = event.token();
        let Some(connection) = connection_of(&mut self.slots, token) else {
            return;
        };
        if connection.state == State::Connecting
            && let Err(error) = upgrade(connection, &self.plan, &self.poll, token)
        {
            return self.over(token, None, &format!("can't connect: {error}"));
        }
        if !event.is_readable() && !event.is_read_closed() {
            return;
        }
        loop {
            let Some(connection) = connection_of(&mut self.slots, token) else {
                return;
            };
            if connection.state == State::Connecting {
                return;
            }
            let (outcome, socket) = connection.read(&mut self.buffer, &mut self.tally);
            match outcome {
                Outcome::Goes => {}
                Outcome::Upgraded => self.subscribe(token),
                Outcome::Subscribed => self.ready(token),
                Outcome::Over(code, reason) => return self.over(token, code, &reason),
            }
            // A short read has emptied the socket; the end of the stream is only reported by
            // another read.
            match socket {
                Left::Nothing => return,
                Left::ProbablyNothing if !event.is_read_closed() => return,
                Left::ProbablyNothing | Left::Maybe => {}
            }
        }
    }

    fn subscribe(&mut self, token: Token) {
        let Some(connection) = connection_of(&mut self.slots, token) else {
            return;
        };
        connection.state = State::Subscribing;
        connection.subscriber.begin(self.plan.tasks);
        let channel = connection.subscriber.channel;
        let filter = connection.subscriber.filter.expression();
        let filter = filter.map_or(String::new(), |text| format!(r#","filter":"{text}""#));
        let text =
            format!(r#"{{"type":"subscribe","channels":["{NAMESPACE}:{channel}"]{filter}}}"#);
        if let Err(error) = connection.send(&client_frame(Opcode::Text, text.as_bytes())) {
            self.over(token, None, &error.to_string());
        }
    }

    fn ready(&mut self, token: Token) {
        let Some(connection) = connection_of(&mut self.slots, token) else {
            return;
        };
        if connection.state == State::Ready {
            return;
        }
        connection.state = State::Ready;
        self.opening = self.opening.saturating_sub(1);
        let now = clock::now();
        self.tally
            .setup
            .record(now.saturating_sub(connection.started));
        let subscriber = &connection.subscriber;
        self.progress
            .connection_ready(subscriber.channel, subscriber.filter, now);
    }

    fn over(&mut self, token: Token, code: Option<u16>, reason: &str) {
        let Some(connection) = self.slots.get_mut(token.0).and_then(Option::take) else {
            return;
        };
        if connection.state == State::Ready {
            *self.tally.closes.entry(code.unwrap_or(0)).or_default() += 1;
            self.tally
                .sample(format!("closed with {}: {reason}", code.unwrap_or(0)));
            let subscriber = connection.subscriber;
            self.progress
                .connection_lost(subscriber.channel, subscriber.filter);
            self.tally.seen.push(subscriber.seen(false));
        } else {
            self.opening = self.opening.saturating_sub(1);
            self.never_ready(reason.to_owned());
        }
    }

    fn never_ready(&mut self, reason: String) {
        self.tally.failed += 1;
        self.tally.sample(reason);
        self.progress.connection_failed();
    }

    /// Closes the open connections and returns the counts.
    fn finish(&mut self) -> Tally {
        let goodbye = client_frame(Opcode::Close, &1000u16.to_be_bytes());
        for mut connection in self.slots.drain(..).flatten() {
            if connection.state != State::Ready {
                self.tally.failed += 1;
                self.tally.sample("no answer until the end".to_owned());
                continue;
            }
            if connection.send(&goodbye).is_err() {
                self.tally
                    .sample("a connection could not be closed in order".to_owned());
            }
            self.tally.seen.push(connection.subscriber.seen(true));
        }
        std::mem::replace(&mut self.tally, Tally::new(Arc::clone(&self.progress)))
    }
}

fn connection_of(slots: &mut [Option<Connection>], token: Token) -> Option<&mut Connection> {
    slots.get_mut(token.0).and_then(Option::as_mut)
}

/// Sends the handshake once the socket is connected.
fn upgrade(connection: &mut Connection, plan: &Plan, poll: &Poll, token: Token) -> io::Result<()> {
    if let Some(error) = connection.stream.take_error()? {
        return Err(error);
    }
    match connection.stream.peer_addr() {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(()),
        Err(error) => return Err(error),
    }
    let name = format!("bench-{}", connection.number);
    let bearer = plan.tokens.token(&name).map_err(io::Error::other)?;
    let request = handshake::request(&plan.host, &plan.path, bearer.as_ref().map(Secret::expose));
    connection.send(request.as_bytes())?;
    connection.state = State::Upgrading;
    poll.registry()
        .reregister(&mut connection.stream, token, Interest::READABLE)
}
