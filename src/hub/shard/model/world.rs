//! One shard without a thread, its broker and the runtime of the model.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use mio::Events;

use super::broker::{DIALECTS, Lines, LossySink, SlowBroker, line};
use super::client::Client;
use super::{CHANNELS, How, KEPT, OUTBOX};
use crate::auth::Identity;
use crate::broker::{Bounds, Broker, Memory, Sink};
use crate::event::{
    AcceptedAt, ChannelName, ChannelPattern, ConnectionId, Draft, Epoch, EventType, Headers,
    HistoryPolicy, Namespace, Namespaces, Payload, Position, Timestamp,
};
use crate::hub::pipe::Pipe;
use crate::hub::protocol::{Joined, Refused};
use crate::hub::round::Round;
use crate::hub::shard::connection_io::Link;
use crate::hub::shard::{ConnCtx, Join, JoinRequest, Opening, Shard, TransportUpgrade};
use crate::hub::shard_cell::Remaining;
use crate::hub::{Hub, HubParts, Settings};
use crate::maybe_ready::MaybeReady;
use crate::telemetry::{Metrics, Tracing};

pub(super) struct World {
    runtime: tokio::runtime::Runtime,
    hub: Arc<Hub>,
    shard: Shard,
    pub(super) broker: Arc<SlowBroker>,
    network: Arc<LossySink>,
    poll: mio::Poll,
    events: Events,
    /// The last offset of each epoch of each channel.
    tops: HashMap<(usize, String), u64>,
}

