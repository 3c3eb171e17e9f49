//! The operations of clients: the only interface of the transports to hub and broker.
//!
//! `admission` decides which requests become connections, `open` hands them to a shard. A
//! [`Session`] holds an identity and checks every right. It can't be made without an identity, so no
//! code path fails open.

mod admission;
mod bodies;
mod durable;
mod history;
mod hooks;
mod manage;
mod open;
mod publish;
mod refusals;
mod server_facts;
mod source;
mod subscribe;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use governor::clock::{Clock, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::audit::{Audit, Record, What};
use crate::auth::{Identity, Policy, Pool, Verifier};
use crate::broker::{Broker, CursorStore};
use crate::catalog::Catalog;
use crate::cluster::Cluster;
use crate::error::{Code, Error, Result};
use crate::event::{ChannelName, ChannelPattern, ConnectionId};
use crate::hooks::Hooks;
use crate::hub::{Hub, Joined, Refused, RequestFacts, Revalidator};
use crate::lifecycle::Lifecycle;
use crate::telemetry::{Metrics, Tracing, Transport};
use crate::webhooks::Webhooks;

pub use admission::{
    AdmissionRequest, Admitted, Authentication, Credentials, OriginRule, RejectReason, Rejection,
    check_origin,
};
pub use bodies::{Bodies, BodyLimits, BodySender, ConnectionBodies, Reservation};
use refusals::RefusalLog;

pub use durable::{Durable, Subscribing};
pub use history::{HistoryPage, HistoryQuery};
pub use hooks::{ClientFacts, Connecting, renew_stated};
pub use manage::GrantRequest;
pub use open::{NewConnection, StreamReply, open, open_stream, open_subscribed};
pub use publish::{Publish, PublishResult, Published};
pub use server_facts::{NamespaceFacts, ServerFacts, Setting};
pub use source::{CLAIMED_SOURCE, Source};
pub use subscribe::{Subscribe, Wanted};

/// The largest answer in bytes, unless a single event or schema is larger: gRPC clients accept 4 MiB by
/// default.
pub const MAX_ANSWER_BYTES: usize = 3 * 1024 * 1024;

/// Limits on requests, for every transport.
#[derive(Debug, Clone)]
pub struct RequestLimits {
    /// The largest payload, in bytes.
    pub event_bytes: usize,
    /// Publishes per second of one identity; 0 is no limit.
    pub publishes_per_second: u32,
    /// The burst of publishes of one identity; 0 is as many as per second.
    pub publishes_burst: u32,
    /// The automatic subscriptions of a connection; `{user}` stands for its user.
    pub auto_subscribe: Vec<String>,
    /// Whether a token is required.
    pub auth_required: bool,
    /// Channels that one identity may create per minute; 0 is no limit.
    pub channels_per_minute: u32,
    /// Whether anyone may read the descriptions of the API and the events.
    pub open_documents: bool,
    /// Whether every publish is audited.
    pub audit_publishes: bool,
    /// The bytes of request bodies in memory.
    pub bodies: BodyLimits,
}

/// A rate limit per identity.
type Rate = RateLimiter<Arc<str>, HashMapStateStore<Arc<str>>, DefaultClock>;

/// Everything that sessions share.
pub struct Services {
    /// The hub.
    pub hub: Arc<Hub>,
    /// The broker.
    pub broker: Arc<dyn Broker>,
    /// The webhooks, if there are any.
    pub webhooks: Option<Arc<Webhooks>>,
    /// The cursors of durable subscriptions.
    pub cursors: Arc<dyn CursorStore>,
    /// The nodes that serve together.
    pub cluster: Arc<dyn Cluster>,
    /// Verifies tokens.
    pub verifier: Arc<Verifier>,
    /// The rules.
    pub policy: ArcSwap<Policy>,
    /// The declared event types.
    pub catalog: ArcSwap<Catalog>,
    /// Limits on requests.
    pub limits: ArcSwap<RequestLimits>,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// The tracer.
    pub tracing: Arc<Tracing>,
    /// The rate limit on publishes; `None` if there is none.
    publish_rate: ArcSwap<Option<Rate>>,
    /// The rate limit on new channels.
    channel_rate: ArcSwap<Option<Rate>>,
    /// Asks the application; `None` without hooks.
    pub hooks: Arc<ArcSwapOption<Hooks>>,
    /// The audit log.
    pub audit: Arc<Audit>,
    /// Whether the server takes connections.
    pub lifecycle: Arc<Lifecycle>,
    /// The bytes of request bodies in memory.
    pub bodies: Arc<Bodies>,
    /// The generation of keys and revocations against which all connections were last checked.
    checked: AtomicU64,
    refusals: RefusalLog,
    /// What requests say of their clients, each once.
    request_facts: Pool<RequestFacts>,
    /// What the server was started with, for operators.
    pub facts: ArcSwap<ServerFacts>,
}

/// The parts of [`Services`].
pub struct ServiceParts {
    /// The hub.
    pub hub: Arc<Hub>,
    /// The broker.
    pub broker: Arc<dyn Broker>,
    /// The webhooks, if there are any.
    pub webhooks: Option<Arc<Webhooks>>,
    /// The cursors of durable subscriptions.
    pub cursors: Arc<dyn CursorStore>,
    /// The nodes that serve together.
    pub cluster: Arc<dyn Cluster>,
    /// Verifies tokens.
    pub verifier: Arc<Verifier>,
    /// The rules.
    pub policy: Policy,
    /// The declared event types.
    pub catalog: Catalog,
    /// Limits on requests.
    pub limits: RequestLimits,
    /// Asks the application; `None` without hooks.
    pub hooks: Arc<ArcSwapOption<Hooks>>,
    /// The audit log.
    pub audit: Arc<Audit>,
    /// Whether the server takes connections.
    pub lifecycle: Arc<Lifecycle>,
}

/// Tells the hub whether an identity is still valid, by the keys and revocations of `verifier`.
#[must_use]
pub fn revalidator(verifier: &Arc<Verifier>) -> Revalidator {
    let verifier = Arc::clone(verifier);
    Box::new(move |identity| {
        let refused = |failure| verifier.refused(failure);
        verifier.recheck(identity).map_err(refused)
    })
}

impl Services {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: ServiceParts) -> Arc<Self> {
        let ServiceParts {
            hub,
            broker,
            cursors,
            webhooks,
            cluster,
            verifier,
            policy,
            catalog,
            limits,
            hooks,
            audit,
            lifecycle,
        } = parts;
        let (metrics, tracing) = (Arc::clone(hub.metrics()), Arc::clone(hub.tracing()));
        let publish_rate = ArcSwap::from_pointee(publish_rate(&limits));
        let channel_rate = ArcSwap::from_pointee(channel_rate(&limits));
        let bodies = Bodies::new(limits.bodies, &metrics);
        hub.set_type_roles(catalog.type_roles());
        metrics.declare_types(catalog.names());
        let checked = AtomicU64::new(verifier.generation());
        Arc::new(Services {
            hub,
            broker,
            cursors,
            webhooks,
            cluster,
            verifier,
            policy: ArcSwap::from_pointee(policy),
            catalog: ArcSwap::from_pointee(catalog),
            limits: ArcSwap::from_pointee(limits),
            metrics,
            tracing,
            publish_rate,
            channel_rate,
            hooks,
            audit,
            lifecycle,
            bodies,
            checked,
            refusals: RefusalLog::default(),
            request_facts: Pool::default(),
            facts: ArcSwap::default(),
        })
    }

