//! Calls that are repeated where that helps.

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
use crate::{Backoff, Builder, Error, NewEvent, Published, Result, proto};

/// A server, as its clients see it. Clones share one connection.
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

    /// Publishes an event, and answers when it has its place. What was not answered is sent again, without being
    /// published twice, until the time is over.
    ///
    /// # Errors
    /// What the server refuses it with; `Unavailable` or `DeadlineExceeded` where it can't be had in time.
    pub async fn publish(&self, event: NewEvent) -> Result<Published> {
        let request = event.into_request();
        let repeatable = is_repeatable(&request);
        let call = |request| {
            let mut events = self.events();
            async move { events.publish(request).await }
        };
        Ok(self.call(call, request, repeatable).await?.into())
    }

    /// Publishes up to 1,000 events, in order. Each has an answer of its own, in the same order.
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

    /// Follows channels. Nothing is sent before the first [`Subscription::next`].
    #[must_use]
    pub fn subscribe(&self, what: Subscribe) -> Subscription {
        Subscription::new(self.clone(), what)
    }

    /// Publishing, following and history, as generated: for [`Client::request`]s.
    #[must_use]
    pub fn events(&self) -> EventServiceClient<Channel> {
        EventServiceClient::new(self.channel.clone())
            .max_decoding_message_size(self.largest)
            .max_encoding_message_size(self.largest)
    }

    /// Connections and statistics, as generated: for [`Client::request`]s.
    #[must_use]
    pub fn connections(&self) -> ConnectionServiceClient<Channel> {
        ConnectionServiceClient::new(self.channel.clone()).max_decoding_message_size(self.largest)
    }

    /// The store, as generated: for [`Client::endless`] requests.
    #[must_use]
    pub fn store(&self) -> StoreServiceClient<Channel> {
        StoreServiceClient::new(self.channel.clone()).max_decoding_message_size(self.largest)
    }

    /// Event types, as generated: for [`Client::request`]s.
    #[must_use]
    pub fn catalog(&self) -> CatalogServiceClient<Channel> {
        CatalogServiceClient::new(self.channel.clone())
            .max_decoding_message_size(self.largest)
            .max_encoding_message_size(self.largest)
    }

    /// A request with the token in it, whose answer has to come within [`Builder::timeout`].
    ///
    /// # Errors
    /// `Unavailable` where the provider of tokens fails.
    pub async fn request<T>(&self, message: T) -> Result<Request<T>> {
        let mut request = self.endless(message).await?;
        request.set_timeout(self.timeout);
        Ok(request)
    }

    /// A request with the token in it, whose answers never end.
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

    /// Calls until there is an answer, a failure that stays, or the time is over. What is not repeatable is
    /// repeated only where the server has surely not done it.
    async fn call<T: Clone, R, F>(
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

/// A request with the token in it.
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

    /// What a program may hand to another task.
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
