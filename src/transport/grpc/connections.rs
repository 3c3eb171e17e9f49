//! `tidings.v1.ConnectionService`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior};
use tokio_stream::Stream;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::{Request, Response, Status};

use super::messages;
use super::refusals::WatchRefusals;
use super::reports;
use super::rpc_context::{Call, Procedure, RpcContext};
use super::service::connection_service_server::ConnectionService;
use crate::admin::{
    Admin, ChannelOrder, ChannelsQuery, ConnectionsRequest, ExplainRequest as Question, Target,
    Viewer, parse_order,
};
use crate::error::{Error, Result};
use crate::event::{ChannelName, ConnectionId};
use crate::hub::{ConnectionFilter, ConnectionOrder};
use crate::proto::{
    DisconnectRequest, DisconnectResponse, ExplainRequest, ExplainResponse, GetConnectionRequest,
    GetConnectionResponse, GetPresenceRequest, GetPresenceResponse, GetServerInfoRequest,
    GetServerInfoResponse, GetStatsHistoryRequest, GetStatsHistoryResponse, GetStatsRequest,
    GetStatsResponse, ListChannelsRequest, ListChannelsResponse, ListConnectionsRequest,
    ListConnectionsResponse, ListSourcesRequest, ListSourcesResponse, ListWebhooksRequest,
    ListWebhooksResponse, ResendWebhooksRequest, ResendWebhooksResponse, WatchRefusalsRequest,
    WatchStatsRequest, WatchStatsResponse,
};
use crate::proto::{disconnect_request, explain_request};
use crate::session::Session;
use crate::telemetry::{Span, Transport};

/// Lists and closes connections.
pub(super) struct Connections {
    context: RpcContext,
}

impl Connections {
    pub(super) fn new(context: RpcContext) -> Self {
        Connections { context }
    }
}

const fn procedure(method: &'static str) -> Procedure {
    Procedure("tidings.v1.ConnectionService", method)
}

fn viewer(session: &Session) -> Result<Viewer> {
    Viewer::new(session.services(), session.identity())
}

fn admin(session: &Session) -> Result<Admin> {
    Admin::new(session.services(), session.identity())
}

#[tonic::async_trait]
impl ConnectionService for Connections {
    type WatchStatsStream = WatchStats;
    type WatchRefusalsStream = WatchRefusals;

    async fn get_stats(
        &self,
        request: Request<GetStatsRequest>,
    ) -> Result<Response<GetStatsResponse>, Status> {
        let stats = |call: Call<GetStatsRequest>| async move {
            let stats = viewer(&call.session)?.stats(&call.message.node).await?;
            Ok(GetStatsResponse {
                stats: Some(reports::stats(stats.total)),
                nodes: stats.nodes.into_iter().map(reports::stats).collect(),
                unreachable: stats.unreachable,
            })
        };
        self.context
            .answer(procedure("GetStats"), request, stats)
            .await
    }

    async fn watch_stats(
        &self,
        request: Request<WatchStatsRequest>,
    ) -> Result<Response<WatchStats>, Status> {
        let (call, span) = self.context.enter(procedure("WatchStats"), request)?;
        match watch(call, self.context.clone()) {
            Ok(mut watch) => {
                watch.span = span;
                Ok(Response::new(watch))
            }
            Err(error) => Err(self.context.refuse(span, &error)),
        }
    }

    async fn list_connections(
        &self,
        request: Request<ListConnectionsRequest>,
    ) -> Result<Response<ListConnectionsResponse>, Status> {
        self.context
            .answer(procedure("ListConnections"), request, list)
            .await
    }

    async fn get_connection(
        &self,
        request: Request<GetConnectionRequest>,
    ) -> Result<Response<GetConnectionResponse>, Status> {
        let get = |call: Call<GetConnectionRequest>| async move {
            let viewer = viewer(&call.session)?;
            let found = viewer
                .connection(connection_id(&call.message.connection_id)?)
                .await?;
            Ok(GetConnectionResponse {
                connection: Some(reports::connection(found)),
            })
        };
        self.context
            .answer(procedure("GetConnection"), request, get)
            .await
    }

    async fn disconnect(
        &self,
        request: Request<DisconnectRequest>,
    ) -> Result<Response<DisconnectResponse>, Status> {
        self.context
            .answer(procedure("Disconnect"), request, disconnect)
            .await
    }

