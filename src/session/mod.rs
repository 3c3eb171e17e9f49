//! What a client may do: the only door to the bus.
//!
//! A [`Session`] holds an identity and checks every right, so a transport can't forget to. It
//! can't be made without an identity, so failing open can't be written.

mod history;
mod publish;
mod subscribe;

use std::num::NonZeroU32;
use std::sync::Arc;

use arc_swap::ArcSwap;
use governor::clock::{Clock, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::auth::{Identity, Policy, Verifier};
use crate::broker::Broker;
use crate::bus::Hub;
use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::event::{ChannelName, ChannelPattern, ConnectionId};
use crate::telemetry::{Metrics, Tracing};

pub use history::{HistoryPage, HistoryQuery};
pub use publish::{Publish, PublishResult, Published};
pub use subscribe::{Subscribe, Wanted};

/// Limits on requests that hold for every transport.
#[derive(Debug, Clone)]
pub struct RequestLimits {
    /// The largest payload, in bytes.
    pub event_bytes: usize,
    /// Publishes a second of one identity; 0 is no limit.
    pub publishes_per_second: u32,
    /// Publishes of one identity at once; 0 is as many as a second's.
    pub publishes_burst: u32,
    /// Channels that a connection follows without asking; `{user}` stands for its user.
    pub auto_subscribe: Vec<String>,
    /// Whether a connection must show a token.
    pub auth_required: bool,
}

type PublishRate = RateLimiter<Arc<str>, HashMapStateStore<Arc<str>>, DefaultClock>;

/// Everything that sessions share.
pub struct Services {
    /// The bus.
    pub hub: Arc<Hub>,
    /// The store.
    pub broker: Arc<dyn Broker>,
    /// Who clients are.
    pub verifier: Arc<Verifier>,
    /// What they may do.
    pub policy: ArcSwap<Policy>,
    /// The known event types.
    pub catalog: ArcSwap<Catalog>,
    /// Limits on requests.
    pub limits: ArcSwap<RequestLimits>,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// The tracer.
    pub tracing: Arc<Tracing>,
    /// How often each identity may publish; `None` where there is no limit.
    publish_rate: ArcSwap<Option<PublishRate>>,
}

impl Services {
    /// Puts the parts together.
    #[must_use]
    pub fn new(
        hub: Arc<Hub>,
        broker: Arc<dyn Broker>,
        verifier: Arc<Verifier>,
        policy: Policy,
        catalog: Catalog,
        limits: RequestLimits,
    ) -> Arc<Self> {
        let (metrics, tracing) = (Arc::clone(hub.metrics()), Arc::clone(hub.tracing()));
        let publish_rate = ArcSwap::from_pointee(publish_rate(&limits));
        hub.set_type_roles(catalog.type_roles());
        Arc::new(Services {
            hub,
            broker,
            verifier,
            policy: ArcSwap::from_pointee(policy),
            catalog: ArcSwap::from_pointee(catalog),
            limits: ArcSwap::from_pointee(limits),
            metrics,
            tracing,
            publish_rate,
        })
    }

    /// Takes over new rules, types and limits; connections stay.
    pub fn reload(self: &Arc<Self>, policy: Policy, catalog: Catalog, limits: RequestLimits) {
        self.hub.set_type_roles(catalog.type_roles());
        self.publish_rate.store(Arc::new(publish_rate(&limits)));
        self.policy.store(Arc::new(policy));
        self.catalog.store(Arc::new(catalog));
        self.limits.store(Arc::new(limits));
        // What is no longer allowed ends now, not when the client comes back.
        let services = Arc::clone(self);
        self.hub.check_rights(move |identity, pattern, connection| {
            services.may_follow(identity, pattern, connection)
        });
    }

    /// Whether an identity may follow a channel or a pattern, by the rules that hold now.
    ///
    /// # Errors
    /// `permission_denied`.
    pub fn may_follow(
        &self,
        identity: &Identity,
        pattern: &ChannelPattern,
        connection: ConnectionId,
    ) -> Result<()> {
        subscribe::may_follow(&self.policy.load(), identity, pattern, Some(connection))
    }

    /// Forgets the publish rates of identities that have been quiet.
    pub fn sweep(&self) {
        if let Some(rate) = self.publish_rate.load().as_ref() {
            rate.retain_recent();
            rate.shrink_to_fit();
        }
    }

    fn take_publish(&self, who: Option<&Arc<str>>) -> Result<()> {
        let rate = self.publish_rate.load();
        let Some(rate) = rate.as_ref() else {
            return Ok(());
        };
        let anonymous = || Arc::from("");
        rate.check_key(&who.cloned().unwrap_or_else(anonymous))
            .map_err(|not_until| {
                self.metrics.rate_limited("publishes");
                let wait = not_until.wait_time_from(DefaultClock::default().now());
                Error::exhausted("too many publishes (limits.publishes_per_second)")
                    .retry_after(wait)
            })
    }
}

fn publish_rate(limits: &RequestLimits) -> Option<PublishRate> {
    let per_second = NonZeroU32::new(limits.publishes_per_second)?;
    let burst = NonZeroU32::new(limits.publishes_burst).unwrap_or(per_second);
    let quota = Quota::per_second(per_second).allow_burst(burst);
    Some(RateLimiter::new(
        quota,
        HashMapStateStore::default(),
        DefaultClock::default(),
    ))
}

/// One identity's dealings with the bus.
#[derive(Clone)]
pub struct Session {
    services: Arc<Services>,
    identity: Arc<Identity>,
    connection: Option<ConnectionId>,
}

impl Session {
    /// The session of an identity, on a connection of its own or without one.
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
        }
    }

    /// Who it is.
    #[must_use]
    pub fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// What all sessions share.
    #[must_use]
    pub fn services(&self) -> &Arc<Services> {
        &self.services
    }

    /// Whether events of this channel may be seen.
    fn may_subscribe(&self, channel: &ChannelName) -> Result<()> {
        self.services
            .policy
            .load()
            .may_subscribe(&self.identity, channel, self.connection)
    }
}
