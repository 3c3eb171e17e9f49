//! What clients say in the dialect `tidings`, and what is done about it.

use std::sync::Arc;

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::arguments::{Arguments, request_id};
use super::{messages, receive};
use crate::audit::{Record, What};
use crate::auth::Identity;
use crate::bus::filter::EventFilter;
use crate::bus::{Client, Cx};
use crate::error::{CloseCode, Error, Result};
use crate::event::{
    ChannelName, ChannelPattern, EventType, Headers, Payload, Timestamp, TraceContext, TypePattern,
};
use crate::session::{HistoryQuery, Publish, Services, Session, Subscribe, Wanted};

/// The channel that `event_types` without channels are about.
const GLOBAL: &str = "global";
/// The longest client type or name, in bytes.
const MAX_CLIENT_TEXT: usize = 64;
/// Events of a `history` that names no limit.
const DEFAULT_HISTORY: u32 = 100;

/// Does what a text message asks for. A message that is refused is answered with `error`, and the
/// connection lives.
pub(super) fn handle(services: &Arc<Services>, cx: &mut Cx<'_>, text: &str) {
    let allowed = cx.take_message();
    // Taken apart first, so that even a refusal for the rate echoes the id.
    let read = Arguments::parse(text).and_then(|arguments| {
        let id = request_id(&arguments)?;
        Ok((arguments, id))
    });
    let (arguments, id) = match (allowed, read) {
        (Ok(()), Ok(read)) => read,
        (Err(error), Ok((_, id))) => return refuse(cx, id.as_ref(), &error),
        (Err(error), Err(_)) | (Ok(()), Err(error)) => return refuse(cx, None, &error),
    };
    let request = Request {
        services: Arc::clone(services),
        id,
    };
    if let Err(error) = request.dispatch(cx, arguments) {
        refuse(cx, request.id.as_ref(), &error);
    }
}

/// Says what is wrong with a message.
fn refuse(cx: &mut Cx<'_>, id: Option<&Value>, error: &Error) {
    cx.hub().metrics().error(error.code());
    cx.send(messages::error(id, error));
}

/// The first message on a connection.
pub(super) fn greet(services: &Arc<Services>, cx: &mut Cx<'_>) {
    let (interval, timeout) = cx.heartbeat_ms();
    let (user, roles) = describe(cx.identity());
    let body = json!({
        "connection_id": cx.id().to_string(),
        "user": user,
        "roles": roles,
        "heartbeat_interval_ms": interval,
        "heartbeat_timeout_ms": timeout,
        "timestamp": Timestamp::now().to_rfc3339(),
    });
    cx.send(messages::reply("connection_established", None, body));
    auto_subscribe(services, cx);
}

fn describe(identity: Option<&Arc<Identity>>) -> (Option<String>, Vec<String>) {
    let user = identity.and_then(|i| i.user()).map(ToString::to_string);
    let roles: &[Arc<str>] = match identity {
        Some(identity) => identity.roles(),
        None => &[],
    };
    (user, roles.iter().map(ToString::to_string).collect())
}

fn auto_subscribe(services: &Arc<Services>, cx: &mut Cx<'_>) {
    if let Some(identity) = cx.identity() {
        let session = Session::new(Arc::clone(services), Arc::clone(identity), Some(cx.id()));
        let mut request = session.auto_subscribe();
        // What the client already follows stays as it has set it up.
        request
            .joins
            .retain(|join| cx.filter_of(&join.pattern).is_none());
        cx.join(request, |_, _, _| {});
    }
}

/// One message of a client.
struct Request {
    services: Arc<Services>,
    id: Option<Value>,
}

