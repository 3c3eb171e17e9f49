//! Publishing.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::{Session, Source, about};
use crate::audit::{Record, What};
use crate::broker::{Receipt, Share};
use crate::error::{Error, Result};
use crate::event::{
    AcceptedAt, Audience, ChannelName, Conditions, Draft, EventType, Headers, IdempotencyKey,
    Payload, Timestamp, TraceContext,
};
use crate::hooks::{Client, Hooks};
use crate::maybe_ready::MaybeReady;
use crate::telemetry::{FanoutSpan, Span};

/// The most channels of one publish.
const MAX_CHANNELS: usize = 100;
/// The longest key, idempotency key or source, in bytes.
const MAX_KEY: usize = 255;
/// The shortest lifetime of an event.
const MIN_TTL: Duration = Duration::from_millis(1);
/// The channel of an event that names neither a channel nor an audience.
const GLOBAL: &str = "global";

/// An event to publish.
#[derive(Debug, Clone)]
pub struct Publish {
    /// The channels. Without any, the event goes to `global`, or directly to the audience.
    pub channels: Vec<ChannelName>,
    /// Its type.
    pub event_type: EventType,
    /// The data.
    pub payload: Payload,
    /// The publisher's own headers.
    pub headers: Headers,
    /// The conflation key; none if empty.
    pub key: String,
    /// The idempotency key; none if empty.
    pub idempotency_key: String,
    /// Who may receive it.
    pub audience: Option<Audience>,
    /// The source that subscribers see.
    pub source: Source,
    /// When it happened.
    pub time: Option<Timestamp>,
    /// The publisher's trace context.
    pub trace: Option<TraceContext>,
    /// How long it may be replayed and read.
    pub ttl: Option<Duration>,
    /// What the publish demands of its channel.
    pub conditions: Conditions,
}

/// The result of a publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The event's id.
    pub id: Uuid,
    /// One for each channel; one without a channel for a direct event.
    pub results: Vec<PublishResult>,
}

/// The result in one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishResult {
    /// The channel; `None` for a direct event.
    pub channel: Option<ChannelName>,
    /// The broker's receipt.
    pub receipt: Receipt,
}

/// An event of one channel, with its spans.
struct Traced {
    draft: Draft,
    /// Ends when the broker has answered.
    publish: Span,
    /// The span whose context the event carries; `None` if the trace is not recorded.
    fanout: Option<FanoutSpan>,
}

impl Session {
    /// Publishes an event; ready once it has an offset in every channel. All rights are checked before
    /// the first channel gets it. While the hub is above its high-water mark, this waits. A caller that
    /// pipelines publishes and needs their order awaits [`Session::ready`] and calls
    /// [`Session::publish_now`].
    pub fn publish(&self, publish: Publish) -> MaybeReady<Published> {
        if let Some((hooks, client)) = self.asked_to_publish() {
            return self.publish_asked(hooks, client, publish);
        }
        if !self.services.hub.is_full() {
            return self.publish_now(publish);
        }
        match self.prepare(publish) {
            Ok(drafts) => {
                let session = self.clone();
                MaybeReady::later(async move {
                    session.ready().await;
                    session.commit(drafts).await
                })
            }
            Err(error) => MaybeReady::Ready(Err(error)),
        }
    }

    /// Publishes an event without waiting for the high-water mark: the events of two calls keep the order
    /// of the calls.
    pub fn publish_now(&self, publish: Publish) -> MaybeReady<Published> {
        if let Some((hooks, client)) = self.asked_to_publish() {
            return self.publish_asked(hooks, client, publish);
        }
        match self.prepare(publish) {
            Ok(drafts) => self.commit(drafts),
            Err(error) => MaybeReady::Ready(Err(error)),
        }
    }

    /// Publishes an event after the application has allowed it.
    fn publish_asked(
        &self,
        hooks: Arc<Hooks>,
        client: Client,
        publish: Publish,
    ) -> MaybeReady<Published> {
        let has_key = !publish.key.is_empty();
        let mut drafts = match self.prepare(publish) {
            Ok(drafts) => drafts,
            Err(error) => return MaybeReady::Ready(Err(error)),
        };
        let session = self.clone();
        MaybeReady::later(async move {
            for Traced { draft, publish, .. } in &mut drafts {
                let trace = publish.context().or_else(|| draft.trace.clone());
                session
                    .ask_publish(&hooks, &client, draft, has_key, trace)
                    .await
                    .inspect_err(|error| publish.set_error(error))?;
            }
            session.ready().await;
            session.commit(drafts).await
        })
    }

    /// Waits until the hub is below its high-water mark.
    pub async fn ready(&self) {
        if self.services.hub.is_full() {
            self.services.hub.ready().await;
        }
    }

    fn commit(&self, drafts: Vec<Traced>) -> MaybeReady<Published> {
        let hub = &self.services.hub;
        hub.wake_after(|| self.hand_over(drafts))
    }

