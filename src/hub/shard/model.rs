//! The bus against a model: random schedules of publishing, joining, resuming, dropping, reading
//! slowly, trimming, numbering anew and late answers, on one shard that is turned by hand.
//!
//! Every client keeps the book that a careful client keeps, and checks with each message that
//! nothing was lost without a word, nothing came twice and nothing out of order. At the end it
//! must stand where its channel stands.

use std::collections::{HashMap, HashSet, VecDeque};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use mio::Events;
use proptest::prelude::*;
use tokio::sync::oneshot;
use tokio_stream::Stream;

use super::{ConnCtx, Join, JoinRequest, Opening, Shard, TransportUpgrade};
use crate::auth::Identity;
use crate::broker::{Bounds, Broker, Kept, Memory, Page, Range, Receipt};
use crate::error::CloseCode;
use crate::event::{
    ChannelName, ChannelPattern, ConnectionId, Draft, Epoch, Event, EventType, Headers,
    HistoryPolicy, Namespace, Namespaces, Payload, Position, SlowConsumer, Timestamp,
};
use crate::hub::delivery::DialectId;
use crate::hub::link::Link;
use crate::hub::pipe::{Pipe, PipeReader, Piped};
use crate::hub::protocol::{Joined, Notice, Protocol, Refused};
use crate::hub::shard_cell::Left;
use crate::hub::{Hub, HubParts, Settings};
use crate::maybe_ready::MaybeReady;
use crate::telemetry::{FanoutSpan, Metrics, Tracing, Transport};

/// One channel for each policy.
const CHANNELS: [(&str, SlowConsumer); 4] = [
    ("disconnect:1", SlowConsumer::Disconnect),
    ("oldest:1", SlowConsumer::DropOldest),
    ("conflate:1", SlowConsumer::Conflate),
    ("resync:1", SlowConsumer::Resync),
];
const CLIENTS: usize = 3;
/// Kept events of each channel: few, so that some are always gone.
const KEPT: usize = 24;
/// Large frames and a small outbox, so that a pipe and an outbox fill soon.
const FRAME: usize = 8 * 1024;
const OUTBOX: usize = 5 * FRAME;

/// One step of a schedule.
#[derive(Debug, Clone)]
enum Op {
    /// So many events into a channel, with keys from a few.
    Publish { channel: usize, count: u8, keys: u8 },
    /// A client joins a channel, connecting first if need be: from where it stands, with the
    /// newest few, or from now on.
    Join {
        client: usize,
        channel: usize,
        how: How,
    },
    /// A client leaves a channel.
    Leave { client: usize, channel: usize },
    /// A client's connection breaks; it keeps its book.
    Drop { client: usize },
    /// A client goes on by another way, in another dialect.
    Cross { client: usize },
    /// A client reads so many messages.
    Read { client: usize, count: u8 },
    /// The shard does what there is to do.
    Turn,
    /// A publisher does what it may of that.
    Help,
    /// The broker's reads are answered late from now on, or at once again; what is told is as it
    /// was when it was asked for, or as it is then.
    Late { late: bool, stale: bool },
    /// So many late answers come.
    Answer { count: u8 },
    /// The broker loses everything and numbers anew.
    Renumber,
}

#[derive(Debug, Clone, Copy)]
enum How {
    Now,
    Since,
    Rewind(u8),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let channel = 0..CHANNELS.len();
    let client = 0..CLIENTS;
    let how = prop_oneof![
        3 => Just(How::Now),
        4 => Just(How::Since),
        1 => (0_u8..30).prop_map(How::Rewind),
    ];
    let op = prop_oneof![
        8 => (channel.clone(), 1_u8..12, 1_u8..6)
            .prop_map(|(channel, count, keys)| Op::Publish { channel, count, keys }),
        6 => (client.clone(), channel.clone(), how)
            .prop_map(|(client, channel, how)| Op::Join { client, channel, how }),
        1 => (client.clone(), channel).prop_map(|(client, channel)| Op::Leave { client, channel }),
        2 => client.clone().prop_map(|client| Op::Drop { client }),
        3 => client.clone().prop_map(|client| Op::Cross { client }),
        6 => (client, 1_u8..30).prop_map(|(client, count)| Op::Read { client, count }),
        8 => Just(Op::Turn),
        8 => Just(Op::Help),
        2 => (any::<bool>(), any::<bool>()).prop_map(|(late, stale)| Op::Late { late, stale }),
        4 => (1_u8..4).prop_map(|count| Op::Answer { count }),
        1 => Just(Op::Renumber),
    ];
    proptest::collection::vec(op, 1..80)
}