impl World {
    pub(super) fn new() -> Self {
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
            ..Settings::sample()
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
        let network = Arc::new(LossySink {
            hub: builder.sink(),
            loses: AtomicBool::new(false),
        });
        let strong: Arc<dyn Sink> = Arc::<LossySink>::clone(&network);
        let sink: Weak<dyn Sink> = Arc::downgrade(&strong);
        let make = move || {
            Memory::new(
                Arc::clone(&namespaces),
                Weak::clone(&sink),
                Arc::clone(&metrics),
                Bounds::default(),
            )
        };
        let broker = Arc::new(SlowBroker {
            memory: ArcSwap::from_pointee(make()),
            make: Box::new(make),
            late: AtomicBool::new(false),
            stale: AtomicBool::new(false),
            waiting: Mutex::default(),
            interest: Mutex::default(),
        });
        let parts = HubParts::new(Arc::<SlowBroker>::clone(&broker));
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
            network,
            poll,
            events: Events::with_capacity(16),
            tops: HashMap::new(),
        }
    }

    pub(super) fn top(&self, channel: usize, epoch: Epoch) -> u64 {
        let key = (channel, epoch.to_string());
        self.tops.get(&key).copied().unwrap_or(0)
    }

    pub(super) fn publish(&mut self, channel: usize, key: u8) -> Position {
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
            accepted: AcceptedAt::now(),
            expires: None,
            conditions: None,
        };
        let MaybeReady::Ready(receipt) = self.broker.publish(draft) else {
            panic!("memory answers at once");
        };
        let position = receipt.unwrap().position.unwrap();
        self.tops
            .insert((channel, position.epoch.to_string()), position.offset);
        position
    }

    /// Publishes events that the hub never receives, and notifies the hub of the loss.
    pub(super) fn lose(&mut self, channel: usize, count: u8, named: bool) -> Option<Position> {
        self.network.loses.store(true, Ordering::Relaxed);
        let lost = (0..count).map(|key| self.publish(channel, key)).last();
        self.network.loses.store(false, Ordering::Relaxed);
        let name = ChannelName::new(CHANNELS[channel].0).unwrap();
        self.network.lagged(named.then_some(&name));
        lost
    }

    /// Runs the shard and the runtime until they are idle.
    pub(super) fn run_round(&mut self) {
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
        self.shard.run_round(&self.events);
    }

    /// A publisher's round in place of the thread's, followed by the thread's if necessary.
    pub(super) fn help(&mut self) {
        if self.shard.run_small_round() == Remaining::Work {
            self.round();
        }
    }

    pub(super) fn answer(&self, count: usize) {
        let mut waiting = self.broker.waiting.lock().unwrap();
        let count = count.min(waiting.len());
        for answer in waiting.drain(..count) {
            answer.send(()).ok();
        }
    }

    pub(super) fn connect(&mut self, client: &mut Client) -> ConnectionId {
        if let Some(reader) = &client.reader {
            return reader.id();
        }
        let (pipe, shareable) = Pipe::new();
        let address = "127.0.0.1:9".parse().unwrap();
        let permit = self
            .hub
            .permits()
            .take(std::net::IpAddr::from([127, 0, 0, 1]))
            .unwrap();
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        self.shard.open(Opening {
            link: Link::Pipe(pipe),
            protocol: Arc::new(Lines(client.dialect)),
            identity: Some(Arc::new(Identity::anonymous())),
            address,
            request: None,
            forwarded: None,
            permit,
            answer: Bytes::new(),
            early: Vec::new(),
            on_open: Box::new(move |cx| sender.send(cx.id()).unwrap()),
            nonce: ConnectionId::new_nonce(self.hub.node()),
        });
        let id = receiver.recv().unwrap();
        client.reader = Some(shareable.reader(Arc::clone(&self.hub), id));
        id
    }

    pub(super) fn join(&mut self, client: &mut Client, channel: usize, how: How) {
        let id = self.connect(client);
        let Some(slot) = self.shard.connections.find(id) else {
            return;
        };
        let follows = client.follows.contains(&channel);
        if client.asked.contains_key(&channel)
            || follows && (!matches!(how, How::Now) || client.unanswered.contains(&channel))
        {
            // A client that subscribes again before the reply, or with unread earlier messages,
            // could not tell the replies apart.
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
                filter: None,
            }],
            ..JoinRequest::default()
        };
        let then = |cx: &mut ConnCtx<'_>, joined: Vec<Joined>, refused: Vec<Refused>| {
            // A channel that starts a new epoch may answer a subscription before its reply does.
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

    pub(super) fn leave(&mut self, client: &mut Client, channel: usize) {
        // Reads its outstanding messages first, as a client that waits for the answer would.
        self.drain(client);
        if !client.follows.contains(&channel) {
            return;
        }
        let id = client.reader.as_ref().unwrap().id();
        if let Some(slot) = self.shard.connections.find(id) {
            let name = ChannelName::new(CHANNELS[channel].0).unwrap();
            self.shard.leave(slot, &ChannelPattern::Exact(name));
        }
        self.drain(client);
        client.follows.retain(|other| *other != channel);
        client.unanswered.remove(&channel);
        client.again.remove(&channel);
    }

    /// Replaces a connection's pipe; unread messages are repeated there, in the other dialect.
    pub(super) fn upgrade_transport(&mut self, client: &mut Client) {
        let Some(before) = &client.reader else {
            return;
        };
        let id = before.id();
        let next = DIALECTS.iter().position(|number| *number == client.dialect);
        let next = DIALECTS[(next.unwrap() + 1) % DIALECTS.len()];
        let (pipe, shareable) = Pipe::new();
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let upgrade = TransportUpgrade {
            link: Link::Pipe(pipe),
            early: Vec::new(),
            translate: Box::new(move |dialect, waiting| {
                sender.send(()).unwrap();
                let (old, new) = (dialect.place(), next);
                let text = String::from_utf8(waiting.concat()).unwrap();
                let lines = text.lines().map(|line| {
                    let event = line.strip_prefix("event ").map(str::trim_end);
                    let event = event.and_then(|line| line.strip_suffix(&format!(" {old}")));
                    match event {
                        Some(event) => format!("event {event} {new}\n"),
                        None => format!("{line}\n"),
                    }
                });
                (Arc::new(Lines(new)), lines.collect::<String>().into())
            }),
        };
        self.shard.upgrade_transport(id, upgrade);
        // A connection that is being closed keeps its pipe, and is notified there.
        if receiver.try_recv().is_ok() {
            client.dialect = next;
            client.reader = Some(shareable.reader(Arc::clone(&self.hub), id));
        }
    }

    /// Reads until no more messages arrive, with every late answer given.
    pub(super) fn drain(&mut self, client: &mut Client) {
        let mut quiet = 0;
        while quiet < 3 {
            self.answer(usize::MAX);
            self.run_round();
            quiet += 1;
            while client.read(self) {
                quiet = 0;
            }
        }
    }
}