    /// Applies new rules, types and limits; connections stay.
    pub fn reload(self: &Arc<Self>, policy: Policy, catalog: Catalog, limits: RequestLimits) {
        self.hub.set_type_roles(catalog.type_roles());
        self.metrics.declare_types(catalog.names());
        self.publish_rate.store(Arc::new(publish_rate(&limits)));
        self.channel_rate.store(Arc::new(channel_rate(&limits)));
        self.policy.store(Arc::new(policy));
        self.catalog.store(Arc::new(catalog));
        self.bodies.set_limits(limits.bodies);
        self.limits.store(Arc::new(limits));
        // Subscriptions that the new rules forbid end now, not at the next reconnect.
        let services = Arc::clone(self);
        self.hub.check_rights(move |identity, pattern, connection| {
            services.may_follow(identity, pattern, connection)
        });
        self.check_tokens();
    }

    /// Closes the connections whose tokens are no longer valid, if keys or revocations have changed.
    pub fn check_tokens(&self) {
        let now = self.verifier.generation();
        if self.checked.swap(now, Ordering::AcqRel) != now {
            self.hub.check_identities();
        }
    }

    /// Whether an identity may still subscribe to a channel or a pattern; a refusal is audited.
    ///
    /// # Errors
    /// `permission_denied`.
    pub fn may_follow(
        &self,
        identity: &Identity,
        pattern: &ChannelPattern,
        connection: ConnectionId,
    ) -> Result<()> {
        let policy = self.policy.load();
        subscribe::may_follow(&policy, identity, pattern, Some(connection)).inspect_err(|error| {
            let record = Record {
                connection: Some(connection),
                channel: Some(&pattern.to_string()),
                error: Some(error),
                ..Record::default()
            };
            self.audit
                .note(What::SubscribeRefused, &about(identity, record));
        })
    }