/// A broker in memory whose reads may be answered late, and that can lose everything.
struct Moody {
    memory: ArcSwap<Memory>,
    make: Box<dyn Fn() -> Memory + Send + Sync>,
    late: AtomicBool,
    stale: AtomicBool,
    waiting: Mutex<VecDeque<oneshot::Sender<()>>>,
    /// What shards follow, once for each shard.
    interest: Mutex<Vec<ChannelPattern>>,
}

impl Broker for Moody {
    fn set_interest(&self, pattern: &ChannelPattern, wanted: bool) {
        let mut interest = self.interest.lock().unwrap();
        if wanted {
            interest.push(pattern.clone());
            return;
        }
        let at = interest.iter().position(|followed| followed == pattern);
        interest.swap_remove(at.expect("a shard stops following what it has followed"));
    }

    fn publish(&self, draft: Draft, span: Option<FanoutSpan>) -> MaybeReady<Receipt> {
        self.memory.load().publish(draft, span)
    }

    fn read(&self, channel: &ChannelName, range: Range) -> MaybeReady<Option<Page>> {
        if !self.late.load(Ordering::Relaxed) {
            return self.memory.load().read(channel, range);
        }
        let (answer, answered) = oneshot::channel();
        self.waiting.lock().unwrap().push_back(answer);
        let (memory, channel) = (self.memory.load_full(), channel.clone());
        let early = self
            .stale
            .load(Ordering::Relaxed)
            .then(|| memory.read(&channel, range));
        MaybeReady::later(async move {
            answered.await.ok();
            match early {
                Some(page) => page.await,
                None => memory.read(&channel, range).await,
            }
        })
    }

    fn list(&self, prefix: &str, after: &str, limit: usize) -> MaybeReady<Vec<Kept>> {
        self.memory.load().list(prefix, after, limit)
    }

    fn exists(&self, channel: &ChannelName) -> bool {
        self.memory.load().exists(channel)
    }

    fn sweep(&self) {
        self.memory.load().sweep();
    }
}

/// A dialect of lines: what happened, the channel and the numbers, and the dialect's own number,
/// padded to the frame's length.
struct Lines(u32);

/// The numbers of the dialects that clients speak: frames of the first have their own place in
/// each event, those of the others share one.
const DIALECTS: [u32; 3] = [0, 40, 72];

fn line(text: String) -> Bytes {
    let mut text = text;
    text.push('\n');
    text.into()
}

impl Protocol for Lines {
    fn transport(&self) -> Transport {
        Transport::Sse
    }

    fn dialect(&self) -> DialectId {
        DialectId::new(self.0)
    }

    fn event(&self, event: &Event) -> Bytes {
        let channel = event.channel.as_ref().unwrap();
        let position = event.position.unwrap();
        let Position { epoch, offset } = position;
        let text = format!("event {channel} {offset} {epoch} {}", self.0);
        line(format!("{text:<width$}", width = FRAME - 1))
    }

