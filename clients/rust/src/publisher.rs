//! Publishes many events over one stream, with a bound on unacknowledged ones.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_core::Stream;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tonic::Code;
use tonic::metadata::{Ascii, MetadataValue};

use crate::client::signed;
use crate::event::is_repeatable;
use crate::{Backoff, Client, Error, NewEvent, Published, Result, proto};

/// The most unacknowledged events of one publisher.
const MOST_IN_FLIGHT: u32 = 65_536;

/// Publishes events in order without waiting for each. See [`Client::publisher`].
///
/// If its stream breaks, unacknowledged events are sent again in order, and their idempotency keys
/// prevent duplicates. An event over the rate limit is sent again after the advised delay, behind
/// others. Dropping it gives up what is unacknowledged: [`Publisher::flush`] before.
#[derive(Debug)]
pub struct Publisher {
    shared: Arc<Shared>,
    slots: Arc<Semaphore>,
    in_flight: u32,
    timeout: Duration,
    // Dropping it aborts the tasks.
    _tasks: JoinSet<()>,
}

/// The result of one event of a [`Publisher`]. Dropping it does not give up the event.
#[derive(Debug)]
pub struct Receipt(oneshot::Receiver<Result<Published>>);

impl Future for Receipt {
    type Output = Result<Published>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let dropped = |_| Err(Error::new(Code::Cancelled, "the publisher was dropped"));
        Pin::new(&mut self.0)
            .poll(cx)
            .map(|result| result.unwrap_or_else(dropped))
    }
}

