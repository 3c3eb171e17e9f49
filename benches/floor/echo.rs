//! A bare tonic server: what a publish costs when nothing is done with it.

use std::pin::Pin;

use tidings::grpc::SharedResponse;
use tidings::grpc::service::event_service_server::{EventService, EventServiceServer};
use tidings::proto::{
    GetHistoryRequest, GetHistoryResponse, PublishBatchRequest, PublishBatchResponse,
    PublishRequest, PublishResponse, PublishResult, PublishStreamRequest, PublishStreamResponse,
    SubscribeRequest,
};
use tokio::net::TcpListener;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use crate::{Common, Failure};

pub(crate) fn run(args: &Common) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(args.listen).await?;
        let address = listener.local_addr()?;
        args.ready(address, address)?;
        tonic::transport::Server::builder()
            .add_service(EventServiceServer::new(Echo))
            .serve_with_incoming_shutdown(
                TcpIncoming::from(listener).with_nodelay(Some(true)),
                tokio::time::sleep(args.lifetime()),
            )
            .await?;
        Ok(())
    })
}

struct Echo;

/// As long as a real answer.
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
    type SubscribeStream = tokio_stream::Empty<Result<SharedResponse, Status>>;

    async fn publish(
        &self,
        request: Request<PublishRequest>,
    ) -> Result<Response<PublishResponse>, Status> {
        Ok(Response::new(answer(request.get_ref())))
    }

    async fn publish_batch(
        &self,
        request: Request<PublishBatchRequest>,
    ) -> Result<Response<PublishBatchResponse>, Status> {
        let responses = request.get_ref().requests.iter().map(answer).collect();
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
        Err(Status::unimplemented(
            "the echo server only takes publishes",
        ))
    }

    async fn get_history(
        &self,
        _: Request<GetHistoryRequest>,
    ) -> Result<Response<GetHistoryResponse>, Status> {
        Err(Status::unimplemented(
            "the echo server only takes publishes",
        ))
    }
}