impl Request {
    fn dispatch(&self, cx: &mut Cx<'_>, arguments: Arguments<'_>) -> Result<()> {
        let kind = arguments.required_text("type")?;
        let flat = kind == "publish" && arguments.has_outer("channel");
        let arguments = if flat {
            arguments
        } else {
            arguments.with_data()
        };
        match &*kind {
            "ping" => {
                self.reply(
                    cx,
                    "pong",
                    json!({ "timestamp": Timestamp::now().to_rfc3339() }),
                );
                Ok(())
            }
            "heartbeat_response" => Ok(()),
            "receive" => receive::receive(cx, &arguments),
            "authenticate" => self.authenticate(cx, &arguments),
            "register" => self.register(cx, &arguments),
            "subscribe" => self.subscribe(cx, &arguments),
            "unsubscribe" => self.unsubscribe(cx, &arguments),
            "publish" => self.publish(cx, &arguments),
            "history" => self.history(cx, &arguments),
            "presence" => self.presence(cx, &arguments),
            other => {
                self.session(cx)?;
                let shown: String = other.chars().take(64).collect();
                let known = "expected authenticate, register, subscribe, unsubscribe, publish, \
                    history, presence, ping or heartbeat_response";
                Err(Error::field("type", format!("{known}, not {shown:?}")))
            }
        }
    }

    fn reply(&self, cx: &mut Cx<'_>, kind: &str, body: Value) {
        cx.send(messages::reply(kind, self.id.as_ref(), body));
    }

    fn session(&self, cx: &Cx<'_>) -> Result<Session> {
        let identity = cx
            .identity()
            .ok_or_else(|| Error::unauthenticated("send authenticate with a token first"))?;
        Ok(Session::new(
            Arc::clone(&self.services),
            Arc::clone(identity),
            Some(cx.id()),
        ))
    }

    fn authenticate(&self, cx: &mut Cx<'_>, arguments: &Arguments<'_>) -> Result<()> {
        let token = arguments.required_text("token")?;
        let span = self.services.tracing.authenticate(None);
        let request = Request {
            services: Arc::clone(&self.services),
            id: self.id.clone(),
        };
        cx.wait(
            self.services.verifier.verify(&token),
            move |cx, verified| {
                drop(span);
                let known = cx
                    .identity()
                    .is_some_and(|identity| identity.user().is_some());
                let outcome = verified
                    .and_then(|identity| cx.recognise(Arc::clone(&identity)).map(|()| identity));
                request.note_authentication(cx, outcome.as_ref().err());
                match outcome {
                    Ok(identity) => {
                        let (user, roles) = describe(Some(&identity));
                        let expires_at = identity.expires_at().map(Timestamp::to_rfc3339);
                        let body =
                            json!({ "user": user, "roles": roles, "expires_at": expires_at });
                        request.reply(cx, "authenticated", body);
                        let services = &request.services;
                        cx.check_rights(&|identity, pattern, id| {
                            services.may_follow(identity, pattern, id)
                        });
                        if !known {
                            auto_subscribe(&request.services, cx);
                        }
                    }
                    Err(error) => refuse(cx, request.id.as_ref(), &error),
                }
            },
        );
        Ok(())
    }

    /// Puts into the audit log what became of a token.
    fn note_authentication(&self, cx: &Cx<'_>, error: Option<&Error>) {
        let identity = cx.identity();
        let record = Record {
            connection: Some(cx.id()),
            user: identity.and_then(|i| i.user()).map(|user| &**user),
            error,
            ..Record::default()
        };
        let what = match error {
            None => What::Authenticated,
            Some(_) => What::AuthenticationFailed,
        };
        self.services.audit.note(what, &record);
    }

    fn register(&self, cx: &mut Cx<'_>, arguments: &Arguments<'_>) -> Result<()> {
        let text = |name| {
            let text = arguments.text(name)?.unwrap_or_default();
            let plain = text.len() <= MAX_CLIENT_TEXT && !text.chars().any(char::is_control);
            if plain {
                Ok(text)
            } else {
                Err(Error::field(
                    name,
                    "expected at most 64 bytes without control characters",
                ))
            }
        };
        let kind = text("client_type")?;
        if kind.is_empty() {
            return Err(Error::field(
                "client_type",
                "expected a string, and it is missing",
            ));
        }
        let name = text("client_name")?;
        let body = json!({ "client_type": kind, "client_name": name });
        cx.register(Client {
            kind: kind.into(),
            name: name.into(),
        });
        self.reply(cx, "registered", body);
        Ok(())
    }

