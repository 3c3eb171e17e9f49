//! What operators ask: connections, channels, counters, and the catalog.
#![allow(clippy::needless_update, reason = "messages get more fields")]

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tonic::{Code, Streaming};

use crate::{Client, Result, proto};

/// Who is in a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// The number of connections of each user, at most 1,000 users.
    pub users: BTreeMap<String, u32>,
    /// The number of all users.
    pub total: u64,
}

/// The calls of `ConnectionService`, for role `admin`, and of `CatalogService`.
///
/// All of them are retried like [`Client::history_page`], and fail like it.
#[derive(Debug, Clone)]
pub struct Admin {
    client: Client,
}

/// A call of a generated client, with retries.
macro_rules! call {
    ($client:expr, $service:ident.$method:ident($request:expr)) => {{
        let call = |request| {
            let mut service = $client.$service();
            async move { service.$method(request).await }
        };
        $client.call(call, $request, true)
    }};
}

impl Client {
    /// The calls for operators.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin {
            client: self.clone(),
        }
    }

    /// Who is in a channel. Needs role `service` or `admin`.
    ///
    /// # Errors
    /// As [`Client::history_page`]. `FailedPrecondition` if its namespace has no presence.
    pub async fn presence(&self, channel: impl Into<String>) -> Result<Presence> {
        let request = proto::GetPresenceRequest {
            channel: channel.into(),
            ..proto::GetPresenceRequest::default()
        };
        let answer = call!(self, connections.get_presence(request)).await?;
        let users = answer.users.into_iter();
        Ok(Presence {
            users: users.map(|user| (user.user, user.connections)).collect(),
            total: answer.total,
        })
    }
}

#[allow(clippy::missing_errors_doc, reason = "described at the type")]
impl Admin {
    /// The counters of all nodes together, those of each, and the nodes that did not answer in time.
    /// With a name or a number, only those of this node; all if it is empty.
    pub async fn cluster_stats(&self, node: impl Into<String>) -> Result<proto::GetStatsResponse> {
        let request = proto::GetStatsRequest {
            node: node.into(),
            ..proto::GetStatsRequest::default()
        };
        call!(self.client, connections.get_stats(request)).await
    }

    /// The current counters of all nodes together.
    pub async fn stats(&self) -> Result<proto::Stats> {
        let request = proto::GetStatsRequest::default();
        let answer = call!(self.client, connections.get_stats(request)).await?;
        Ok(answer.stats.unwrap_or_default())
    }

    /// The counters, with one reading each interval. Not retried.
    pub async fn watch_stats(
        &self,
        interval: Duration,
    ) -> Result<Streaming<proto::WatchStatsResponse>> {
        let request = proto::WatchStatsRequest {
            interval: prost_types::Duration::try_from(interval).ok(),
            ..proto::WatchStatsRequest::default()
        };
        let request = self.client.endless(request).await?;
        let answer = self.client.connections().watch_stats(request).await?;
        Ok(answer.into_inner())
    }

    /// A page of the connections that match all conditions.
    pub async fn connections(
        &self,
        request: proto::ListConnectionsRequest,
    ) -> Result<proto::ListConnectionsResponse> {
        call!(self.client, connections.list_connections(request)).await
    }

    /// One connection. `None` if it is closed.
    pub async fn connection(&self, id: impl Into<String>) -> Result<Option<proto::Connection>> {
        let request = proto::GetConnectionRequest {
            connection_id: id.into(),
            ..proto::GetConnectionRequest::default()
        };
        match call!(self.client, connections.get_connection(request)).await {
            Ok(answer) => Ok(answer.connection),
            Err(error) if error.code() == Code::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Closes the connections that the request names. Returns how many.
    pub async fn disconnect(&self, request: proto::DisconnectRequest) -> Result<u64> {
        let answer = call!(self.client, connections.disconnect(request)).await?;
        Ok(answer.disconnected)
    }

    /// A page of the channels that have subscribers or history, by name.
    pub async fn channels(
        &self,
        request: proto::ListChannelsRequest,
    ) -> Result<proto::ListChannelsResponse> {
        call!(self.client, connections.list_channels(request)).await
    }

    /// A page of the event types of the catalog, by name.
    pub async fn event_types(
        &self,
        request: proto::ListEventTypesRequest,
    ) -> Result<proto::ListEventTypesResponse> {
        call!(self.client, catalog.list_event_types(request)).await
    }

    /// One event type. `None` if the catalog lacks it.
    pub async fn event_type(&self, name: impl Into<String>) -> Result<Option<proto::EventType>> {
        let request = proto::GetEventTypeRequest {
            name: name.into(),
            ..proto::GetEventTypeRequest::default()
        };
        match call!(self.client, catalog.get_event_type(request)).await {
            Ok(answer) => Ok(answer.event_type),
            Err(error) if error.code() == Code::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Checks a payload against the catalog. Returns the violations: none if it would be accepted.
    pub async fn validate(
        &self,
        event_type: impl Into<String>,
        data: impl Into<Bytes>,
    ) -> Result<Vec<proto::ValidationError>> {
        let request = proto::ValidateEventRequest {
            r#type: event_type.into(),
            data: data.into(),
            ..proto::ValidateEventRequest::default()
        };
        Ok(call!(self.client, catalog.validate_event(request))
            .await?
            .errors)
    }
}
