//! Subscriptions that a service makes or ends for clients.

use super::subscribe::{Join, JoinRequest};
use super::{ConnCtx, Shard};
use crate::error::Error;
use crate::hub::command::{Grant, GrantTo};
use crate::hub::protocol::{Joined, Notice, Refused};

impl Shard {
    /// Makes or ends subscriptions. Returns how many connections are addressed.
    pub(super) fn grant(&mut self, grant: &Grant) -> u64 {
        let slots: Vec<u32> = match &grant.to {
            GrantTo::Connection(id) => self.connections.find(*id).into_iter().collect(),
            GrantTo::User(user) => self.connections.of_user(user).to_vec(),
        };
        for slot in &slots {
            if grant.begins {
                self.begin_granted(*slot, grant);
            } else {
                self.end_granted(*slot, grant);
            }
        }
        u64::try_from(slots.len()).unwrap_or(u64::MAX)
    }

    fn begin_granted(&mut self, slot: u32, grant: &Grant) {
        let joins = grant.patterns.iter().map(|pattern| Join {
            pattern: pattern.clone(),
            since: None,
            rewind: None,
            filter: None,
        });
        let request = JoinRequest {
            joins: joins.collect(),
            filter: grant.filter.clone(),
            granted: true,
            ..JoinRequest::default()
        };
        // The client learns where its subscription begins, as after a change of the epoch.
        let notify = move |cx: &mut ConnCtx<'_>, joined: Vec<Joined>, _: Vec<Refused>| {
            let slot = cx.slot();
            for one in &joined {
                if let Some(position) = one.position {
                    let channel = &one.channel;
                    cx.shard()
                        .notify(slot, &Notice::Renumbered { channel, position });
                }
            }
        };
        self.join(slot, request, Box::new(notify));
    }

    fn end_granted(&mut self, slot: u32, grant: &Grant) {
        for pattern in &grant.patterns {
            if self.leave(slot, pattern) {
                let (channel, error) = (pattern.to_string(), ended());
                let notice = Notice::Unsubscribed {
                    channel: &channel,
                    error: &error,
                };
                self.notify(slot, &notice);
            }
        }
    }
}

fn ended() -> Error {
    Error::precondition("a service has ended the subscription")
}