    fn subscribe(&self, cx: &mut Cx<'_>, arguments: &Arguments<'_>) -> Result<()> {
        let session = self.session(cx)?;
        let mut event_types = arguments.texts("event_types")?;
        let mut channels = arguments.texts("channels")?;
        if channels.is_empty() {
            if arguments.given("channels").is_some() || event_types.is_empty() {
                return Err(Error::field("channels", "expected a list of channels"));
            }
            channels.push(GLOBAL.to_owned());
            event_types.extend(narrowed_types(cx, &ChannelPattern::parse(GLOBAL)?));
            event_types.sort_unstable();
            event_types.dedup();
        }
        let since = arguments.positions("since")?;
        let rewind = arguments.number("rewind")?;
        let wanted = channels.into_iter().map(|channel| {
            let since = since.get(&channel).copied();
            // A position is better than a count.
            let rewind = if since.is_some() { None } else { rewind };
            Wanted {
                channel,
                since,
                rewind,
            }
        });
        let wanted = Subscribe {
            channels: wanted.collect(),
            event_types,
            filter: arguments.text("filter")?.unwrap_or_default().into_owned(),
            presence: arguments.flag("presence")?,
        };
        let span = self
            .services
            .tracing
            .subscribe(cx.id(), wanted.channels.len(), None);
        let request = session.subscribe(wanted)?;
        let (id, services) = (self.id.clone(), Arc::clone(&self.services));
        cx.join(request, move |cx, joined, refused| {
            drop(span);
            services.note_refused(cx.identity(), cx.id(), &refused);
            for refused in &refused {
                cx.hub().metrics().error(refused.error.code());
            }
            cx.send(messages::subscribed(id.as_ref(), &joined, &refused));
        });
        Ok(())
    }

    fn unsubscribe(&self, cx: &mut Cx<'_>, arguments: &Arguments<'_>) -> Result<()> {
        self.session(cx)?;
        let channels = arguments.texts("channels")?;
        let event_types = arguments.texts("event_types")?;
        if channels.is_empty() && event_types.is_empty() {
            return Err(Error::field(
                "channels",
                "expected a list of channels, or event_types",
            ));
        }
        let patterns = channels
            .iter()
            .map(|channel| ChannelPattern::parse(channel));
        let patterns: Vec<ChannelPattern> = patterns.collect::<Result<_>>()?;
        let mut left: Vec<String> = Vec::new();
        for pattern in patterns {
            if cx.leave(&pattern) {
                left.push(pattern.to_string());
            }
        }
        if !event_types.is_empty() {
            widen(cx, &event_types, &mut left)?;
        }
        self.reply(
            cx,
            "unsubscribed",
            json!({ "channels": left, "event_types": event_types }),
        );
        Ok(())
    }

    fn publish(&self, cx: &mut Cx<'_>, arguments: &Arguments<'_>) -> Result<()> {
        let session = self.session(cx)?;
        let channel = arguments.required_text("channel")?;
        let event_type = arguments.required_text("event_type")?;
        let event_type = EventType::new(&*event_type)
            .map_err(|error| Error::field("event_type", error.description().to_owned()))?;
        let text = |name| Ok::<_, Error>(arguments.text(name)?.unwrap_or_default().into_owned());
        let trace = TraceContext::parse(&text("traceparent")?, &text("tracestate")?);
        let publish = Publish {
            channels: vec![ChannelName::new(&*channel)?],
            event_type,
            payload: payload(arguments.raw("data"))?,
            headers: Headers::new(arguments.pairs("headers")?)?,
            key: text("key")?,
            idempotency_key: text("idempotency_key")?,
            audience: None,
            source: String::new(),
            time: None,
            trace,
        };
        let request = Request {
            services: Arc::clone(&self.services),
            id: self.id.clone(),
        };
        cx.wait(
            session.publish(publish),
            move |cx, published| match published {
                Ok(published) => {
                    // A request's own `id` is echoed as in every reply; the event's is then beside it.
                    let mut body = json!({ "event_id": published.id.to_string() });
                    if let (None, Some(body)) = (&request.id, body.as_object_mut()) {
                        body.insert("id".into(), published.id.to_string().into());
                    }
                    let receipt = published.results.first().map(|result| result.receipt);
                    if let (Some(receipt), Some(body)) = (receipt, body.as_object_mut()) {
                        if let Some(position) = receipt.position {
                            body.insert("epoch".into(), position.epoch.to_string().into());
                            body.insert("offset".into(), position.offset.into());
                        }
                        if receipt.duplicate {
                            body.insert("duplicate".into(), true.into());
                        }
                    }
                    request.reply(cx, "published", body);
                }
                Err(error) => refuse(cx, request.id.as_ref(), &error),
            },
        );
        Ok(())
    }

