//! A subscription over any number of connections.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Code, Streaming};

use crate::acks::Acks;
use crate::client::signed;
use crate::positions::Positions;
use crate::proto::SubscribeResponse;
use crate::proto::subscribe_response::Message;
use crate::step::Step;
use crate::steps::Steps;
use crate::{Client, Error, Position, Result, proto};

/// A stream that was open for this long resets the backoff.
const GOOD: Duration = Duration::from_secs(10);

/// A subscription request.
#[derive(Debug, Clone, Default)]
pub struct Subscribe {
    channels: Vec<String>,
    since: HashMap<String, Position>,
    rewind: u32,
    event_types: Vec<String>,
    filter: String,
    durable: String,
    auto_ack: bool,
    min_interval: Option<Duration>,
    once: bool,
    on_interruption: OnInterruption,
}

/// A callback for failures.
type Hear = dyn Fn(&Error) + Send + Sync;

/// Called for each failure that is retried.
#[derive(Clone, Default)]
struct OnInterruption(Option<Arc<Hear>>);

impl fmt::Debug for OnInterruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnInterruption")
            .field(&self.0.is_some())
            .finish()
    }
}

impl Subscribe {
    /// Adds channels: exact names, `project:*` for a namespace, or `*` for all.
    #[must_use]
    pub fn to<C: Into<String>>(channels: impl IntoIterator<Item = C>) -> Self {
        Subscribe {
            channels: channels.into_iter().map(Into::into).collect(),
            ..Subscribe::default()
        }
    }

    /// Adds a channel to resume after a position of [`Subscription::positions`].
    #[must_use]
    pub fn since(mut self, channel: impl Into<String>, position: Position) -> Self {
        self.since.insert(channel.into(), position);
        self
    }

    /// Replays the newest events of each channel that has no position yet.
    #[must_use]
    pub fn rewind(mut self, events: u32) -> Self {
        self.rewind = events;
        self
    }

    /// Restricts it to events of this type, in addition to others. A trailing `*` matches any
    /// suffix.
    #[must_use]
    pub fn event_type(mut self, event_type: impl Into<String>) -> Self {
        self.event_types.push(event_type.into());
        self
    }

    /// Restricts it to events for which this CEL expression is true, such as `event.data.urgent`.
    #[must_use]
    pub fn filter(mut self, expression: impl Into<String>) -> Self {
        self.filter = expression.into();
        self
    }

    /// Sets the least time between two events of a key, 10 ms to 1 h: only the newest is sent.
    #[must_use]
    pub fn min_interval(mut self, interval: Duration) -> Self {
        self.min_interval = Some(interval);
        self
    }

    /// Makes it durable under this name: channels without a position resume behind what the token's
    /// user has acknowledged, on any device. Acknowledge with [`Subscription::ack`], or automatically
    /// with [`Subscribe::auto_ack`]. Events that were not acknowledged before a reconnect are
    /// delivered again.
    #[must_use]
    pub fn durable(mut self, name: impl Into<String>) -> Self {
        self.durable = name.into();
        self
    }

    /// Acknowledges an event of a durable subscription when the next step is asked for.
    #[must_use]
    pub fn auto_ack(mut self) -> Self {
        self.auto_ack = true;
        self
    }

    /// Sets a callback for lost connections, called before reconnecting. Meant for logging.
    #[must_use]
    pub fn on_interruption(mut self, callback: impl Fn(&Error) + Send + Sync + 'static) -> Self {
        self.on_interruption = OnInterruption(Some(Arc::new(callback)));
        self
    }

    /// Ends with the first failure instead of reconnecting.
    #[must_use]
    pub fn once(mut self) -> Self {
        self.once = true;
        self
    }
}

/// A subscription. Call [`Subscription::next`] in a loop.
///
/// It connects on the first call, and reconnects whenever the connection breaks. Each channel
/// resumes after the last delivered event. There is no client-side queue: unread events wait at the
/// server, within its limits.
#[derive(Debug)]
pub struct Subscription {
    client: Client,
    positions: Positions,
    event_types: Vec<String>,
    filter: String,
    durable: String,
    acks: Option<Acks>,
    auto_ack: bool,
    // Delivered, and acknowledged when the next step is asked for.
    given: Option<(String, Position)>,
    min_interval: Option<Duration>,
    once: bool,
    ready: VecDeque<Step>,
    stream: Option<Streaming<SubscribeResponse>>,
    token: Option<MetadataValue<Ascii>>,
    attempts: Attempts,
    over: bool,
    connection_id: String,
    on_interruption: OnInterruption,
}

/// The backoff state.
#[derive(Debug, Default)]
struct Attempts {
    failures: u32,
    again_at: Option<Instant>,
    stood_since: Option<Instant>,
    ever_stood: bool,
    renewed: bool,
}

impl Subscription {
    pub(crate) fn new(client: Client, what: Subscribe) -> Self {
        let is_durable = !what.durable.is_empty();
        let failed = what.on_interruption.clone();
        let acks = is_durable.then(|| {
            Acks::new(client.clone(), &what.durable, move |error| {
                if let Some(callback) = &failed.0 {
                    callback(error);
                }
            })
        });
        let rewind = if is_durable { 0 } else { what.rewind };
        let positions = Positions::new(what.channels, what.since, rewind).durable(acks.clone());
        Subscription {
            client,
            positions,
            event_types: what.event_types,
            filter: what.filter,
            durable: what.durable,
            acks,
            auto_ack: what.auto_ack,
            given: None,
            min_interval: what.min_interval,
            once: what.once,
            ready: VecDeque::new(),
            stream: None,
            token: None,
            attempts: Attempts::default(),
            over: false,
            connection_id: String::new(),
            on_interruption: what.on_interruption,
        }
    }

