//! What the application is asked about clients, and what its answers mean.
//!
//! The configured rules come first: the application is asked only about what they allow, so an answer
//! narrows and never widens. Services and operators are not asked about, except for their own calls.

mod connect;
mod identity;
mod publish;
mod refresh;
mod rpc;
mod subscribe;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::{Services, Session};
use crate::auth::Identity;
use crate::hooks::{Client, HookType, Hooks};
use crate::hub::ConnCtx;
use crate::outbound::ForwardedHeaders;

pub use connect::Connecting;
pub use refresh::renew_stated;

/// What questions say of a client besides its identity.
#[derive(Debug, Clone)]
pub struct ClientFacts {
    /// Its transport; `http` for a single request.
    pub transport: &'static str,
    /// Its network address.
    pub address: SocketAddr,
    /// The client type that it registered.
    pub client_type: Option<Box<str>>,
    /// The forwarded headers of its request.
    pub headers: Option<Arc<ForwardedHeaders>>,
}

impl Default for ClientFacts {
    fn default() -> Self {
        ClientFacts {
            transport: "http",
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
            client_type: None,
            headers: None,
        }
    }
}

impl ClientFacts {
    /// The facts of an open connection.
    #[must_use]
    pub fn of(cx: &ConnCtx<'_>) -> Self {
        let unknown = ClientFacts::default();
        ClientFacts {
            transport: cx.transport().map_or(unknown.transport, |t| t.as_str()),
            address: cx.address().unwrap_or(unknown.address),
            client_type: cx.client_type().map(Box::from),
            headers: cx.forwarded().cloned(),
        }
    }

    fn client(&self, identity: Option<Arc<Identity>>) -> Client {
        Client {
            id: None,
            identity,
            transport: self.transport,
            address: self.address,
            client_type: self.client_type.clone(),
            headers: self.headers.clone(),
        }
    }
}

impl Services {
    /// Whether hooks are configured.
    #[must_use]
    pub fn has_hooks(&self) -> bool {
        self.hooks.load().is_some()
    }

    /// The hooks, if the application is asked questions of this type.
    pub(super) fn hooks_for(&self, kind: HookType) -> Option<Arc<Hooks>> {
        let hooks = self.hooks.load();
        let hooks = hooks.as_ref()?;
        hooks.asks(kind).then(|| Arc::clone(hooks))
    }
}

impl Session {
    /// The same session with what questions say of its client.
    #[must_use]
    pub fn with_facts(mut self, facts: impl FnOnce() -> ClientFacts) -> Self {
        if self.services.has_hooks() {
            self.facts = Some(Arc::new(facts()));
        }
        self
    }

    /// The session of a connection.
    #[must_use]
    pub fn of_connection(
        services: &Arc<Services>,
        identity: &Arc<Identity>,
        cx: &ConnCtx<'_>,
    ) -> Self {
        let (services, identity) = (Arc::clone(services), Arc::clone(identity));
        Session::new(services, identity, Some(cx.id())).with_facts(|| ClientFacts::of(cx))
    }

    /// The hooks and the client, if the application is asked questions of this type about it.
    fn asked(&self, kind: HookType) -> Option<(Arc<Hooks>, Client)> {
        let hooks = self.services.hooks_for(kind)?;
        (!self.identity.sees_all()).then(|| (hooks, self.client()))
    }

    fn client(&self) -> Client {
        let identity = Some(Arc::clone(&self.identity));
        let client = match &self.facts {
            Some(facts) => facts.client(identity),
            None => ClientFacts::default().client(identity),
        };
        Client {
            id: self.connection,
            ..client
        }
    }
}
