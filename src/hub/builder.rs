//! Builds a hub: the sink first, then its dependencies, then the shards' threads.
//!
//! A broker needs the hub's [`Sink`], and the hub needs the broker. So a hub is built in two steps:
//! [`HubBuilder`] has the sink already, and [`HubBuilder::start`] takes everything else.

use std::io;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;
use tokio_util::task::TaskTracker;

use super::deliver::Dispatcher;
use super::dialect_ids::DialectIds;
use super::evaluator::Evaluator;
use super::presence::{LocalPresence, PresenceStore};
use super::shard::Shard;
use super::{Hub, Observer, Settings, end_the_process, shard_thread, wakeups};
use crate::auth::Identity;
use crate::broker::{Broker, Sink};
use crate::error::Result;
use crate::event::{Namespaces, NodeId};
use crate::telemetry::{Metrics, Tracing};

/// Checks whether an identity is still valid: `unauthenticated` if it is not.
pub type Revalidator = Box<dyn Fn(&Identity) -> Result<()> + Send + Sync>;

/// The dependencies of a hub.
pub struct HubParts {
    /// The broker for publishes and history.
    pub broker: Arc<dyn Broker>,
    /// The observer of connections.
    pub observer: Arc<dyn Observer>,
    /// Checks whether an identity is still valid.
    pub revalidator: Revalidator,
    /// The store of presence.
    pub presence: Box<dyn PresenceStore>,
    /// The hub's node in the cluster.
    pub node: NodeId,
}

impl HubParts {
    /// Parts with this broker; the hub is in no cluster, has no observer, and identities stay
    /// valid.
    #[must_use]
    pub fn new(broker: Arc<dyn Broker>) -> Self {
        HubParts {
            broker,
            observer: Arc::new(()),
            revalidator: Box::new(|_| Ok(())),
            presence: Box::new(LocalPresence::new()),
            node: NodeId::ALONE,
        }
    }
}

/// A hub with its sink, whose shards have not started.
pub struct HubBuilder {
    dispatcher: Arc<Dispatcher>,
    polls: Vec<mio::Poll>,
}

impl Hub {
    /// Begins to build a hub with this many shards, each with its own thread.
    ///
    /// # Errors
    ///
    /// The operating system provides no more event queues.
    pub fn builder(
        shards: usize,
        settings: Settings,
        namespaces: Arc<ArcSwap<Namespaces>>,
        metrics: Arc<Metrics>,
        tracing: Arc<Tracing>,
    ) -> io::Result<HubBuilder> {
        let (dispatcher, polls) = Dispatcher::new(shards, settings, namespaces, metrics, tracing)?;
        Ok(HubBuilder {
            dispatcher: Arc::new(dispatcher),
            polls,
        })
    }
}

impl HubBuilder {
    /// The sink to which the broker delivers events. It exists as long as the builder or the hub.
    #[must_use]
    pub fn sink(&self) -> Weak<dyn Sink> {
        let sink: Arc<dyn Sink> = Arc::<Dispatcher>::clone(&self.dispatcher);
        Arc::downgrade(&sink)
    }

    /// Starts the shards.
    ///
    /// # Errors
    ///
    /// The operating system provides no more threads.
    pub fn start(self, parts: HubParts) -> io::Result<Arc<Hub>> {
        let (hub, polls) = self.build(parts);
        for (index, poll) in (0_u16..).zip(polls) {
            let registry = poll.registry().try_clone()?;
            let hub_of_thread = Arc::clone(&hub);
            let thread = std::thread::Builder::new()
                .name(format!("shard-{index}"))
                .spawn(move || run_shard(&hub_of_thread, index, poll, registry))?;
            hub.threads
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(thread);
        }
        Ok(hub)
    }

    /// The hub without threads, and the event queue of each shard.
    pub(in crate::hub) fn build(self, parts: HubParts) -> (Arc<Hub>, Vec<mio::Poll>) {
        let HubBuilder { dispatcher, polls } = self;
        let HubParts {
            broker,
            observer,
            revalidator,
            presence,
            node,
        } = parts;
        let hub = Hub {
            dispatcher,
            broker,
            observer,
            revalidator,
            node,
            threads: Mutex::default(),
            filter_numbers: Arc::default(),
            evaluator: Evaluator::default(),
            dialects: DialectIds::default(),
            presence,
            type_roles: ArcSwap::default(),
            runtime: tokio::runtime::Handle::current(),
            tasks: TaskTracker::new(),
            next_shard: AtomicUsize::new(0),
        };
        (Arc::new(hub), polls)
    }
}

/// A shard's thread, from its start to its end.
fn run_shard(hub: &Arc<Hub>, index: u16, poll: mio::Poll, registry: mio::Registry) {
    wakeups::enter_shard_thread();
    let place = usize::from(index);
    let (Some(cell), Some(queue)) = (
        hub.dispatcher.cells.get(place),
        hub.dispatcher.queues.get(place),
    ) else {
        return;
    };
    let shard = Shard::new(index, Arc::clone(hub), Arc::clone(queue), registry);
    cell.insert(Box::new(shard));
    let run = std::panic::AssertUnwindSafe(|| shard_thread::run(&hub.dispatcher, cell, poll));
    if std::panic::catch_unwind(run).is_err() {
        end_the_process(place);
    }
}
