//! Calls with retries where they are safe.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use crate::event::is_repeatable;
use crate::proto::catalog_service_client::CatalogServiceClient;
use crate::proto::connection_service_client::ConnectionServiceClient;
use crate::proto::event_service_client::EventServiceClient;
use crate::proto::store_service_client::StoreServiceClient;
use crate::subscription::{Subscribe, Subscription};
use crate::token::Tokens;
use crate::{Backoff, Builder, Error, NewEvent, Published, Publisher, Result, proto};

/// A connection to a server. Clones share it.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
    tokens: Arc<Tokens>,
    backoff: Backoff,
    timeout: Duration,
    largest: usize,
}

impl Client {
    /// A client for the server at this URL, such as `http://127.0.0.1:50051`.
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder::new(url.into())
    }

    pub(crate) fn new(
        channel: Channel,
        tokens: Tokens,
        backoff: Backoff,
        timeout: Duration,
        largest: usize,
    ) -> Self {
        Client {
            channel,
            tokens: Arc::new(tokens),
            backoff,
            timeout,
            largest,
        }
    }

    /// Publishes an event, and returns once it has a position. An unanswered call is retried until
    /// the timeout, without publishing twice.
    ///
    /// # Errors
    /// The server's refusal. `Unavailable` or `DeadlineExceeded` if it cannot be reached in time.
    pub async fn publish(&self, event: NewEvent) -> Result<Published> {
        let request = event.into_request();
        let repeatable = is_repeatable(&request);
        let call = |request| {
            let mut events = self.events();
            async move { events.publish(request).await }
        };
        Ok(self.call(call, request, repeatable).await?.into())
    }

    /// Publishes up to 1,000 events in order. Returns a result for each, in the same order.
    ///
    /// # Errors
    /// As [`Client::publish`], for the batch as a whole.
    pub async fn publish_batch(
        &self,
        events: impl IntoIterator<Item = NewEvent>,
    ) -> Result<Vec<Result<Published>>> {
        let requests: Vec<_> = events.into_iter().map(NewEvent::into_request).collect();
        let repeatable = requests.iter().all(is_repeatable);
        let request = proto::PublishBatchRequest { requests };
        let call = |request| {
            let mut events = self.events();
            async move { events.publish_batch(request).await }
        };
        let answer = self.call(call, request, repeatable).await?;
        let answers = answer.responses.into_iter().map(|mut response| {
            let refused = response.error.take();
            refused.map_or_else(|| Ok(Published::from(response)), |why| Err(why.into()))
        });
        Ok(answers.collect())
    }

    /// A stream for many events, of which at most `in_flight` (1 to 65,536) are unacknowledged. Must
    /// be called within a Tokio runtime.
    #[must_use]
    pub fn publisher(&self, in_flight: u32) -> Publisher {
        Publisher::new(self.clone(), in_flight)
    }

    /// Subscribes to channels. Nothing is sent before the first [`Subscription::next`].
    #[must_use]
    pub fn subscribe(&self, what: Subscribe) -> Subscription {
        Subscription::new(self.clone(), what)
    }

    /// Acknowledges the events of a channel up to an offset, for the durable subscription of this
    /// name.
    ///
    /// # Errors
    /// `FailedPrecondition` if the server's store does not survive its process.
    pub async fn ack(
        &self,
        channel: impl Into<String>,
        durable: impl Into<String>,
        offset: u64,
    ) -> Result<()> {
        let request = proto::AckRequest {
            channel: channel.into(),
            durable: durable.into(),
            offset,
            user: String::new(),
        };
        let call = |request| {
            let mut events = self.events();
            async move { events.ack(request).await }
        };
        // A cursor only moves forward, so a repeat changes nothing.
        self.call(call, request, true).await?;
        Ok(())
    }

    /// The generated client for publishing, subscribing and history. Send [`Client::request`]s with
    /// it.
    #[must_use]
    pub fn events(&self) -> EventServiceClient<Channel> {
        EventServiceClient::new(self.channel.clone())
            .max_decoding_message_size(self.largest)
            .max_encoding_message_size(self.largest)
    }

    /// The generated client for connections and statistics. Send [`Client::request`]s with it.
    #[must_use]
    pub fn connections(&self) -> ConnectionServiceClient<Channel> {
        ConnectionServiceClient::new(self.channel.clone()).max_decoding_message_size(self.largest)
    }

    /// The generated client for the store. Send [`Client::endless`] requests with it.
    #[must_use]
    pub fn store(&self) -> StoreServiceClient<Channel> {
        StoreServiceClient::new(self.channel.clone()).max_decoding_message_size(self.largest)
    }

    /// The generated client for event types. Send [`Client::request`]s with it.
    #[must_use]
    pub fn catalog(&self) -> CatalogServiceClient<Channel> {
        CatalogServiceClient::new(self.channel.clone())
            .max_decoding_message_size(self.largest)
            .max_encoding_message_size(self.largest)
    }

    /// A request with the token, with the timeout of [`Builder::timeout`].
    ///
    /// # Errors
    /// `Unavailable` if the token provider fails.
    pub async fn request<T>(&self, message: T) -> Result<Request<T>> {
        let mut request = self.endless(message).await?;
        request.set_timeout(self.timeout);
        Ok(request)
    }

    /// A request with the token, without a timeout, for a stream of responses.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn endless<T>(&self, message: T) -> Result<Request<T>> {
        Ok(signed(message, self.tokens.get().await?.as_ref()))
    }

    pub(crate) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    pub(crate) fn backoff(&self) -> Backoff {
        self.backoff
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Retries until there is a response, a permanent failure, or the timeout. A call that is not
    /// idempotent is only retried if the server has surely not executed it.
    pub(crate) async fn call<T: Clone, R, F>(
        &self,
        call: impl Fn(Request<T>) -> F,
        message: T,
        repeatable: bool,
    ) -> Result<R>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let deadline = Instant::now() + self.timeout;
        let (mut failures, mut renewed) = (0, false);
        loop {
            let late = |_| Error::new(Code::DeadlineExceeded, "no answer in time");
            let mut token = None;
            let attempt = async {
                token = self.tokens.get().await?;
                let mut request = signed(message.clone(), token.as_ref());
                request.set_timeout(deadline.saturating_duration_since(Instant::now()));
                call(request).await.map_err(Error::from)
            };
            let error = match timeout_at(deadline, attempt).await.map_err(late)? {
                Ok(response) => return Ok(response.into_inner()),
                Err(error) => error,
            };
            let refused = error.code() == Code::Unauthenticated && !renewed;
            if refused && self.tokens.refused(token.as_ref()).await {
                renewed = true;
                continue;
            }
            let surely_not_done = error.retry_after().is_some();
            if !error.is_passing() || !(repeatable || surely_not_done) {
                return Err(error);
            }
            let pause = self.backoff.pause(failures, error.retry_after());
            if Instant::now() + pause >= deadline {
                return Err(error);
            }
            sleep(pause).await;
            failures += 1;
        }
    }
}