    async fn list_channels(
        &self,
        request: Request<ListChannelsRequest>,
    ) -> Result<Response<ListChannelsResponse>, Status> {
        let list = |call: Call<ListChannelsRequest>| async move {
            let (viewer, asked) = (viewer(&call.session)?, call.message);
            let query = ChannelsQuery {
                prefix: asked.prefix,
                order: parse_order(&asked.order_by, asked.desc, ChannelOrder::ALL)?,
                page_size: asked.page_size,
                page_token: asked.page_token,
            };
            let (channels, next_page_token) = viewer.channels(&query).await?;
            let channels = channels.iter().map(reports::channel).collect();
            Ok(ListChannelsResponse {
                channels,
                next_page_token,
            })
        };
        self.context
            .answer(procedure("ListChannels"), request, list)
            .await
    }

    async fn get_presence(
        &self,
        request: Request<GetPresenceRequest>,
    ) -> Result<Response<GetPresenceResponse>, Status> {
        let presence = |call: Call<GetPresenceRequest>| async move {
            // A caller that may read a channel's events may know its subscribers, as over HTTP.
            call.session.check_reader()?;
            let channel = ChannelName::new(&call.message.channel)?;
            let present = call.session.presence(&channel).await?;
            Ok(reports::presence(&channel, present))
        };
        self.context
            .answer(procedure("GetPresence"), request, presence)
            .await
    }

    async fn get_server_info(
        &self,
        request: Request<GetServerInfoRequest>,
    ) -> Result<Response<GetServerInfoResponse>, Status> {
        let info = |call: Call<GetServerInfoRequest>| async move {
            let server = viewer(&call.session)?.server_info().await;
            Ok(GetServerInfoResponse {
                server: Some(reports::server_info(server)),
            })
        };
        self.context
            .answer(procedure("GetServerInfo"), request, info)
            .await
    }

    async fn get_stats_history(
        &self,
        request: Request<GetStatsHistoryRequest>,
    ) -> Result<Response<GetStatsHistoryResponse>, Status> {
        let history = |call: Call<GetStatsHistoryRequest>| async move {
            let viewer = viewer(&call.session)?;
            let after = call.message.after.map(|after| {
                messages::moment(after).ok_or_else(|| {
                    Error::field(
                        "after",
                        "expected years 1 to 9999 and nanos below 1000000000",
                    )
                })
            });
            Ok(reports::stats_history(
                &viewer.stats_history(after.transpose()?),
            ))
        };
        self.context
            .answer(procedure("GetStatsHistory"), request, history)
            .await
    }

    async fn explain(
        &self,
        request: Request<ExplainRequest>,
    ) -> Result<Response<ExplainResponse>, Status> {
        let explain = |call: Call<ExplainRequest>| async move {
            let (viewer, asked) = (viewer(&call.session)?, call.message);
            let (user, claims) = match asked.subject {
                None => (String::new(), String::new()),
                Some(explain_request::Subject::User(user)) => (user, String::new()),
                Some(explain_request::Subject::Claims(claims)) => (String::new(), claims),
            };
            let explained = viewer.explain(&Question {
                user,
                claims,
                roles: asked.roles,
                action: asked.action,
                channel: asked.channel,
                event_type: asked.event_type,
            })?;
            Ok(reports::explanation(explained))
        };
        self.context
            .answer(procedure("Explain"), request, explain)
            .await
    }

    async fn list_sources(
        &self,
        request: Request<ListSourcesRequest>,
    ) -> Result<Response<ListSourcesResponse>, Status> {
        let list = |call: Call<ListSourcesRequest>| async move {
            let viewer = viewer(&call.session)?;
            Ok(reports::sources(viewer.node(), viewer.sources()))
        };
        self.context
            .answer(procedure("ListSources"), request, list)
            .await
    }

    async fn watch_refusals(
        &self,
        request: Request<WatchRefusalsRequest>,
    ) -> Result<Response<WatchRefusals>, Status> {
        let (call, span) = self.context.enter(procedure("WatchRefusals"), request)?;
        match WatchRefusals::begin(call, self.context.clone()) {
            Ok(watch) => Ok(Response::new(watch.within(span))),
            Err(error) => Err(self.context.refuse(span, &error)),
        }
    }

    async fn list_webhooks(
        &self,
        request: Request<ListWebhooksRequest>,
    ) -> Result<Response<ListWebhooksResponse>, Status> {
        let list = |call: Call<ListWebhooksRequest>| async move {
            let webhooks = viewer(&call.session)?.webhooks();
            let webhooks = webhooks.into_iter().map(reports::webhook).collect();
            Ok(ListWebhooksResponse { webhooks })
        };
        self.context
            .answer(procedure("ListWebhooks"), request, list)
            .await
    }

    async fn resend_webhooks(
        &self,
        request: Request<ResendWebhooksRequest>,
    ) -> Result<Response<ResendWebhooksResponse>, Status> {
        let resend = |call: Call<ResendWebhooksRequest>| async move {
            let admin = admin(&call.session)?;
            let resent = admin.resend_webhooks(&call.message.url).await?;
            Ok(ResendWebhooksResponse { resent })
        };
        self.context
            .answer(procedure("ResendWebhooks"), request, resend)
            .await
    }
}

