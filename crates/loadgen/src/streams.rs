//! Subscribers over gRPC: many streams on few HTTP/2 connections, as back-end services use them.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use prost::Message;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use crate::clock;
use crate::error::{Error, Result};
use crate::payload::NAMESPACE;
use crate::progress::Progress;
use crate::publish::{Client, connect};
use crate::subscriber::Subscriber;
use crate::swarm::Plan;
use crate::tally::Tally;
use crate::type_filter::TypeFilter;
use tidings_client::proto::subscribe_response::Message as Step;
use tidings_client::proto::{SubscribeRequest, SubscribeResponse, Subscription};

/// Streams that share an HTTP/2 connection: half of what servers commonly allow.
const STREAMS_PER_CONNECTION: usize = 100;
/// How often a thread checks whether it should stop.
const TURN: Duration = Duration::from_millis(50);

/// Starts `threads` threads that subscribe over gRPC at `address` until [`Progress::stop`].
///
/// # Errors
///
/// If a thread or its runtime can't be created.
pub(super) fn start(
    plan: &Plan,
    address: &str,
    threads: usize,
    progress: &Arc<Progress>,
) -> Result<Vec<JoinHandle<Tally>>> {
    let failed = |error: std::io::Error| Error::new(format!("can't start a thread: {error}"));
    let mut handles = Vec::with_capacity(threads);
    for first in 0..threads {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let (plan, address) = (plan.clone(), address.to_owned());
        let progress = Arc::clone(progress);
        let numbers = (first..plan.connections).step_by(threads).collect();
        let thread = std::thread::Builder::new().name(format!("streams-{first}"));
        let work = move || {
            let local = LocalSet::new();
            local.block_on(&runtime, follow_all(plan, address, progress, numbers))
        };
        handles.push(thread.spawn(work).map_err(failed)?);
    }
    Ok(handles)
}

async fn follow_all(
    plan: Plan,
    address: String,
    progress: Arc<Progress>,
    numbers: Vec<usize>,
) -> Tally {
    let thread = Rc::new(Thread {
        opening: Semaphore::new(plan.connecting),
        stop: CancellationToken::new(),
        tally: RefCell::new(Tally::new(Arc::clone(&progress))),
        progress,
        plan,
    });
    let mut streams = JoinSet::new();
    for group in numbers.chunks(STREAMS_PER_CONNECTION) {
        let name = format!("bench-{}", group.first().copied().unwrap_or(0));
        let client = match thread.plan.tokens.token(&name) {
            Ok(token) => connect(&address, token).await,
            Err(error) => Err(error),
        };
        for number in group {
            match &client {
                Ok(client) => {
                    let follow = Rc::clone(&thread).follow(client.clone(), *number);
                    streams.spawn_local(follow);
                }
                Err(error) => thread.never_ready(error.message().to_owned()),
            }
        }
    }
    while !thread.progress.stopped() {
        tokio::time::sleep(TURN).await;
    }
    thread.stop.cancel();
    while streams.join_next().await.is_some() {}
    let empty = Tally::new(Arc::clone(&thread.progress));
    thread.tally.replace(empty)
}

/// State shared by the streams of one thread.
struct Thread {
    plan: Plan,
    progress: Arc<Progress>,
    opening: Semaphore,
    stop: CancellationToken,
    tally: RefCell<Tally>,
}

impl Thread {
    async fn follow(self: Rc<Self>, client: Client, number: usize) {
        let channel = number % self.plan.channels.max(1);
        let mut subscriber = Subscriber::new(channel, TypeFilter::of(number, self.plan.filters));
        let opened = self
            .stop
            .run_until_cancelled(self.open(client, &subscriber));
        let mut stream = match opened.await {
            Some(Ok(stream)) => stream,
            Some(Err(reason)) => return self.never_ready(reason),
            None => return self.never_ready("no answer until the end".to_owned()),
        };
        subscriber.begin(self.plan.tasks);
        self.progress
            .connection_ready(channel, subscriber.filter, clock::now());
        let reading = self.read(&mut stream, &mut subscriber);
        let ended = self.stop.run_until_cancelled(reading).await;
        let mut tally = self.tally.borrow_mut();
        if let Some(reason) = &ended {
            *tally.closes.entry(0).or_default() += 1;
            tally.sample(format!("a stream ended: {reason}"));
            self.progress.connection_lost(channel, subscriber.filter);
        }
        tally.seen.push(subscriber.seen(ended.is_none()));
    }

    /// Subscribes; returns once the server has confirmed the subscription.
    async fn open(
        &self,
        mut client: Client,
        subscriber: &Subscriber,
    ) -> std::result::Result<Streaming<SubscribeResponse>, String> {
        let message_of = |status: Status| status.message().to_owned();
        let permit = self.opening.acquire().await;
        let started = clock::now();
        let request = SubscribeRequest {
            subscriptions: vec![Subscription {
                channel: format!("{NAMESPACE}:{}", subscriber.channel),
                ..Subscription::default()
            }],
            filter: subscriber.filter.expression().unwrap_or_default(),
            ..SubscribeRequest::default()
        };
        let mut stream = client
            .subscribe(request)
            .await
            .map_err(message_of)?
            .into_inner();
        let first = stream.message().await.map_err(message_of)?;
        drop(permit);
        match first.and_then(|first| first.message) {
            Some(Step::Subscribed(reply)) if reply.errors.is_empty() => {
                let took = clock::now().saturating_sub(started);
                self.tally.borrow_mut().setup.record(took);
                Ok(stream)
            }
            Some(Step::Subscribed(refused)) => Err(refused
                .errors
                .into_iter()
                .map(|error| error.message)
                .collect()),
            Some(Step::Event(_) | Step::Gap(_) | Step::Heartbeat(_)) | None => {
                Err("a stream that does not begin with `subscribed`".to_owned())
            }
        }
    }

    /// Reads until the stream ends; returns the reason.
    async fn read(
        &self,
        stream: &mut Streaming<SubscribeResponse>,
        subscriber: &mut Subscriber,
    ) -> String {
        loop {
            match stream.message().await {
                Ok(Some(response)) => self.take(&response, subscriber),
                Ok(None) => return "without a reason".to_owned(),
                Err(status) => return status.message().to_owned(),
            }
        }
    }

    fn take(&self, response: &SubscribeResponse, subscriber: &mut Subscriber) {
        let mut tally = self.tally.borrow_mut();
        match &response.message {
            Some(Step::Event(event)) => {
                let now = clock::now();
                tally.refresh();
                if subscriber.take(&event.data, response.encoded_len(), now, &mut tally) {
                    tally.arrived(1, now);
                }
            }
            Some(Step::Gap(gap)) => {
                tally.gaps += 1;
                tally.sample(format!("gap: {}", gap.reason));
            }
            Some(Step::Subscribed(_) | Step::Heartbeat(_)) | None => {}
        }
    }

    fn never_ready(&self, reason: String) {
        let mut tally = self.tally.borrow_mut();
        tally.failed += 1;
        tally.sample(reason);
        self.progress.connection_failed();
    }
}
