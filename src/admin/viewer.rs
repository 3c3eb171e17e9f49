//! What operators may look at.

use std::sync::Arc;

use super::{gone, no_answer, refused};
use crate::audit::RecentRefusals;
use crate::auth::Identity;
use crate::cluster::{Answer, DEADLINE, Query, To};
use crate::error::Result;
use crate::event::{ConnectionId, NodeId, Timestamp};
use crate::hub::ConnectionInfo;
use crate::session::Services;
use crate::telemetry::{SourceSnapshot, StatsSample, StatsSnapshot};

/// An operator's view of the server.
#[derive(Clone)]
pub struct Viewer {
    pub(super) services: Arc<Services>,
}

impl Viewer {
    /// Only for holders of role `admin` or `viewer`.
    ///
    /// # Errors
    /// `permission_denied` for everyone else.
    pub fn new(services: &Arc<Services>, identity: &Identity) -> Result<Self> {
        if !identity.is_operator() {
            return Err(refused(services, identity, "needs role admin or viewer"));
        }
        Ok(Viewer {
            services: Arc::clone(services),
        })
    }

    /// The counters of this node at this moment.
    ///
    /// # Errors
    /// `unavailable` where the node does not answer.
    pub async fn stats(&self) -> Result<StatsSnapshot> {
        match self.ask(self.services.cluster.node(), Query::Stats).await? {
            Some(Answer::Stats(stats)) => Ok(*stats),
            _ => Err(no_answer()),
        }
    }

    /// The counters of this node at this moment, for a stream of them.
    #[must_use]
    pub fn stats_here(&self) -> StatsSnapshot {
        self.services.metrics.snapshot()
    }

    /// One connection.
    ///
    /// # Errors
    /// `not_found` where it has gone.
    pub async fn connection(&self, id: ConnectionId) -> Result<ConnectionInfo> {
        match self.ask(id.node(), Query::Connection(id)).await? {
            Some(Answer::Connection(Some(connection))) => Ok(*connection),
            _ => Err(gone()),
        }
    }

    /// Asks one node; `None` where there is no such node.
    pub(super) async fn ask(&self, node: NodeId, query: Query) -> Result<Option<Answer>> {
        let cluster = &self.services.cluster;
        let survey = cluster.survey(To::Node(node), query, DEADLINE).await?;
        if !survey.unreachable.is_empty() {
            return Err(no_answer());
        }
        Ok(survey.answers.into_iter().next().map(|(_, answer)| answer))
    }

    /// The statistics of the last hour on this node, in steps of five seconds, oldest first: those
    /// after this time, or all.
    #[must_use]
    pub fn stats_history(&self, after: Option<Timestamp>) -> Vec<StatsSample> {
        self.services.metrics.stats_history(after)
    }

    /// This node's name.
    #[must_use]
    pub fn node(&self) -> String {
        self.services.metrics.node().to_owned()
    }

    /// The sources of this node.
    #[must_use]
    pub fn sources(&self) -> Vec<SourceSnapshot> {
        let sources = self.services.metrics.sources().all();
        sources.iter().map(|source| source.snapshot()).collect()
    }

    /// The newest refusals and closes on this node.
    #[must_use]
    pub fn refusals(&self) -> &RecentRefusals {
        self.services.audit.recent()
    }
}