    fn notice(&self, notice: &Notice<'_>) -> Option<Bytes> {
        match notice {
            Notice::Gap {
                channel,
                from,
                to,
                reason,
            } => Some(line(format!("gap {channel} {from} {to} {reason}"))),
            Notice::Renumbered { channel, position } => Some(line(format!(
                "subscribed {channel} {} {} false 0",
                position.offset, position.epoch
            ))),
            Notice::Presence { .. }
            | Notice::TokenExpiring { .. }
            | Notice::Reconnect { .. }
            | Notice::Failure(_)
            | Notice::Unsubscribed { .. } => None,
        }
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

/// What a client knows of one channel.
#[derive(Debug, Clone, Copy)]
struct Book {
    epoch: Epoch,
    /// The offset of the last event it has, or knows to be missing.
    at: u64,
}

#[derive(Default)]
struct Client {
    /// The number of what it speaks.
    dialect: u32,
    reader: Option<PipeReader>,
    /// Bytes that are not a whole line yet.
    rest: Vec<u8>,
    /// What it knows of each channel, whether or not it is connected.
    books: HashMap<usize, Book>,
    /// The channels it follows now.
    follows: Vec<usize>,
    /// The positions it asked to resume from, until it is told.
    asked: HashMap<usize, Position>,
    /// The channels that it joined and was not answered for.
    unanswered: HashSet<usize>,
    /// The channels that it followed when it joined them again, until it is told.
    again: HashSet<usize>,
}

impl Client {
    fn lost_connection(&mut self) {
        self.reader = None;
        self.rest.clear();
        self.follows.clear();
        self.asked.clear();
        self.unanswered.clear();
        self.again.clear();
    }

    /// Takes one message; false if there is none.
    fn read(&mut self, world: &World) -> bool {
        let Some(reader) = &mut self.reader else {
            return false;
        };
        let mut cx = Context::from_waker(Waker::noop());
        match Pin::new(reader).poll_next(&mut cx) {
            Poll::Pending | Poll::Ready(None) => false,
            Poll::Ready(Some(Piped::End(code, _))) => {
                assert_eq!(
                    code,
                    CloseCode::TooSlow,
                    "nothing else ends a connection here"
                );
                self.lost_connection();
                true
            }
            Poll::Ready(Some(Piped::Frame(bytes))) => {
                self.rest.extend_from_slice(&bytes);
                while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                    let text: Vec<u8> = self.rest.drain(..=end).collect();
                    self.hear(world, std::str::from_utf8(&text).unwrap().trim_end());
                }
                true
            }
        }
    }

    fn hear(&mut self, world: &World, text: &str) {
        let words: Vec<&str> = text.split_whitespace().collect();
        let channel = CHANNELS.iter().position(|(name, _)| *name == words[1]);
        let channel = channel.unwrap();
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        match words[0] {
            "subscribed" => {
                let (offset, epoch) = (number(2), words[3].parse().unwrap());
                let (recovered, replayed) = (words[4] == "true", number(5));
                let asked = self.asked.remove(&channel);
                if recovered {
                    let asked = asked.expect("it asked to resume");
                    assert_eq!(asked.epoch, epoch, "{text}: of another epoch");
                    assert_eq!(asked.offset + replayed, offset, "{text}: not all of it");
                }
                assert!(
                    offset <= world.top(channel, epoch),
                    "{text}: an offset that was never given"
                );
                let at = offset - replayed;
                self.unanswered.remove(&channel);
                if self.again.remove(&channel)
                    && let Some(book) = self.books.get(&channel)
                    && book.epoch == epoch
                {
                    assert_eq!(book.at, at, "{text}: it goes on where it stood");
                }
                self.books.insert(channel, Book { epoch, at });
            }
            "event" => {
                let book = self.books.get_mut(&channel).expect("it is subscribed");
                assert_eq!(book.epoch.to_string(), words[3], "{text}: {book:?}");
                assert_eq!(book.at + 1, number(2), "{text}: {book:?}");
                assert_eq!(
                    u64::from(self.dialect),
                    number(4),
                    "{text}: not its dialect"
                );
                book.at += 1;
            }
            "gap" => {
                let book = self.books.get_mut(&channel).expect("it is subscribed");
                let (from, to) = (number(2), number(3));
                assert!(from == book.at + 1 && from <= to, "{text}: {book:?}");
                let drops = matches!(
                    CHANNELS[channel].1,
                    SlowConsumer::DropOldest | SlowConsumer::Conflate
                );
                assert!(
                    drops || words[4] == "expired",
                    "{text}: nothing is dropped there"
                );
                book.at = to;
            }
            other => panic!("{other}?"),
        }
    }
}

struct World {
    runtime: tokio::runtime::Runtime,
    hub: Arc<Hub>,
    shard: Shard,
    broker: Arc<Moody>,
    poll: mio::Poll,
    events: Events,
    /// How far each numbering of each channel came.
    tops: HashMap<(usize, String), u64>,
}

impl World {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let namespaces = CHANNELS.map(|(channel, slow_consumer)| Namespace {
            history: HistoryPolicy {
                size: KEPT,
                ttl: Duration::from_hours(1),
                bytes: usize::MAX,
            },
            slow_consumer,
            ..Namespace::named(channel.split(':').next().unwrap())
        });
        let namespaces = Arc::new(ArcSwap::from_pointee(Namespaces::new(namespaces)));
        let metrics = Metrics::new("model");
        let settings = Settings {
            outbox_bytes: OUTBOX,
            ..Settings::default()
        };
        let guard = runtime.enter();
        let builder = Hub::builder(
            1,
            settings,
            Arc::clone(&namespaces),
            Arc::clone(&metrics),
            Arc::new(Tracing::default()),
        )
        .unwrap();
        let sink = builder.sink();
        let make = move || {
            Memory::new(
                Arc::clone(&namespaces),
                Weak::clone(&sink),
                Arc::clone(&metrics),
                Bounds::default(),
            )
        };
        let broker = Arc::new(Moody {
            memory: ArcSwap::from_pointee(make()),
            make: Box::new(make),
            late: AtomicBool::new(false),
            stale: AtomicBool::new(false),
            waiting: Mutex::default(),
            interest: Mutex::default(),
        });
        let parts = HubParts::new(Arc::<Moody>::clone(&broker));
        let (hub, mut polls) = builder.build(parts);
        drop(guard);
        let inbox = Arc::clone(&hub.dispatcher.queues[0]);
        let poll = polls.remove(0);
        let registry = poll.registry().try_clone().unwrap();
        let shard = Shard::new(0, Arc::clone(&hub), inbox, registry);
        World {
            runtime,
            hub,
            shard,
            broker,
            poll,
            events: Events::with_capacity(16),
            tops: HashMap::new(),
        }
    }

