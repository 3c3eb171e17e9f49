//! `tidings.v1.EventService`.

use std::sync::Arc;

use tonic::{Request, Response, Status, Streaming};

use super::messages;
use super::publish::{self, Publishing};
use super::rpc_context::{Call, Procedure, RpcContext};
use super::service::event_service_server::EventService;
use super::subscribe::{self, SubscribeEvents, SubscribeProtocol};
use crate::admin::page_size_of;
use crate::error::{Error, Result};
use crate::event::{ChannelName, Position};
use crate::hub::Protocol;
use crate::proto::{
    GetHistoryRequest, GetHistoryResponse, PublishBatchRequest, PublishBatchResponse,
    PublishRequest, PublishResponse, PublishStreamRequest, SubscribeRequest,
};
use crate::session::{HistoryPage, HistoryQuery, MAX_ANSWER_BYTES};

/// Publishes and reads events.
pub(super) struct Events {
    context: RpcContext,
    protocol: Arc<dyn Protocol>,
}

impl Events {
    pub(super) fn new(context: RpcContext) -> Self {
        Events {
            context,
            protocol: Arc::new(SubscribeProtocol),
        }
    }
}

const fn procedure(method: &'static str) -> Procedure {
    Procedure("tidings.v1.EventService", method)
}

#[tonic::async_trait]
impl EventService for Events {
    type PublishStreamStream = Publishing;
    type SubscribeStream = SubscribeEvents;

    async fn publish(
        &self,
        request: Request<PublishRequest>,
    ) -> Result<Response<PublishResponse>, Status> {
        self.context
            .answer(procedure("Publish"), request, publish::one)
            .await
    }

    async fn publish_batch(
        &self,
        request: Request<PublishBatchRequest>,
    ) -> Result<Response<PublishBatchResponse>, Status> {
        self.context
            .answer(procedure("PublishBatch"), request, publish::batch)
            .await
    }

    async fn publish_stream(
        &self,
        request: Request<Streaming<PublishStreamRequest>>,
    ) -> Result<Response<Publishing>, Status> {
        let (call, span) = self.context.enter(procedure("PublishStream"), request)?;
        Ok(Response::new(Publishing::new(
            call,
            self.context.clone(),
            span,
        )))
    }

    async fn subscribe(
        &self,
        request: Request<SubscribeRequest>,
    ) -> Result<Response<SubscribeEvents>, Status> {
        let open = |call| subscribe::open(call, Arc::clone(&self.protocol));
        self.context
            .answer(procedure("Subscribe"), request, open)
            .await
    }

    async fn get_history(
        &self,
        request: Request<GetHistoryRequest>,
    ) -> Result<Response<GetHistoryResponse>, Status> {
        self.context
            .answer(procedure("GetHistory"), request, history)
            .await
    }
}

async fn history(call: Call<GetHistoryRequest>) -> Result<GetHistoryResponse> {
    let Call {
        session, message, ..
    } = call;
    let channel = ChannelName::new(&message.channel)?;
    let since = match (&*message.page_token, &message.since) {
        ("", since) => since.as_ref().map(messages::since).transpose()?,
        (token, _) => Some(page_token(token)?),
    };
    let limit = page_size_of(message.page_size)?;
    let query = HistoryQuery {
        channel: channel.clone(),
        since,
        limit,
        reverse: message.reverse,
    };
    let mut page = session.history(query).await?;
    cut(&mut page);
    Ok(GetHistoryResponse {
        channel: channel.to_string(),
        position: Some(messages::position(page.top)),
        events: page
            .events
            .iter()
            .map(|event| messages::event(event))
            .collect(),
        next_page_token: page.next.map(|next| next.to_string()).unwrap_or_default(),
    })
}

fn page_token(token: &str) -> Result<Position> {
    let wrong = |_| {
        Error::field(
            "page_token",
            "expected the next_page_token of the previous page",
        )
    };
    token.parse().map_err(wrong)
}

/// Truncates a page to one message.
fn cut(page: &mut HistoryPage) {
    let mut bytes = 0_usize;
    let fits = page.events.iter().take_while(|event| {
        bytes = bytes.saturating_add(event.weight());
        bytes <= MAX_ANSWER_BYTES
    });
    let fits = fits.count().max(1);
    if fits < page.events.len() {
        page.events.truncate(fits);
        page.next = page.events.last().and_then(|event| event.position);
    }
}