async fn list(call: Call<ListConnectionsRequest>) -> Result<ListConnectionsResponse> {
    let (viewer, asked) = (viewer(&call.session)?, call.message);
    let text = |text: &str| (!text.is_empty()).then(|| Arc::<str>::from(text));
    let some = |text: &str| (!text.is_empty()).then(|| Box::<str>::from(text));
    let known = Transport::ALL
        .iter()
        .any(|transport| transport.as_str() == asked.transport);
    if !asked.transport.is_empty() && !known {
        return Err(Error::field("transport", Transport::expected()));
    }
    let filter = ConnectionFilter {
        user: text(&asked.user),
        role: text(&asked.role),
        channel: (!asked.channel.is_empty())
            .then(|| ChannelName::new(&asked.channel))
            .transpose()?,
        transport: some(&asked.transport),
        client_type: some(&asked.client_type),
        address: (!asked.address.is_empty())
            .then(|| asked.address.parse())
            .transpose()?,
    };
    let orders = ConnectionOrder::ALL.map(|order| (order.as_str(), order));
    let request = ConnectionsRequest {
        filter,
        order: parse_order(&asked.order_by, asked.desc, orders)?,
        page_size: asked.page_size,
        page_token: asked.page_token,
        node: asked.node,
    };
    let page = viewer.connections(&request).await?;
    let connections = page.connections.into_iter();
    Ok(ListConnectionsResponse {
        connections: connections.map(reports::connection).collect(),
        next_page_token: page.next_page_token,
        unreachable: page.unreachable,
    })
}

async fn disconnect(call: Call<DisconnectRequest>) -> Result<DisconnectResponse> {
    let (admin, asked) = (admin(&call.session)?, call.message);
    let target = match asked.target {
        Some(disconnect_request::Target::ConnectionId(id)) => {
            Target::Connection(connection_id(&id)?)
        }
        Some(disconnect_request::Target::User(user)) if !user.is_empty() => Target::User(user),
        Some(disconnect_request::Target::User(_)) => {
            return Err(Error::field("user", "expected a user's name"));
        }
        None => return Err(Error::field("target", "expected connection_id or user")),
    };
    let disconnected = admin
        .disconnect(target, &asked.reason, asked.revoke)
        .await?;
    Ok(DisconnectResponse { disconnected })
}

/// Ids are opaque to clients, so an id that the server never assigned is treated like one that no
/// longer exists.
fn connection_id(text: &str) -> Result<ConnectionId> {
    if text.is_empty() {
        return Err(Error::field(
            "connection_id",
            "expected a connection id as the server gave it",
        ));
    }
    text.parse()
        .map_err(|_| Error::not_found("no such connection"))
}

fn watch(call: Call<WatchStatsRequest>, context: RpcContext) -> Result<WatchStats> {
    let viewer = viewer(&call.session)?;
    let mut every = tokio::time::interval(interval(call.message.interval)?);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let stopping = Box::pin(context.stopping().clone().cancelled_owned());
    Ok(WatchStats {
        viewer,
        session: call.session,
        every,
        stopping,
        context,
        span: Span::none(),
        over: false,
    })
}

fn interval(asked: Option<prost_types::Duration>) -> Result<Duration> {
    let Some(asked) = asked else {
        return Ok(Duration::from_secs(1));
    };
    let (least, most) = (Duration::from_millis(100), Duration::from_hours(1));
    match Duration::try_from(asked) {
        Ok(interval) if (least..=most).contains(&interval) => Ok(interval),
        _ => Err(Error::field("interval", "expected 100 ms to 1 h")),
    }
}

/// Streams the counters at an interval.
pub(super) struct WatchStats {
    viewer: Viewer,
    session: Session,
    every: Interval,
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
    context: RpcContext,
    span: Span,
    over: bool,
}

impl Stream for WatchStats {
    type Item = Result<WatchStatsResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.over {
            return Poll::Ready(None);
        }
        let failure = if this.stopping.as_mut().poll(cx).is_ready() {
            Err(Error::unavailable("the server restarts"))
        } else {
            std::task::ready!(this.every.poll_tick(cx));
            this.context.still_good(&this.session)
        };
        if let Err(error) = failure {
            this.over = true;
            let status = this.context.refuse(std::mem::take(&mut this.span), &error);
            return Poll::Ready(Some(Err(status)));
        }
        Poll::Ready(Some(Ok(WatchStatsResponse {
            stats: Some(reports::stats(this.viewer.stats_here())),
        })))
    }
}