    fn top(&self, channel: usize, epoch: Epoch) -> u64 {
        let key = (channel, epoch.to_string());
        self.tops.get(&key).copied().unwrap_or(0)
    }

    fn publish(&mut self, channel: usize, key: u8) -> Position {
        let now = Timestamp::now();
        let draft = Draft {
            id: Draft::new_id(now),
            channel: Some(ChannelName::new(CHANNELS[channel].0).unwrap()),
            event_type: EventType::new("tick").unwrap(),
            payload: Payload::new(Bytes::from_static(b"1"), "").unwrap(),
            headers: Headers::default(),
            key: Some(Arc::from(key.to_string())),
            idempotency_key: None,
            audience: None,
            source: None,
            time: now,
            trace: None,
            accepted: std::time::Instant::now(),
        };
        let MaybeReady::Ready(receipt) = self.broker.publish(draft, None) else {
            panic!("memory answers at once");
        };
        let position = receipt.unwrap().position.unwrap();
        self.tops
            .insert((channel, position.epoch.to_string()), position.offset);
        position
    }

    /// Lets the shard and the runtime do what there is to do.
    fn turn(&mut self) {
        for _ in 0..2 {
            self.runtime.block_on(async {
                for _ in 0..8 {
                    tokio::task::yield_now().await;
                }
            });
            self.round();
        }
    }