/// A request with the token.
pub(crate) fn signed<T>(message: T, token: Option<&MetadataValue<Ascii>>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        request
            .metadata_mut()
            .insert("authorization", token.clone());
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Subscribe;

    /// A program may move these to another task.
    fn sent<T: Send + 'static>(value: T) -> T {
        value
    }

    #[tokio::test]
    async fn client_is_send_and_sync() {
        let client = Client::builder("127.0.0.1:9").build().expect("a client");
        let event = NewEvent::json("a", &1).expect("an event");
        drop(sent(async move {
            let mut following = client.subscribe(Subscribe::to(["c"]));
            drop(following.next().await);
            drop(client.publish(event.clone()).await);
            drop(client.publish_batch([event]).await);
            drop(client.request(()).await);
        }));
    }

    #[tokio::test(start_paused = true)]
    async fn call_ends_at_timeout() {
        let client = Client::builder("127.0.0.1:9")
            .timeout(Duration::from_secs(3))
            .build()
            .expect("a client");
        let event = NewEvent::json("a", &1).expect("an event").channel("c");
        let began = Instant::now();
        let error = client.publish(event).await.expect_err("nobody is there");
        let ends = [Code::Unavailable, Code::DeadlineExceeded];
        assert!(ends.contains(&error.code()), "{error}");
        assert!(began.elapsed() <= Duration::from_secs(3));
    }
}