    fn hand_over(&self, drafts: Vec<Traced>) -> MaybeReady<Published> {
        let noted = self.noted(&drafts);
        let share = Share::of_identity(Some(&self.identity));
        let mut channels = Vec::with_capacity(drafts.len());
        let mut receipts = Vec::with_capacity(drafts.len());
        let tracing = &self.services.tracing;
        let (mut spans, mut fanouts) = (Vec::new(), Vec::new());
        for (at, traced) in drafts.into_iter().enumerate() {
            let Traced {
                mut draft,
                publish,
                fanout,
            } = traced;
            if let Some(fanout) = fanout {
                match tracing.register(fanout) {
                    Some(fanout) => fanouts.push(fanout),
                    None => draft.trace = publish.context(),
                }
            }
            channels.push(draft.channel.clone());
            receipts.push(self.services.broker.publish_for(share, draft));
            if publish.is_recording() {
                spans.push((at, publish));
            }
        }
        let tracing = Arc::clone(tracing);
        MaybeReady::all(receipts).then(move |receipts| {
            let receipts = receipts?;
            for fanout in fanouts {
                tracing.unregister(fanout);
            }
            end(spans, &receipts);
            let published = published(channels, receipts)?;
            if let Some((session, event_type)) = noted {
                session.note_published(&published, &event_type);
            }
            Ok(published)
        })
    }

    /// What the audit log needs; nothing if publishes are not audited.
    fn noted(&self, drafts: &[Traced]) -> Option<(Session, EventType)> {
        let services = &self.services;
        if !services.audit.is_on() || !services.limits.load().audit_publishes {
            return None;
        }
        let first = drafts.first()?;
        Some((self.clone(), first.draft.event_type.clone()))
    }

    fn note_published(&self, published: &Published, event_type: &EventType) {
        for result in &published.results {
            let record = Record {
                connection: self.connection,
                channel: result.channel.as_ref().map(ChannelName::as_str),
                event_type: Some(event_type.as_str()),
                id: Some(published.id),
                ..Record::default()
            };
            let record = about(&self.identity, record);
            self.services.audit.note(What::Publish, &record);
        }
    }

    /// Checks the publish, and makes one draft for each channel.
    fn prepare(&self, publish: Publish) -> Result<Vec<Traced>> {
        // Both are shared texts, so that a clone allocates nothing.
        let channel = publish.channels.first().cloned();
        let event_type = publish.event_type.clone();
        self.check(publish).inspect_err(|error| {
            let record = Record {
                connection: self.connection,
                channel: channel.as_ref().map(ChannelName::as_str),
                event_type: Some(event_type.as_str()),
                error: Some(error),
                ..Record::default()
            };
            let record = about(&self.identity, record);
            self.services.audit.note(What::PublishRefused, &record);
        })
    }

    fn check(&self, publish: Publish) -> Result<Vec<Traced>> {
        let accepted = AcceptedAt::now();
        let now = Timestamp::now();
        self.check_sizes(&publish)?;
        let Publish {
            channels,
            event_type,
            payload,
            headers,
            key,
            idempotency_key,
            audience,
            source,
            time,
            trace,
            ttl,
            conditions,
        } = publish;
        if let Some(audience) = &audience {
            audience.validate()?;
        }
        let (source, headers) = source.of(&self.identity, headers)?;
        let targets = self.targets(channels, audience.as_ref())?;
        if !idempotency_key.is_empty() && targets.contains(&None) {
            let text = "expected a channel too: a key counts for one channel";
            return Err(Error::field("idempotency_key", text));
        }
        if conditions.expected_offset.is_some() && (targets.len() > 1 || targets.contains(&None)) {
            let text = "expected exactly one channel: each has its own offsets";
            return Err(Error::field("expected_offset", text));
        }
        if conditions.expected_offset.is_some() && conditions.skip_history {
            let text = "expected without skip_history: such an event has no offset";
            return Err(Error::field("expected_offset", text));
        }
        if ttl.is_some_and(|ttl| ttl < MIN_TTL) {
            return Err(Error::field("ttl", "expected at least 1 ms"));
        }
        let catalog = self.services.catalog.load();
        for target in &targets {
            catalog.check(&event_type, target.as_ref())?;
        }
        self.services.take_publish(&self.identity)?;
        // After the rate limit: a schema costs time also for what it rejects.
        catalog.check_payload(&event_type, &payload)?;
        let key = (!key.is_empty()).then(|| Arc::from(key));
        let key = key.or_else(|| catalog.conflation_key(&event_type, &payload));
        let draft = Draft {
            id: Draft::new_id(now),
            channel: None,
            event_type,
            payload,
            headers,
            key,
            idempotency_key: self.own_key(idempotency_key),
            audience: audience.map(Arc::new),
            source,
            time: time.unwrap_or(now),
            trace,
            accepted,
            expires: ttl.map(|ttl| now.later(ttl)),
            conditions: (conditions != Conditions::default()).then(|| Box::new(conditions)),
        };
        Ok(targets
            .into_iter()
            .map(|target| {
                self.trace(Draft {
                    channel: target,
                    ..draft.clone()
                })
            })
            .collect())
    }