    /// A round of the shard's thread.
    fn round(&mut self) {
        let poll = self.poll.poll(&mut self.events, Some(Duration::ZERO));
        poll.unwrap();
        self.shard.turn(&self.events);
    }

    /// A round of a publisher in the place of the thread, which comes after it where it must.
    fn help(&mut self) {
        if self.shard.help() == Left::Work {
            self.round();
        }
    }

    fn answer(&self, count: usize) {
        let mut waiting = self.broker.waiting.lock().unwrap();
        let count = count.min(waiting.len());
        for answer in waiting.drain(..count) {
            answer.send(()).ok();
        }
    }

    fn connect(&mut self, client: &mut Client) -> ConnectionId {
        if let Some(reader) = &client.reader {
            return reader.id();
        }
        let (pipe, shareable) = Pipe::new();
        let address = "127.0.0.1:9".parse().unwrap();
        let permit = self
            .hub
            .permit(std::net::IpAddr::from([127, 0, 0, 1]))
            .unwrap();
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        self.shard.open(Opening {
            link: Link::Pipe(pipe),
            protocol: Arc::new(Lines(client.dialect)),
            identity: Some(Arc::new(Identity::anonymous())),
            address,
            permit,
            answer: Bytes::new(),
            early: Vec::new(),
            greeting: Box::new(move |cx| tell.send(cx.id()).unwrap()),
            nonce: ConnectionId::new_nonce(self.hub.node()),
        });
        let id = told.recv().unwrap();
        client.reader = Some(shareable.reader(Arc::clone(&self.hub), id));
        id
    }

    fn join(&mut self, client: &mut Client, channel: usize, how: How) {
        let id = self.connect(client);
        let Some(slot) = self.shard.find(id) else {
            return;
        };
        let follows = client.follows.contains(&channel);
        if client.asked.contains_key(&channel)
            || follows && (!matches!(how, How::Now) || client.unanswered.contains(&channel))
        {
            // One that asks again before it was answered, or has unread messages of before,
            // could not tell which is which.
            return;
        }
        if follows {
            client.again.insert(channel);
        } else {
            client.follows.push(channel);
        }
        client.unanswered.insert(channel);
        let book = client.books.get(&channel).copied();
        let since = match (how, book) {
            (How::Since, Some(book)) => Some(Position {
                epoch: book.epoch,
                offset: book.at,
            }),
            _ => None,
        };
        let rewind = match how {
            How::Rewind(count) => Some(u32::from(count)),
            How::Now | How::Since => None,
        };
        if let Some(since) = since {
            client.asked.insert(channel, since);
        }
        let name = ChannelName::new(CHANNELS[channel].0).unwrap();
        let request = JoinRequest {
            joins: vec![Join {
                pattern: ChannelPattern::Exact(name),
                since,
                rewind,
            }],
            ..JoinRequest::default()
        };
        let then = |cx: &mut ConnCtx<'_>, joined: Vec<Joined>, refused: Vec<Refused>| {
            // A channel that is numbered anew may answer for a join before its reply does.
            let replaced = |one: &Refused| one.error.message().contains("while it began");
            assert!(refused.iter().all(replaced), "{refused:?}");
            for joined in joined {
                let position = joined.position.unwrap();
                cx.send(line(format!(
                    "subscribed {} {} {} {} {}",
                    joined.channel,
                    position.offset,
                    position.epoch,
                    joined.recovered,
                    joined.replayed
                )));
            }
        };
        self.shard.join(slot, request, Box::new(then));
    }

    fn leave(&mut self, client: &mut Client, channel: usize) {
        // Reads what is still to come of it first, as one that waits for the answer would.
        self.drain(client);
        if !client.follows.contains(&channel) {
            return;
        }
        let id = client.reader.as_ref().unwrap().id();
        if let Some(slot) = self.shard.find(id) {
            let name = ChannelName::new(CHANNELS[channel].0).unwrap();
            self.shard.leave(slot, &ChannelPattern::Exact(name));
        }
        self.drain(client);
        client.follows.retain(|other| *other != channel);
        client.unanswered.remove(&channel);
        client.again.remove(&channel);
    }

    /// Gives a connection another pipe; what it had not read comes there, in the other dialect.
    fn cross(&mut self, client: &mut Client) {
        let Some(before) = &client.reader else {
            return;
        };
        let id = before.id();
        let next = DIALECTS.iter().position(|number| *number == client.dialect);
        let next = DIALECTS[(next.unwrap() + 1) % DIALECTS.len()];
        let (pipe, shareable) = Pipe::new();
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let crossing = TransportUpgrade {
            link: Link::Pipe(pipe),
            early: Vec::new(),
            translate: Box::new(move |dialect, waiting| {
                tell.send(()).unwrap();
                let (old, new) = (dialect.place(), next);
                let text = String::from_utf8(waiting.concat()).unwrap();
                let lines = text.lines().map(|said| {
                    let event = said.strip_prefix("event ").map(str::trim_end);
                    let event = event.and_then(|said| said.strip_suffix(&format!(" {old}")));
                    match event {
                        Some(event) => format!("event {event} {new}\n"),
                        None => format!("{said}\n"),
                    }
                });
                (Arc::new(Lines(new)), lines.collect::<String>().into())
            }),
        };
        self.shard.cross(id, crossing);
        // One that is being closed stays where it is, and hears of it there.
        if told.try_recv().is_ok() {
            client.dialect = next;
            client.reader = Some(shareable.reader(Arc::clone(&self.hub), id));
        }
    }

    /// Reads until nothing more comes, with every late answer given.
    fn drain(&mut self, client: &mut Client) {
        let mut quiet = 0;
        while quiet < 3 {
            self.answer(usize::MAX);
            self.turn();
            quiet += 1;
            while client.read(self) {
                quiet = 0;
            }
        }
    }
}

