//! The endpoint: which requests are Socket.IO's, and what each of them is.

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

/// How late a ping may be, at least, before a client gives up.
const LEAST_TIMEOUT: Duration = Duration::from_secs(1);

/// A dialect that is spoken over Socket.IO.
pub struct SocketIoDialect {
    /// What client and server call things.
    pub definition: Arc<Definition>,
    /// The paths of the requests; a slash at the end makes no difference.
    pub paths: Vec<String>,
    /// The namespaces to which clients may connect.
    pub namespaces: Vec<String>,
}

/// What the endpoint is set up with.
pub struct SocketIoSettings {
    /// Each with its own paths.
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
    spoken: ArcSwap<ServedPaths>,
}

/// What is spoken where.
struct ServedPaths {
    namespace_sets: Vec<(String, Arc<NamespaceSet>)>,
    compression: bool,
}

impl ServedPaths {
    /// What these settings say. A dialect that stays the same stays itself, with its numbers.
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
        let namespace_sets = dialects.into_iter().flat_map(|spoken| {
            let SocketIoDialect {
                definition,
                paths,
                namespaces,
            } = spoken;
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
            spoken: ArcSwap::from_pointee(ServedPaths::new(&services, settings, None)),
            services,
            allowed_origins,
        }
    }

    /// Takes over new settings; they hold for new connections.
    pub fn reload(&self, settings: SocketIoSettings) {
        let before = self.spoken.load();
        let spoken = ServedPaths::new(&self.services, settings, Some(&before));
        self.spoken.store(Arc::new(spoken));
    }

    /// Whether a request with this path and query is for this endpoint. Where its path is the
    /// WebSocket's too, the query says which is meant. The clients that poll go on where their
    /// dialect, or its path, is gone from the configuration.
    #[must_use]
    pub fn takes(&self, path: &str, query: Option<&str>, is_also_another: bool) -> bool {
        if self.namespace_set(path).is_some() {
            return !is_also_another || is_engine(query);
        }
        let sid = Query::read(query).ok().and_then(|query| query.sid);
        sid.is_some_and(|sid| self.sessions.get(sid).is_some())
    }

    /// Waits until every client that polls has fetched the end of its connection, or had its time
    /// for that: after the connections have ended, before nobody answers polls any more.
    pub async fn deserted(&self) {
        let mut look = tokio::time::interval(Duration::from_millis(20));
        while !self.sessions.is_empty() {
            look.tick().await;
            self.sessions.sweep();
        }
    }

    /// Forgets sessions that have ended. Called about once a second.
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
        match (query.way, session, method) {
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
        let spoken = self.spoken.load();
        let path = without_slash(path);
        let found = spoken.namespace_sets.iter().find(|(own, _)| own == path)?;
        Some(Arc::clone(&found.1))
    }

    pub(super) fn compression(&self) -> bool {
        self.spoken.load().compression
    }

    /// The first packet: under which name the client comes back, and what it may count on.
    pub(super) fn open_packet(
        &self,
        namespace_set: &NamespaceSet,
        sid: &str,
        upgrades: &[&str],
    ) -> String {
        let settings = self.services.hub.settings();
        let interval = settings.heartbeat_interval;
        // The client gives up after both, and so does the server. Pings of a crowd go out together,
        // so a ping may be a little late.
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