    /// The idempotency key, scoped to this publisher; none if empty.
    fn own_key(&self, key: String) -> Option<Arc<IdempotencyKey>> {
        (!key.is_empty()).then(|| {
            Arc::new(IdempotencyKey {
                publisher: self.identity.publisher(),
                key: key.into(),
            })
        })
    }

    /// Starts the spans of one channel's event; it carries the fan-out's own context.
    fn trace(&self, mut draft: Draft) -> Traced {
        let tracing = &self.services.tracing;
        if !tracing.enabled() {
            return Traced {
                draft,
                publish: Span::none(),
                fanout: None,
            };
        }
        let channel = draft.channel.as_ref();
        let publish = tracing.publish(channel, &draft.event_type, draft.id, draft.trace.as_ref());
        let fanout = tracing.fanout(channel, draft.id, publish.context_ref());
        let own = match &fanout {
            Some(fanout) => Some(fanout.context().clone()),
            None => publish.context(),
        };
        draft.trace = own.or(draft.trace);
        Traced {
            draft,
            publish,
            fanout,
        }
    }

    fn check_sizes(&self, publish: &Publish) -> Result<()> {
        let limit = self.services.limits.load().event_bytes;
        if publish.payload.data().len() > limit {
            self.services.metrics.limit_reached("event_bytes");
            return Err(Error::field(
                "data",
                format!("expected at most {limit} bytes (limits.event_bytes)"),
            ));
        }
        if publish.channels.len() > MAX_CHANNELS {
            return Err(Error::field("channels", "expected at most 100 channels"));
        }
        let named = [
            ("key", publish.key.as_str()),
            ("idempotency_key", &publish.idempotency_key),
            ("source", publish.source.text()),
        ];
        for (field, value) in named {
            if value.len() > MAX_KEY {
                return Err(Error::field(field, "expected at most 255 bytes"));
            }
        }
        Ok(())
    }

    /// The channels, each authorized; `None` stands for a direct event.
    fn targets(
        &self,
        mut channels: Vec<ChannelName>,
        audience: Option<&Audience>,
    ) -> Result<Vec<Option<ChannelName>>> {
        let named = audience.is_some_and(|audience| !audience.is_everyone());
        if channels.is_empty() && named {
            if !self.identity.is_service() {
                return Err(Error::denied(
                    "only services publish straight to users, roles or connections",
                ));
            }
            return Ok(vec![None]);
        }
        if channels.is_empty() {
            channels.push(ChannelName::new(GLOBAL)?);
        }
        let policy = self.services.policy.load();
        for (at, channel) in channels.iter().enumerate() {
            if channels.iter().take(at).any(|earlier| earlier == channel) {
                return Err(Error::field(
                    "channels",
                    format!("{channel} is named twice"),
                ));
            }
            policy.may_publish(&self.identity, channel, self.connection)?;
        }
        for channel in &channels {
            self.services.take_channel(&self.identity, channel)?;
        }
        Ok(channels.into_iter().map(Some).collect())
    }
}

/// Ends the spans of a publish; each has the index of its channel.
fn end(spans: Vec<(usize, Span)>, receipts: &[Result<Receipt>]) {
    for (at, mut span) in spans {
        match receipts.get(at) {
            Some(Err(error)) => span.set_error(error),
            Some(Ok(receipt)) => span.committed(receipt.position, receipt.duplicate),
            None => {}
        }
    }
}

/// The result of a publish. If the broker failed after some of several channels, the error names those
/// that have the event, so that a retry can omit them or use an idempotency key.
fn published(
    channels: Vec<Option<ChannelName>>,
    receipts: Vec<Result<Receipt>>,
) -> Result<Published> {
    let mut results = Vec::with_capacity(channels.len());
    let mut failed = None;
    for (channel, receipt) in channels.into_iter().zip(receipts) {
        match receipt {
            Ok(receipt) => results.push(PublishResult { channel, receipt }),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    let Some(error) = failed else {
        let first = results.first();
        let id = first.map_or_else(Uuid::nil, |first| first.receipt.id);
        return Ok(Published { id, results });
    };
    let done: Vec<&str> = results
        .iter()
        .filter_map(|result| Some(result.channel.as_ref()?.as_str()))
        .collect();
    if done.is_empty() {
        return Err(error);
    }
    Err(error.note(&format!("already published to {}", done.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_failure_names_channels_with_the_event() {
        let channels = ["a", "b", "c"].map(|name| ChannelName::new(name).ok());
        let receipt = || {
            Ok(Receipt {
                id: Uuid::nil(),
                position: None,
                subscribers: 0,
                duplicate: false,
            })
        };
        let full = || Err(Error::unavailable("the store can't write"));
        let error = published(channels.to_vec(), vec![receipt(), full(), receipt()]).unwrap_err();
        assert_eq!(
            error.message(),
            "the store can't write; already published to a, c"
        );
        let error = published(channels.to_vec(), vec![full(), full(), full()]).unwrap_err();
        assert_eq!(error.message(), "the store can't write");
    }
}
