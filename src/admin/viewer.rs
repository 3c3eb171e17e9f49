//! What operators may look at.

use std::sync::Arc;

use super::{gone, no_answer, refused};
use crate::audit::RecentRefusals;
use crate::auth::Identity;
use crate::cluster::{Answer, DEADLINE, NodeInfo, Query, To};
use crate::error::{Error, Result};
use crate::event::{ConnectionId, NodeId, Timestamp};
use crate::hub::ConnectionInfo;
use crate::session::Services;
use crate::telemetry::{SourceSnapshot, StatsSample, StatsSnapshot};
use crate::webhooks::WebhookStatus;

/// Counters of several nodes.
#[derive(Debug, Clone)]
pub struct ClusterStats {
    /// All nodes together.
    pub total: StatsSnapshot,
    /// Each node that answered.
    pub nodes: Vec<StatsSnapshot>,
    /// The names of the nodes that are alive but did not answer in time.
    pub unreachable: Vec<String>,
}

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

    /// The counters at this moment, of all nodes or of one: its name or number, empty for all.
    ///
    /// # Errors
    /// `not_found` for an unknown node; `unavailable` if no node answers.
    pub async fn stats(&self, node: &str) -> Result<ClusterStats> {
        let to = self.node_named(node)?;
        let survey = self.services.cluster.survey(to, Query::Stats, DEADLINE);
        let survey = survey.await?;
        let mut answers = survey.answers;
        // The node that is asked comes first.
        let here = self.services.cluster.node();
        answers.sort_by_key(|(number, _)| (*number != here, *number));
        let nodes: Vec<StatsSnapshot> = answers
            .into_iter()
            .filter_map(|(_, answer)| match answer {
                Answer::Stats(stats) => Some(*stats),
                Answer::Connections(_)
                | Answer::Ranked(_)
                | Answer::Connection(_)
                | Answer::Identity(_)
                | Answer::Channels(_)
                | Answer::Presence(_) => None,
            })
            .collect();
        Ok(ClusterStats {
            total: StatsSnapshot::together(&nodes).ok_or_else(no_answer)?,
            nodes,
            unreachable: self.names_of(&survey.unreachable),
        })
    }

    /// The node with this name or number; all for an empty text.
    ///
    /// # Errors
    /// `not_found`, naming the field `node`.
    pub(super) fn node_named(&self, node: &str) -> Result<To> {
        if node.is_empty() {
            return Ok(To::All);
        }
        let nodes = self.services.cluster.describe();
        let found = nodes.iter().find(|known| known.name == node);
        let found = found.or_else(|| {
            let number = |known: &&NodeInfo| known.number.to_string() == node;
            nodes.iter().find(number)
        });
        found
            .map(|found| To::Node(found.number))
            .ok_or_else(|| Error::not_found("no such node").about("node"))
    }

    /// The names of nodes that did not answer.
    pub(super) fn names_of(&self, nodes: &[NodeId]) -> Vec<String> {
        if nodes.is_empty() {
            return Vec::new();
        }
        let known = self.services.cluster.describe();
        let name = |node: &NodeId| {
            let found = known.iter().find(|known| known.number == *node);
            found.map_or_else(|| node.to_string(), |found| found.name.clone())
        };
        nodes.iter().map(name).collect()
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
        self.services.metrics.node().to_string()
    }

    /// The sources of this node.
    #[must_use]
    pub fn sources(&self) -> Vec<SourceSnapshot> {
        let sources = self.services.metrics.sources().all();
        sources.iter().map(|source| source.snapshot()).collect()
    }

    /// The webhooks of this node.
    #[must_use]
    pub fn webhooks(&self) -> Vec<WebhookStatus> {
        let webhooks = self.services.webhooks.as_ref();
        webhooks.map_or_else(Vec::new, |webhooks| webhooks.status())
    }

    /// The newest refusals and closes on this node.
    #[must_use]
    pub fn refusals(&self) -> &RecentRefusals {
        self.services.audit.recent()
    }
}