    /// Audits the granted and the refused subscriptions of a request.
    pub fn note_subscribed(
        &self,
        identity: Option<&Arc<Identity>>,
        connection: ConnectionId,
        joined: &[Joined],
        refused: &[Refused],
    ) {
        // Refusals are kept for operators also where there is no audit log.
        let granted = if self.audit.is_on() { joined } else { &[] };
        for Joined { channel, .. } in granted {
            let mut record = Record {
                connection: Some(connection),
                channel: Some(channel),
                ..Record::default()
            };
            if let Some(identity) = identity {
                record = about(identity, record);
            }
            self.audit.note(What::Subscribe, &record);
        }
        for Refused { channel, error } in refused {
            let mut record = Record {
                connection: Some(connection),
                channel: Some(channel),
                error: Some(error),
                ..Record::default()
            };
            if let Some(identity) = identity {
                record = about(identity, record);
            }
            self.audit.note(What::SubscribeRefused, &record);
        }
    }

    /// Audits and logs a rejected client.
    pub fn note_rejection(&self, address: SocketAddr, transport: Option<Transport>, error: &Error) {
        let what = if error.code() == Code::Unauthenticated {
            What::AuthenticationFailed
        } else {
            What::Refused
        };
        let record = Record {
            address: Some(address),
            transport,
            error: Some(error),
            ..Record::default()
        };
        self.audit.note(what, &record);
        let transport = transport.map(Transport::as_str);
        self.refusals
            .log(&address.to_string(), None, transport, error);
    }

    /// Logs why a token was rejected on an open connection.
    pub fn log_rejected_token(&self, address: SocketAddr, connection: ConnectionId, error: &Error) {
        let (address, connection) = (address.to_string(), connection.to_string());
        self.refusals.log(&address, Some(&connection), None, error);
    }

    /// Drops the rate limiters of idle identities and the revocations of expired tokens, and checks for
    /// changed keys. Called about once a second.
    pub fn sweep(&self) {
        for rate in [&self.publish_rate, &self.channel_rate] {
            if let Some(rate) = rate.load().as_ref() {
                rate.retain_recent();
                rate.shrink_to_fit();
            }
        }
        self.metrics.sweep();
        self.hub.tick();
        self.hub.renew_presence();
        self.metrics.revocations(self.verifier.sweep());
        self.check_tokens();
    }

