//! The publishers: how tasks publish their events over gRPC.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::error::{Error, Result};
use crate::payload::{EVENT_TYPE, NAMESPACE};
use crate::publisher_task::{Outgoing, PublisherLog, PublisherTask};
use crate::token::Secret;
use tidings_client::proto::event_service_client::EventServiceClient;
use tidings_client::proto::{
    PublishBatchRequest, PublishRequest, PublishResponse, PublishStreamRequest,
};

/// The connect timeout.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The response timeout: a slower server is stuck, not slow.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// A task ends after this many refusals in a row: more of them would add no information.
pub(super) const MAX_REFUSALS: u32 = 100;
/// Responses to a batch may be long: one result for each of 1,000 events.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// One gRPC connection that publishes.
pub(super) type Client = EventServiceClient<InterceptedService<Channel, Bearer>>;

/// Adds the token to every call.
#[derive(Clone)]
pub(super) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> std::result::Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request
                .metadata_mut()
                .insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// Connects to the server at `address` (`host:port`).
///
/// # Errors
///
/// If there is no server, or the token is not a valid header value.
pub(super) async fn connect(address: &str, token: Option<Secret>) -> Result<Client> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| Error::field("grpc", "host:port"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true);
    let channel = endpoint
        .connect()
        .await
        .map_err(|error| Error::new(format!("no gRPC server at {address}: {error}")))?;
    let bearer = token.map(|token| {
        let mut value = MetadataValue::try_from(format!("Bearer {}", token.expose()))
            .map_err(|_| Error::field("token", "a valid header value"))?;
        value.set_sensitive(true);
        Ok::<_, Error>(value)
    });
    let client = EventServiceClient::with_interceptor(channel, Bearer(bearer.transpose()?));
    Ok(client.max_decoding_message_size(MAX_ANSWER_BYTES))
}

/// Makes one call for each event, each after the response to the previous one.
///
/// # Errors
///
/// If the server stops answering or refuses everything.
pub(super) async fn unary(mut client: Client, mut task: PublisherTask) -> Result<PublisherLog> {
    let mut log = task.log();
    let mut refusals = 0;
    while let Some(event) = task.next().await {
        let (channel, sent) = (event.channel, event.sent);
        match limited(client.publish(request_for(event))).await {
            Ok(_) => {
                log.accepted(sent);
                refusals = 0;
            }
            Err(status) => {
                log.refused(channel, status.message());
                refusals += 1;
                if refusals >= MAX_REFUSALS {
                    return Err(given_up(&status));
                }
            }
        }
    }
    Ok(task.finish(log))
}

/// Sends up to `window` events in one call, each call after the response to the previous one.
///
/// # Errors
///
/// If the server refuses a whole call.
pub(super) async fn batch(
    mut client: Client,
    mut task: PublisherTask,
    window: usize,
) -> Result<PublisherLog> {
    let mut log = task.log();
    while let Some(first) = task.next().await {
        let mut sent = vec![(first.channel, first.sent)];
        let mut requests = vec![request_for(first)];
        while requests.len() < window {
            let Some(event) = task.due() else { break };
            sent.push((event.channel, event.sent));
            requests.push(request_for(event));
        }
        let call = client.publish_batch(PublishBatchRequest { requests });
        let answer = limited(call).await.map_err(|status| given_up(&status))?;
        let responses = answer.into_inner().responses;
        if responses.len() != sent.len() {
            return Err(Error::new(
                "a batch was answered with too few or too many responses",
            ));
        }
        for ((channel, sent), response) in sent.into_iter().zip(&responses) {
            note(&mut log, channel, sent, Some(response));
        }
    }
    Ok(task.finish(log))
}

/// One stream, with up to `window` unanswered events.
///
/// # Errors
///
/// If the server ends the stream.
pub(super) async fn stream(
    mut client: Client,
    mut task: PublisherTask,
    window: usize,
) -> Result<PublisherLog> {
    let mut log = task.log();
    let (requests, outgoing) = mpsc::channel(window);
    // Its capacity is the window: its entries are unanswered events.
    let (waiting, mut answered) = mpsc::channel::<(usize, u64)>(window);
    let call = limited(client.publish_stream(ReceiverStream::new(outgoing)));
    let requesting = async {
        while let Ok(permit) = waiting.reserve().await {
            let Some(event) = task.next().await else {
                break;
            };
            permit.send((event.channel, event.sent));
            let request = PublishStreamRequest {
                request: Some(request_for(event)),
            };
            if requests.send(request).await.is_err() {
                break;
            }
        }
        drop((requests, waiting));
        Ok(())
    };
    let receive = async {
        // Awaited inside, because a server may wait for the first request before it answers at all.
        let mut answers = call.await.map_err(|status| given_up(&status))?.into_inner();
        while let Some(answer) = answers.next().await {
            let answer = answer.map_err(|status| given_up(&status))?;
            let Some((channel, sent)) = answered.recv().await else {
                return Err(Error::new("an answer without a request"));
            };
            note(&mut log, channel, sent, answer.response.as_ref());
        }
        answered.close();
        match answered.recv().await {
            Some(_) => Err(Error::new("the server ended the stream with answers due")),
            None => Ok(()),
        }
    };
    tokio::try_join!(requesting, receive)?;
    Ok(task.finish(log))
}

async fn limited<T>(
    call: impl Future<Output = std::result::Result<T, Status>>,
) -> std::result::Result<T, Status> {
    match tokio::time::timeout(ANSWER_TIMEOUT, call).await {
        Ok(answer) => answer,
        Err(_) => Err(Status::deadline_exceeded("no answer within 30 s")),
    }
}

fn request_for(event: Outgoing) -> PublishRequest {
    PublishRequest {
        channels: vec![format!("{NAMESPACE}:{}", event.channel)],
        r#type: EVENT_TYPE.to_owned(),
        data: event.data,
        ..PublishRequest::default()
    }
}

fn note(log: &mut PublisherLog, channel: usize, sent: u64, response: Option<&PublishResponse>) {
    match response.map(|response| response.error.as_ref()) {
        Some(None) => log.accepted(sent),
        Some(Some(error)) => log.refused(channel, &error.message),
        None => log.refused(channel, "an empty answer"),
    }
}

fn given_up(status: &Status) -> Error {
    Error::new(format!(
        "publishing failed: {:?}: {}",
        status.code(),
        status.message()
    ))
}