impl Publisher {
    pub(crate) fn new(client: Client, in_flight: u32) -> Self {
        let in_flight = in_flight.clamp(1, MOST_IN_FLIGHT);
        let timeout = client.timeout();
        let shared = Arc::new(Shared::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(expire(shared.clone()));
        tasks.spawn(run(client, shared.clone()));
        Publisher {
            shared,
            slots: Arc::new(Semaphore::new(
                usize::try_from(in_flight).unwrap_or(usize::MAX),
            )),
            in_flight,
            timeout,
            _tasks: tasks,
        }
    }

    /// Queues an event, once there is space. The receipt is its result.
    ///
    /// # Errors
    /// None today. Failures of the event itself are those of the receipt.
    pub async fn publish(&self, event: NewEvent) -> Result<Receipt> {
        let closed = |_| Error::new(Code::Cancelled, "the publisher is closed");
        let slot = self.slots.clone().acquire_owned().await.map_err(closed)?;
        let (answer, receipt) = oneshot::channel();
        self.shared.push(Item {
            request: event.into_request(),
            answer: Some(answer),
            expires: Instant::now() + self.timeout,
            failures: 0,
            _slot: slot,
        });
        Ok(Receipt(receipt))
    }

    /// Waits until every event has a result. Other tasks cannot publish meanwhile.
    ///
    /// # Errors
    /// The first failure since the last call.
    pub async fn flush(&self) -> Result<()> {
        let closed = |_| Error::new(Code::Cancelled, "the publisher is closed");
        let _all = self
            .slots
            .acquire_many(self.in_flight)
            .await
            .map_err(closed)?;
        match self.shared.state().failure.take() {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }
}

/// One unacknowledged event.
#[derive(Debug)]
struct Item {
    request: proto::PublishRequest,
    // None once it has a result, although its response is still expected.
    answer: Option<oneshot::Sender<Result<Published>>>,
    expires: Instant,
    failures: u32,
    _slot: OwnedSemaphorePermit,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Item>,
    sent: VecDeque<Item>,
    paused: Vec<(Instant, Item)>,
    failure: Option<Error>,
    // The current stream. An older one must not take events any more.
    stream: u64,
    waker: Option<Waker>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    work: Notify,
    timers: Notify,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, item: Item) {
        let mut state = self.state();
        // Otherwise, a timer runs already, and this event expires later than it fires.
        let idle = state.sent.is_empty() && state.waiting.is_empty() && state.paused.is_empty();
        state.waiting.push_back(item);
        drop(state);
        if idle {
            self.timers.notify_one();
        }
        self.wake();
    }

    /// There are events to send.
    fn wake(&self) {
        let waker = self.state().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
        self.work.notify_one();
    }

    /// Waits until there are events to send.
    async fn work(&self) {
        while self.state().waiting.is_empty() {
            self.work.notified().await;
        }
    }

    /// The response to the oldest sent event.
    fn answer(&self, mut response: proto::PublishResponse, backoff: Backoff) {
        let mut state = self.state();
        let Some(mut item) = state.sent.pop_front() else {
            return;
        };
        let Some(refused) = response.error.take() else {
            state.settle(&mut item, Ok(response.into()));
            return;
        };
        let error = Error::from(refused);
        let at = Instant::now() + backoff.pause(item.failures, error.retry_after());
        if !error.is_passing() || item.answer.is_none() || at >= item.expires {
            state.settle(&mut item, Err(error));
            return;
        }
        item.failures = item.failures.saturating_add(1);
        state.paused.push((at, item));
        drop(state);
        self.timers.notify_one();
    }

    /// The stream broke, so the results of sent events are unknown.
    fn send_again(&self, error: &Error) {
        let mut state = self.state();
        state.stream += 1;
        while let Some(mut item) = state.sent.pop_back() {
            if item.answer.is_some() && is_repeatable(&item.request) {
                state.waiting.push_front(item);
            } else {
                state.settle(&mut item, Err(error.clone()));
            }
        }
    }

    fn fail_all(&self, error: &Error) {
        let mut state = self.state();
        while let Some(mut item) = state.waiting.pop_front() {
            state.settle(&mut item, Err(error.clone()));
        }
    }

    /// Gives up what is too old, and queues again what has waited. Returns when to look again.
    fn look(&self, now: Instant) -> Option<Instant> {
        let mut state = self.state();
        let late = || Error::new(Code::DeadlineExceeded, "no answer in time");
        // Events that were paused are behind others that expire later.
        let (overdue, waiting): (VecDeque<_>, _) = std::mem::take(&mut state.waiting)
            .into_iter()
            .partition(|item| item.expires <= now);
        state.waiting = waiting;
        for mut item in overdue {
            state.settle(&mut item, Err(late()));
        }
        // The response of a sent event is still expected, and keeps its slot. Otherwise, the next
        // responses would be matched to it.
        let mut sent = std::mem::take(&mut state.sent);
        for item in sent.iter_mut().filter(|item| item.expires <= now) {
            state.settle(item, Err(late()));
        }
        state.sent = sent;
        let (due, paused): (Vec<_>, _) = std::mem::take(&mut state.paused)
            .into_iter()
            .partition(|(at, _)| *at <= now);
        state.paused = paused;
        let resumed = !due.is_empty();
        state.waiting.extend(due.into_iter().map(|(_, item)| item));
        let unsettled = state.sent.iter().find(|item| item.answer.is_some());
        let next = [
            state.waiting.iter().map(|item| item.expires).min(),
            unsettled.map(|item| item.expires),
            state.paused.iter().map(|(at, _)| *at).min(),
        ];
        drop(state);
        if resumed {
            self.wake();
        }
        next.into_iter().flatten().min()
    }
}

impl State {
    fn settle(&mut self, item: &mut Item, result: Result<Published>) {
        let Some(answer) = item.answer.take() else {
            return;
        };
        if let Err(error) = &result {
            self.failure.get_or_insert_with(|| error.clone());
        }
        // Nobody may want to know, which is fine: `flush` reports failures.
        drop(answer.send(result));
    }
}

/// Keeps a stream open while there are events to publish.
async fn run(client: Client, shared: Arc<Shared>) {
    let (mut failures, mut renewed) = (0_u32, false);
    loop {
        shared.work().await;
        let mut token = None;
        let mut answered = false;
        let error = stream(&client, &shared, &mut token, &mut answered).await;
        if answered {
            (failures, renewed) = (0, false);
        }
        shared.send_again(&error);
        let refused = error.code() == Code::Unauthenticated && !renewed;
        if refused && client.tokens().refused(token.as_ref()).await {
            renewed = true;
        } else if error.is_passing() {
            sleep(client.backoff().pause(failures, error.retry_after())).await;
            failures = failures.saturating_add(1);
        } else {
            shared.fail_all(&error);
        }
    }
}

/// One stream, until it breaks.
async fn stream(
    client: &Client,
    shared: &Arc<Shared>,
    token: &mut Option<MetadataValue<Ascii>>,
    answered: &mut bool,
) -> Error {
    match client.tokens().get().await {
        Ok(current) => *token = current,
        Err(error) => return error,
    }
    let requests = Requests {
        stream: shared.state().stream,
        shared: shared.clone(),
    };
    let mut events = client.events();
    let mut answers = match events
        .publish_stream(signed(requests, token.as_ref()))
        .await
    {
        Ok(response) => response.into_inner(),
        Err(status) => return status.into(),
    };
    loop {
        match answers.message().await {
            Ok(Some(message)) => {
                *answered = true;
                if let Some(response) = message.response {
                    shared.answer(response, client.backoff());
                }
            }
            Ok(None) => return Error::new(Code::Unavailable, "the server ended the stream"),
            Err(status) => return status.into(),
        }
    }
}

/// Runs the timers.
async fn expire(shared: Arc<Shared>) {
    loop {
        match shared.look(Instant::now()) {
            Some(at) => {
                // Events that pause wake this task.
                tokio::select! {
                    () = sleep_until(at) => {}
                    () = shared.timers.notified() => {}
                }
            }
            None => shared.timers.notified().await,
        }
    }
}

/// The requests of one stream: taken from the queue when the transport has room for them.
struct Requests {
    stream: u64,
    shared: Arc<Shared>,
}

impl Stream for Requests {
    type Item = proto::PublishStreamRequest;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.shared.state();
        if state.stream != self.stream {
            return Poll::Ready(None);
        }
        let Some(item) = state.waiting.pop_front() else {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let request = Some(item.request.clone());
        state.sent.push_back(item);
        Poll::Ready(Some(proto::PublishStreamRequest { request }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publisher() -> Publisher {
        let client = Client::builder("127.0.0.1:9")
            .timeout(Duration::from_secs(3))
            .build()
            .expect("a client");
        client.publisher(2)
    }

    fn event() -> NewEvent {
        NewEvent::bytes("a", "1", "").channel("c")
    }

    #[tokio::test(start_paused = true)]
    async fn unacknowledged_event_times_out() {
        let publisher = publisher();
        let receipt = publisher.publish(event()).await.expect("a receipt");
        let error = receipt.await.expect_err("nobody is there");
        assert_eq!(error.code(), Code::DeadlineExceeded);
        let flushed = publisher.flush().await.expect_err("the first failure");
        assert_eq!(flushed.code(), Code::DeadlineExceeded);
        publisher.flush().await.expect("it was reported");
    }

    #[tokio::test(start_paused = true)]
    async fn publish_waits_while_too_many_are_in_flight() {
        let publisher = publisher();
        let began = Instant::now();
        for _ in 0..3 {
            drop(publisher.publish(event()).await.expect("a receipt"));
        }
        assert!(began.elapsed() >= Duration::from_secs(3));
    }

    #[tokio::test]
    async fn dropped_publisher_cancels_receipts() {
        let publisher = publisher();
        let receipt = publisher.publish(event()).await.expect("a receipt");
        drop(publisher);
        let error = receipt.await.expect_err("it was dropped");
        assert_eq!(error.code(), Code::Cancelled);
    }
}