    /// Counts a publish against the identity's rate. Services have no such limit: the limit
    /// on users protects the services' traffic.
    fn take_publish(&self, who: &Identity) -> Result<()> {
        if who.is_service() {
            return Ok(());
        }
        let taken = take(&self.publish_rate, who);
        taken.map_err(|wait| {
            self.metrics.rate_limited("publishes");
            Error::exhausted("too many publishes (limits.publishes_per_second)").retry_after(wait)
        })
    }

    /// Counts a channel that would be created against the identity's rate. Services have no such limit.
    fn take_channel(&self, who: &Identity, channel: &ChannelName) -> Result<()> {
        let unbounded = who.is_service() || self.channel_rate.load().is_none();
        if unbounded || self.broker.exists(channel) {
            return Ok(());
        }
        take(&self.channel_rate, who).map_err(|wait| {
            self.metrics.rate_limited("channels_per_minute");
            Error::exhausted("too many new channels (limits.channels_per_minute)").retry_after(wait)
        })
    }
}

/// Takes one token from an identity's bucket; the error is the time to wait.
fn take(rate: &ArcSwap<Option<Rate>>, who: &Identity) -> Result<(), Duration> {
    let rate = rate.load();
    let Some(rate) = rate.as_ref() else {
        return Ok(());
    };
    rate.check_key(&who.account())
        .map_err(|not_until| not_until.wait_time_from(DefaultClock::default().now()))
}

/// The record with its identity.
fn about<'a>(identity: &'a Identity, record: Record<'a>) -> Record<'a> {
    Record {
        user: identity.user().map(|user| &**user),
        roles: identity.roles(),
        ..record
    }
}

fn channel_rate(limits: &RequestLimits) -> Option<Rate> {
    let per_minute = NonZeroU32::new(limits.channels_per_minute)?;
    Some(rate(Quota::per_minute(per_minute)))
}

fn rate(quota: Quota) -> Rate {
    RateLimiter::new(quota, HashMapStateStore::default(), DefaultClock::default())
}

fn publish_rate(limits: &RequestLimits) -> Option<Rate> {
    let per_second = NonZeroU32::new(limits.publishes_per_second)?;
    let burst = NonZeroU32::new(limits.publishes_burst).unwrap_or(per_second);
    let quota = Quota::per_second(per_second).allow_burst(burst);
    Some(rate(quota))
}

/// The operations of one identity.
#[derive(Clone)]
pub struct Session {
    services: Arc<Services>,
    identity: Arc<Identity>,
    connection: Option<ConnectionId>,
    /// What questions to the application say of the client; `None` without hooks.
    facts: Option<Arc<ClientFacts>>,
}

impl Session {
    /// The session of an identity, on a connection or without one.
    #[must_use]
    pub fn new(
        services: Arc<Services>,
        identity: Arc<Identity>,
        connection: Option<ConnectionId>,
    ) -> Self {
        Session {
            services,
            identity,
            connection,
            facts: None,
        }
    }

    /// The identity.
    #[must_use]
    pub fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// The shared services.
    #[must_use]
    pub fn services(&self) -> &Arc<Services> {
        &self.services
    }

    /// Requires a service.
    ///
    /// # Errors
    /// `permission_denied` without role `service` or `admin`.
    pub fn check_service(&self) -> Result<()> {
        if self.identity.is_service() {
            return Ok(());
        }
        Err(Error::denied("needs role service or admin"))
    }

    /// Requires somebody who may see every channel and the catalog.
    ///
    /// # Errors
    /// `permission_denied` without role `service`, `admin` or `viewer`.
    pub fn check_reader(&self) -> Result<()> {
        if self.identity.sees_all() {
            return Ok(());
        }
        Err(Error::denied("needs role service, admin or viewer"))
    }

    /// Requires the right to subscribe to this channel.
    fn may_subscribe(&self, channel: &ChannelName) -> Result<()> {
        self.services
            .policy
            .load()
            .may_subscribe(&self.identity, channel, self.connection)
    }
}
