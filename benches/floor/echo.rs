//! A bare tonic server: the cost of a publish if nothing is done with it, except passing the
//! encoded event to all subscribers, if there are any.

use std::num::NonZeroUsize;
use std::pin::Pin;

use tidings::proto::subscribe_response::Message as Step;
use tidings::proto::{
    AckRequest, AckResponse, Event, GetCursorsRequest, GetCursorsResponse, GetHistoryRequest,
    GetHistoryResponse, PublishBatchRequest, PublishBatchResponse, PublishRequest, PublishResponse,
    PublishResult, PublishStreamRequest, PublishStreamResponse, PurgeHistoryRequest,
    PurgeHistoryResponse, SubscribeRequest, SubscribeUserRequest, SubscribeUserResponse,
    Subscribed, UnsubscribeUserRequest, UnsubscribeUserResponse,
};
use tidings::transport::grpc::SharedResponse;
use tidings::transport::grpc::service::event_service_server::{EventService, EventServiceServer};
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use crate::{Failure, FloorArgs};

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    options: FloorArgs,
    /// Threads of its runtime [default: the number of processors]
    #[arg(long)]
    threads: Option<NonZeroUsize>,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = args.threads {
        builder.worker_threads(threads.get());
    }
    let runtime = builder.enable_all().build()?;
    let args = &args.options;
    runtime.block_on(async {
        let listener = TcpListener::bind(args.listen).await?;
        let address = listener.local_addr()?;
        args.ready(address, address)?;
        tonic::transport::Server::builder()
            .add_service(EventServiceServer::new(Echo::new()))
            .serve_with_incoming_shutdown(
                TcpIncoming::from(listener).with_nodelay(Some(true)),
                tokio::time::sleep(args.lifetime()),
            )
            .await?;
        Ok(())
    })
}

/// How many events a subscriber may lag behind.
const BACKLOG: usize = 4096;

struct Echo {
    subscribers: broadcast::Sender<SharedResponse>,
}

impl Echo {
    fn new() -> Self {
        Echo {
            subscribers: broadcast::Sender::new(BACKLOG),
        }
    }

    fn take(&self, request: &PublishRequest) -> PublishResponse {
        let answer = answer(request);
        if self.subscribers.receiver_count() > 0 {
            let event = Event {
                id: answer.id.clone(),
                r#type: request.r#type.clone(),
                channel: request.channels.first().cloned().unwrap_or_default(),
                data: request.data.clone(),
                ..Event::default()
            };
            let encoded = SharedResponse::encoded(Step::Event(event));
            // The last subscriber may have left meanwhile.
            drop(self.subscribers.send(SharedResponse::new(encoded)));
        }
        answer
    }
}

/// As long as a real response.
fn answer(request: &PublishRequest) -> PublishResponse {
    let result = |channel: &String| PublishResult {
        channel: channel.clone(),
        subscribers: 1,
        ..PublishResult::default()
    };
    PublishResponse {
        id: "01900000-0000-7000-8000-000000000000".to_owned(),
        results: request.channels.iter().map(result).collect(),
        error: None,
    }
}

#[tonic::async_trait]
impl EventService for Echo {
    type PublishStreamStream =
        Pin<Box<dyn Stream<Item = Result<PublishStreamResponse, Status>> + Send>>;
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<SharedResponse, Status>> + Send>>;

    async fn publish(
        &self,
        request: Request<PublishRequest>,
    ) -> Result<Response<PublishResponse>, Status> {
        Ok(Response::new(self.take(request.get_ref())))
    }

    async fn publish_batch(
        &self,
        request: Request<PublishBatchRequest>,
    ) -> Result<Response<PublishBatchResponse>, Status> {
        let requests = request.get_ref().requests.iter();
        let responses = requests.map(|request| self.take(request)).collect();
        Ok(Response::new(PublishBatchResponse { responses }))
    }

    async fn publish_stream(
        &self,
        request: Request<Streaming<PublishStreamRequest>>,
    ) -> Result<Response<Self::PublishStreamStream>, Status> {
        let answers = request.into_inner().map(|item| {
            let response = item?.request.as_ref().map(answer);
            Ok(PublishStreamResponse { response })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn subscribe(
        &self,
        _: Request<SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let stands = SharedResponse::encoded(Step::Subscribed(Subscribed::default()));
        let first = tokio_stream::once(Ok(SharedResponse::new(stands)));
        let events = BroadcastStream::new(self.subscribers.subscribe());
        let events = events.map(|event| event.map_err(|_| Status::aborted("too far behind")));
        Ok(Response::new(Box::pin(first.chain(events))))
    }

    async fn get_history(
        &self,
        _: Request<GetHistoryRequest>,
    ) -> Result<Response<GetHistoryResponse>, Status> {
        Err(absent())
    }

    async fn purge_history(
        &self,
        _: Request<PurgeHistoryRequest>,
    ) -> Result<Response<PurgeHistoryResponse>, Status> {
        Err(absent())
    }

    async fn subscribe_user(
        &self,
        _: Request<SubscribeUserRequest>,
    ) -> Result<Response<SubscribeUserResponse>, Status> {
        Err(absent())
    }

    async fn unsubscribe_user(
        &self,
        _: Request<UnsubscribeUserRequest>,
    ) -> Result<Response<UnsubscribeUserResponse>, Status> {
        Err(absent())
    }

    async fn ack(&self, _: Request<AckRequest>) -> Result<Response<AckResponse>, Status> {
        Err(absent())
    }

    async fn get_cursors(
        &self,
        _: Request<GetCursorsRequest>,
    ) -> Result<Response<GetCursorsResponse>, Status> {
        Err(absent())
    }
}

/// The calls that no benchmark makes.
fn absent() -> Status {
    Status::unimplemented("the echo server only publishes")
}
