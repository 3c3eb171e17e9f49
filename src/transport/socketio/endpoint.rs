//! The endpoint: routes the requests of Engine.IO.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::body::Body;
use http::{Method, Request, Response};
use serde_json::json;

use super::failure::Failure;
use super::namespace_set::NamespaceSet;
use super::query::{Query, Transport, is_engine};
use super::sessions::Sessions;
use crate::protocol::Definition;
use crate::session::Services;

/// The least `pingTimeout`.
const LEAST_TIMEOUT: Duration = Duration::from_secs(1);

/// A `[[dialect]]` over Socket.IO.
pub struct SocketIoDialect {
    /// Its definition.
    pub definition: Arc<Definition>,
    /// The paths of the requests; a trailing slash makes no difference.
    pub paths: Vec<String>,
    /// The namespaces to which clients may connect.
    pub namespaces: Vec<String>,
}

/// The settings of the endpoint.
pub struct SocketIoSettings {
    /// The dialects, each with its own paths.
    pub dialects: Vec<SocketIoDialect>,
    /// Whether permessage-deflate is offered.
    pub compression: bool,
    /// The largest message of a client, and the largest payload of a POST, in bytes.
    pub message_bytes: usize,
}

/// The Socket.IO endpoint.
pub struct Endpoint {
    pub(super) services: Arc<Services>,
    pub(super) allowed_origins: Arc<ArcSwap<Vec<String>>>,
    pub(super) sessions: Arc<Sessions>,
    served: ArcSwap<ServedPaths>,
}

/// The dialects by path.
struct ServedPaths {
    namespace_sets: Vec<(String, Arc<NamespaceSet>)>,
    compression: bool,
}

impl ServedPaths {
    /// The dialects of these settings. Unchanged ones are kept with their numbers.
    fn new(
        services: &Arc<Services>,
        settings: SocketIoSettings,
        before: Option<&ServedPaths>,
    ) -> Self {
        let SocketIoSettings {
            dialects,
            compression,
            message_bytes,
        } = settings;
        let namespace_sets = dialects.into_iter().flat_map(|served| {
            let SocketIoDialect {
                definition,
                paths,
                namespaces,
            } = served;
            let namespace_set = NamespaceSet::new(services, definition, &namespaces, message_bytes);
            let mut known = before.iter().flat_map(|before| &before.namespace_sets);
            let same = known.find(|(_, known)| known.is_like(&namespace_set));
            let namespace_set =
                same.map_or_else(|| Arc::new(namespace_set), |(_, same)| Arc::clone(same));
            let paths = paths.into_iter();
            paths.map(move |path| (without_slash(&path).to_owned(), Arc::clone(&namespace_set)))
        });
        ServedPaths {
            namespace_sets: namespace_sets.collect(),
            compression,
        }
    }
}

impl Endpoint {
    /// The endpoint.
    #[must_use]
    pub fn new(
        services: Arc<Services>,
        settings: SocketIoSettings,
        allowed_origins: Arc<ArcSwap<Vec<String>>>,
    ) -> Self {
        Endpoint {
            sessions: Arc::new(Sessions::new(Arc::clone(&services.metrics))),
            served: ArcSwap::from_pointee(ServedPaths::new(&services, settings, None)),
            services,
            allowed_origins,
        }
    }

    /// Applies new settings to new connections.
    pub fn reload(&self, settings: SocketIoSettings) {
        let before = self.served.load();
        let served = ServedPaths::new(&self.services, settings, Some(&before));
        self.served.store(Arc::new(served));
    }

    /// Whether a request with this path and query is for this endpoint. If the WebSocket has the
    /// same path, the query decides. Open polling sessions continue after their dialect or its path
    /// has been removed from the configuration.
    #[must_use]
    pub fn takes(&self, path: &str, query: Option<&str>, is_also_another: bool) -> bool {
        if self.namespace_set(path).is_some() {
            return !is_also_another || is_engine(query);
        }
        let sid = Query::read(query).ok().and_then(|query| query.sid);
        sid.is_some_and(|sid| self.sessions.get(sid).is_some())
    }

    /// Waits until every polling client has fetched the end of its connection or its linger time is
    /// over. Called after the connections have ended and before polls are no longer answered.
    pub async fn deserted(&self) {
        let mut look = tokio::time::interval(Duration::from_millis(20));
        while !self.sessions.is_empty() {
            look.tick().await;
            self.sessions.sweep();
        }
    }

    /// Removes ended sessions. Called about once a second.
    pub fn sweep(&self) {
        self.sessions.sweep();
    }

    /// Answers a request.
    pub async fn answer(&self, request: Request<Body>, address: SocketAddr) -> Response<Body> {
        let namespace_set = self.namespace_set(request.uri().path());
        match self.route(namespace_set, request, address).await {
            Ok(response) => response,
            Err(failure) => {
                self.services.metrics.error(failure.means());
                failure.response()
            }
        }
    }

    async fn route(
        &self,
        namespace_set: Option<Arc<NamespaceSet>>,
        request: Request<Body>,
        address: SocketAddr,
    ) -> Result<Response<Body>, Failure> {
        let uri = request.uri().clone();
        let query = Query::read(uri.query())?;
        let session = match query.sid {
            // A handshake: admission checks the origin.
            None => None,
            Some(sid) => {
                self.check_origin(request.headers(), address)?;
                let session = self.sessions.get(sid).ok_or(Failure::Session)?;
                Some((sid, session))
            }
        };
        let namespace_set = namespace_set.ok_or(Failure::Request);
        let method = request.method().clone();
        match (query.transport, session, method) {
            (Transport::Polling, None, Method::GET) => Ok(self
                .open_polling(namespace_set?, request.headers(), query.token, address)
                .await),
            (Transport::Polling, Some((sid, session)), Method::GET) => {
                self.poll(sid, &session, request.headers()).await
            }
            (Transport::Polling, Some((_, session)), Method::POST) => {
                self.post(&session, request, address).await
            }
            (Transport::WebSocket, None, Method::GET) => {
                self.open_socket(namespace_set?, request, query.token, address)
                    .await
            }
            (Transport::WebSocket, Some((sid, session)), Method::GET) => {
                self.upgrade(sid, session, request)
            }
            (_, None, _) => Err(Failure::Method),
            (_, Some(_), _) => Err(Failure::Request),
        }
    }

    fn namespace_set(&self, path: &str) -> Option<Arc<NamespaceSet>> {
        let served = self.served.load();
        let path = without_slash(path);
        let found = served.namespace_sets.iter().find(|(own, _)| own == path)?;
        Some(Arc::clone(&found.1))
    }

    pub(super) fn compression(&self) -> bool {
        self.served.load().compression
    }

    /// The OPEN packet: the session's id and the parameters of the connection.
    pub(super) fn open_packet(
        &self,
        namespace_set: &NamespaceSet,
        sid: &str,
        upgrades: &[&str],
    ) -> String {
        let settings = self.services.hub.settings();
        let interval = settings.heartbeat_interval;
        // Client and server close after the sum of both. Pings of many connections are sent in one pass,
        // so a ping may be slightly late.
        let timeout = settings.heartbeat_timeout.saturating_sub(interval);
        let timeout = timeout.max(LEAST_TIMEOUT);
        let body = json!({
            "sid": sid,
            "upgrades": upgrades,
            "pingInterval": u64::try_from(interval.as_millis()).unwrap_or(u64::MAX),
            "pingTimeout": u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
            "maxPayload": namespace_set.message_bytes,
        });
        format!("0{body}")
    }
}

fn without_slash(path: &str) -> &str {
    path.strip_suffix('/').unwrap_or(path)
}