    fn history(&self, cx: &mut Cx<'_>, arguments: &Arguments<'_>) -> Result<()> {
        let session = self.session(cx)?;
        let channel = ChannelName::new(&*arguments.required_text("channel")?)?;
        let limit = arguments.number("limit")?.unwrap_or(DEFAULT_HISTORY);
        let query = HistoryQuery {
            channel: channel.clone(),
            since: arguments.position("since")?,
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            reverse: arguments.flag("reverse")?,
        };
        let request = Request {
            services: Arc::clone(&self.services),
            id: self.id.clone(),
        };
        cx.wait(session.history(query), move |cx, page| match page {
            Ok(page) => {
                let events = page.events.iter().map(|event| {
                    let text = String::from_utf8_lossy(&messages::event_json(event)).into_owned();
                    RawValue::from_string(text).map_err(|_| Error::internal("an event is no JSON"))
                });
                let events: Result<Vec<Box<RawValue>>> = events.collect();
                match events {
                    Ok(events) => {
                        let head = json!({
                            "channel": channel.as_str(),
                            "epoch": page.top.epoch.to_string(),
                            "offset": page.top.offset,
                        });
                        cx.send(messages::with_events(
                            "history",
                            request.id.as_ref(),
                            &head,
                            &events,
                        ));
                    }
                    Err(error) => refuse(cx, request.id.as_ref(), &error),
                }
            }
            Err(error) => refuse(cx, request.id.as_ref(), &error),
        });
        Ok(())
    }

    fn presence(&self, cx: &mut Cx<'_>, arguments: &Arguments<'_>) -> Result<()> {
        let session = self.session(cx)?;
        let channel = ChannelName::new(&*arguments.required_text("channel")?)?;
        let present = session.presence(&channel)?;
        let users = present
            .users
            .iter()
            .map(|(user, connections)| json!({ "user": &**user, "connections": connections }));
        let users: Vec<Value> = users.collect();
        let body = json!({ "channel": channel.as_str(), "users": users, "total": present.total });
        self.reply(cx, "presence", body);
        Ok(())
    }
}

/// A payload as it stands in the message: not one byte of it is rewritten.
fn payload(raw: Option<&RawValue>) -> Result<Payload> {
    let raw = raw.ok_or_else(|| Error::field("data", "expected JSON, and it is missing"))?;
    Payload::from_json(raw)
}

/// The event types to which a subscription is already narrowed.
fn narrowed_types(cx: &Cx<'_>, pattern: &ChannelPattern) -> Vec<String> {
    match cx.filter_of(pattern) {
        Some(Some(filter)) => filter
            .key()
            .types()
            .iter()
            .map(|t| t.as_str().to_owned())
            .collect(),
        Some(None) | None => Vec::new(),
    }
}

/// Takes event types out of those to which `global` was narrowed; leaves it with the last.
fn widen(cx: &mut Cx<'_>, event_types: &[String], left: &mut Vec<String>) -> Result<()> {
    let global = ChannelPattern::parse(GLOBAL)?;
    let mut types = narrowed_types(cx, &global);
    if types.is_empty() {
        return Err(Error::precondition("global is not narrowed to event types"));
    }
    let source = cx
        .filter_of(&global)
        .flatten()
        .and_then(|filter| filter.key().source().cloned());
    types.retain(|kept| !event_types.contains(kept));
    if types.is_empty() {
        cx.leave(&global);
        left.push(GLOBAL.to_owned());
        return Ok(());
    }
    let types = types
        .iter()
        .map(|text| TypePattern::parse(text))
        .collect::<Result<Vec<_>>>()?;
    cx.narrow(
        &global,
        EventFilter::new(types, source.as_deref())?.as_ref(),
    );
    Ok(())
}

/// A client that sends what this dialect has no use for.
pub(super) fn refuse_binary(cx: &mut Cx<'_>) {
    cx.close(CloseCode::Unsupported, CloseCode::Unsupported.reason());
}