    /// The next step, or `None` after the failure that ended it. Cancel-safe.
    ///
    /// # Errors
    /// The server refuses a channel, or revokes the permission for it. This is the last step.
    pub async fn next(&mut self) -> Option<Result<Step>> {
        if let (Some((channel, position)), Some(acks)) = (self.given.take(), &self.acks) {
            acks.handled(&channel, position);
        }
        loop {
            if let Some(step) = self.ready.pop_front() {
                if let (true, Step::Event(event)) = (self.auto_ack, &step)
                    && let Some(position) = event.position()
                {
                    self.given = Some((event.channel().to_owned(), position.clone()));
                }
                return Some(Ok(step));
            }
            if self.over {
                return None;
            }
            let failure = match self.read().await {
                Ok(message) => match self.take(message) {
                    Ok(()) => continue,
                    Err(failure) => failure,
                },
                Err(failure) => failure,
            };
            self.stream = None;
            if let Err(failure) = self.after(failure).await {
                self.over = true;
                return Some(Err(failure));
            }
        }
    }

    /// Acknowledges all events of a channel up to this offset. An earlier offset has no effect. Only
    /// for a durable subscription.
    ///
    /// # Errors
    /// `FailedPrecondition` if it is not durable. Otherwise as [`Client::ack`].
    pub async fn ack(&self, channel: &str, offset: u64) -> Result<()> {
        let Some(acks) = &self.acks else {
            let text = "not a durable subscription";
            return Err(Error::new(Code::FailedPrecondition, text));
        };
        acks.ack(channel, offset).await
    }

    /// The steps as a `Stream`, for the combinators of `futures` or `tokio-stream`.
    #[must_use]
    pub fn into_stream(self) -> Steps {
        Steps::new(self)
    }

    /// For each channel, the position after the last delivered event: the `since` for resuming
    /// later.
    #[must_use]
    pub fn positions(&self) -> HashMap<String, Position> {
        self.positions.positions()
    }

    /// The server's id of the latest connection. Empty before the first.
    #[must_use]
    pub fn connection_id(&self) -> &str {
        &self.connection_id
    }

    /// The next message. Opens a stream if there is none.
    async fn read(&mut self) -> Result<SubscribeResponse> {
        if let Some(at) = self.attempts.again_at {
            sleep_until(at).await;
            self.attempts.again_at = None;
        }
        let ended = || Error::new(Code::Unavailable, "the server ended the stream");
        let stood = self.attempts.stood_since.is_some();
        let message = if stood {
            self.message().await
        } else {
            let late = |_| Error::new(Code::Unavailable, "the server did not answer in time");
            let within = self.client.timeout();
            timeout(within, self.message()).await.map_err(late)?
        };
        message?.ok_or_else(ended)
    }

    async fn message(&mut self) -> Result<Option<SubscribeResponse>> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                self.token = self.client.tokens().get().await?;
                let request = proto::SubscribeRequest {
                    subscriptions: self.positions.subscriptions(),
                    event_types: self.event_types.clone(),
                    filter: self.filter.clone(),
                    durable: self.durable.clone(),
                    min_interval: self
                        .min_interval
                        .and_then(|interval| interval.try_into().ok()),
                };
                let request = signed(request, self.token.as_ref());
                none.insert(self.client.events().subscribe(request).await?.into_inner())
            }
        };
        Ok(stream.message().await?)
    }

    fn take(&mut self, response: SubscribeResponse) -> Result<()> {
        match response.message {
            Some(Message::Event(event)) => self.ready.extend(self.positions.event(event.into())),
            Some(Message::Gap(gap)) => self.ready.extend(self.positions.gap(gap.into())),
            Some(Message::Subscribed(mut subscribed)) => {
                let connection = std::mem::take(&mut subscribed.connection_id);
                self.ready.extend(self.positions.subscribed(subscribed)?);
                if self.attempts.stood_since.is_none() {
                    self.attempts.stood_since = Some(Instant::now());
                    self.attempts.ever_stood = true;
                    self.attempts.renewed = false;
                    self.connection_id = connection;
                }
            }
            // `None` is a message of a newer server, which this client does not know.
            Some(Message::Heartbeat(_)) | None => {}
        }
        Ok(())
    }

    /// The stream ended. Schedules the next one, or returns why not.
    async fn after(&mut self, failure: Error) -> Result<()> {
        let stood = self.attempts.stood_since.take();
        if stood.is_some_and(|since| since.elapsed() >= GOOD) {
            self.attempts.failures = 0;
        }
        if self.once {
            return Err(failure);
        }
        let refused = failure.code() == Code::Unauthenticated && !self.attempts.renewed;
        if refused && self.client.tokens().refused(self.token.as_ref()).await {
            self.attempts.renewed = true;
            return Ok(());
        }
        let full = failure.code() == Code::ResourceExhausted && failure.retry_after().is_none();
        if full && stood.is_none() {
            let lost = self.positions.forget_noted();
            if !lost.is_empty() {
                self.ready.extend(lost);
                return Ok(());
            }
            if !self.attempts.ever_stood {
                return Err(failure);
            }
        }
        if failure.is_final() {
            return Err(failure);
        }
        let backoff = self.client.backoff();
        let pause = backoff.pause(self.attempts.failures, failure.retry_after());
        self.attempts.failures = self.attempts.failures.saturating_add(1);
        self.attempts.again_at = Some(Instant::now() + pause);
        if let Some(callback) = &self.on_interruption.0 {
            callback(&failure);
        }
        Ok(())
    }
}