fn run(ops: Vec<Op>) {
    let mut world = World::new();
    let mut clients: [Client; CLIENTS] = std::array::from_fn(|at| Client {
        dialect: DIALECTS[at % DIALECTS.len()],
        ..Client::default()
    });
    for op in ops {
        match op {
            Op::Publish {
                channel,
                count,
                keys,
            } => {
                for n in 0..count {
                    world.publish(channel, n % keys);
                }
            }
            Op::Join {
                client,
                channel,
                how,
            } => world.join(&mut clients[client], channel, how),
            Op::Leave { client, channel } => world.leave(&mut clients[client], channel),
            Op::Drop { client } => clients[client].lost_connection(),
            Op::Cross { client } => world.cross(&mut clients[client]),
            Op::Read { client, count } => {
                for _ in 0..count {
                    clients[client].read(&world);
                }
            }
            Op::Turn => world.turn(),
            Op::Help => world.help(),
            Op::Late { late, stale } => {
                world.broker.late.store(late, Ordering::Relaxed);
                world.broker.stale.store(stale, Ordering::Relaxed);
            }
            Op::Answer { count } => world.answer(usize::from(count)),
            Op::Renumber => {
                let memory = (world.broker.make)();
                world.broker.memory.store(Arc::new(memory));
            }
        }
    }
    // Everyone hears of one last event in each channel, and so stands where it stands.
    world.broker.late.store(false, Ordering::Relaxed);
    for client in &mut clients {
        world.drain(client);
    }
    let last: Vec<Position> = (0..CHANNELS.len()).map(|c| world.publish(c, 0)).collect();
    for client in &mut clients {
        world.drain(client);
        for channel in client.follows.clone() {
            let book = client.books[&channel];
            assert_eq!(
                (book.epoch, book.at),
                (last[channel].epoch, last[channel].offset),
                "{}: behind, and was told nothing",
                CHANNELS[channel].0
            );
        }
    }
}

proptest! {
    /// `PROPTEST_CASES` runs more of them.
    #[test]
    fn nothing_is_lost_without_a_word_or_comes_twice(ops in ops()) {
        run(ops);
    }
}
