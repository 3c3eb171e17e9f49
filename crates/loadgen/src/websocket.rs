//! Publishes over the server's JSON WebSocket, as a page or a service without gRPC would.

use std::sync::{Mutex, PoisonError};

use serde::Deserialize;
use tidings_websocket::client::frame::{self, ServerFrame, client_frame};
use tidings_websocket::client::handshake::{self, MAX_HEAD_BYTES};
use tidings_websocket::frame::Opcode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::connection::excerpt;
use crate::error::{Error, Result};
use crate::payload::{EVENT_TYPE, NAMESPACE};
use crate::publish::{ANSWER_TIMEOUT, CONNECT_TIMEOUT, MAX_REFUSALS};
use crate::publisher_task::{Outgoing, PublisherLog, PublisherTask};
use crate::swarm::Plan;
use crate::token::Secret;

/// How much a burst collects into one write, in bytes.
const GATHERED: usize = 64 << 10;

/// A WebSocket that publishes.
pub(super) struct Socket {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    /// Bytes that have been read and not yet parsed.
    input: Vec<u8>,
}

/// Connects to the address of the subscribers of `plan`.
///
/// # Errors
///
/// If there is no server, or it refuses the WebSocket.
pub(super) async fn connect(plan: &Plan, token: Option<&Secret>) -> Result<Socket> {
    timeout(CONNECT_TIMEOUT, open(plan, token))
        .await
        .unwrap_or_else(|_| Err(failed("no answer to the handshake")))
}

async fn open(plan: &Plan, token: Option<&Secret>) -> Result<Socket> {
    let stream = TcpStream::connect(plan.address).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    let (mut reader, mut writer) = stream.into_split();
    let request = handshake::request(&plan.host, &plan.path, token.map(Secret::expose));
    writer.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut input = Vec::new();
    loop {
        if reader.read_buf(&mut input).await.map_err(failed)? == 0 {
            return Err(failed("closed within the handshake"));
        }
        if let Some((head, rest)) = handshake::split(&input) {
            handshake::check(head).map_err(failed)?;
            let input = rest.to_vec();
            return Ok(Socket {
                reader,
                writer,
                input,
            });
        }
        if input.len() > MAX_HEAD_BYTES {
            return Err(failed("an endless answer to the handshake"));
        }
    }
}

/// Publishes over `socket`, with up to `window` unanswered events. A `burst` collects events into
/// one write.
///
/// # Errors
///
/// If the server closes the connection, stops answering or refuses everything.
pub(super) async fn publish(
    socket: Socket,
    mut task: PublisherTask,
    window: usize,
    burst: bool,
) -> Result<PublisherLog> {
    let Socket {
        reader,
        writer,
        input,
    } = socket;
    let writer = tokio::sync::Mutex::new(writer);
    let (open, mut slots) = Open::new(window);
    let mut log = task.log();
    let sending = async {
        let mut bytes = Vec::with_capacity(GATHERED);
        while let Some(slot) = slots.recv().await {
            let Some(event) = task.next().await else {
                break;
            };
            open.waits(slot, &event);
            append(&mut bytes, slot, &event);
            while burst && bytes.len() < GATHERED {
                let Ok(slot) = slots.try_recv() else { break };
                let Some(event) = task.due() else {
                    open.give_back(slot);
                    break;
                };
                open.waits(slot, &event);
                append(&mut bytes, slot, &event);
            }
            writer
                .lock()
                .await
                .write_all(&bytes)
                .await
                .map_err(failed)?;
            bytes.clear();
        }
        // One slot is held here; once all others are free again, no response is outstanding.
        let rest = async {
            for _ in 1..window {
                slots.recv().await;
            }
        };
        timeout(ANSWER_TIMEOUT, rest)
            .await
            .map_err(|_| failed("answers are missing after 30 s"))?;
        let goodbye = client_frame(Opcode::Close, &1000u16.to_be_bytes());
        writer
            .lock()
            .await
            .write_all(&goodbye)
            .await
            .map_err(failed)
    };
    let reading = read(reader, input, &writer, &open, &mut log);
    tokio::select! {
        sent = sending => sent?,
        why = reading => return Err(why),
    }
    Ok(task.finish(log))
}

/// Reads responses until an error occurs, and returns it.
async fn read(
    mut reader: OwnedReadHalf,
    mut input: Vec<u8>,
    writer: &tokio::sync::Mutex<OwnedWriteHalf>,
    open: &Open,
    log: &mut PublisherLog,
) -> Error {
    let mut refusals = 0;
    loop {
        let mut rest = input.as_slice();
        loop {
            let (opcode, payload, after) = match frame::next(rest) {
                Ok(Some(ServerFrame {
                    opcode,
                    payload,
                    rest,
                })) => (opcode, payload, rest),
                Ok(None) => break,
                Err(error) => return failed(error),
            };
            match opcode {
                Opcode::Text => match open.answered(payload, log) {
                    Some(true) => refusals = 0,
                    Some(false) => refusals += 1,
                    None => {}
                },
                Opcode::Ping => {
                    let pong = client_frame(Opcode::Pong, payload);
                    if let Err(error) = writer.lock().await.write_all(&pong).await {
                        return failed(error);
                    }
                }
                Opcode::Close => return closed(payload),
                Opcode::Binary | Opcode::Pong | Opcode::Continuation => {}
            }
            if refusals >= MAX_REFUSALS {
                let last = log.sample.as_deref().unwrap_or_default();
                return failed(format!("{MAX_REFUSALS} refusals in a row: {last}"));
            }
            rest = after;
        }
        let kept = rest.len();
        input.drain(..input.len() - kept);
        match reader.read_buf(&mut input).await {
            Ok(0) => return failed("closed by the server"),
            Ok(_) => {}
            Err(error) => return failed(error),
        }
    }
}

/// The unanswered events. The `id` of each is its slot, because the order of responses is not
/// guaranteed.
struct Open {
    /// The channel of each, and when it was sent.
    events: Mutex<Vec<Option<(usize, u64)>>>,
    free: mpsc::Sender<usize>,
}

/// A response, or an error without an `id`.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow, rename = "type")]
    kind: &'a str,
    #[serde(default)]
    id: serde_json::Value,
}

impl Open {
    /// With `window` slots, all of which are free.
    fn new(window: usize) -> (Self, mpsc::Receiver<usize>) {
        let (free, slots) = mpsc::channel(window.max(1));
        let open = Self {
            events: Mutex::new(vec![None; window]),
            free,
        };
        (0..window).for_each(|slot| open.give_back(slot));
        (open, slots)
    }

    fn give_back(&self, slot: usize) {
        // There is capacity for all of them, and at the end there is no receiver.
        self.free.try_send(slot).unwrap_or_default();
    }

    /// Assigns this slot to `event`.
    fn waits(&self, slot: usize, event: &Outgoing) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = events.get_mut(slot) {
            *waiting = Some((event.channel, event.sent));
        }
    }

    /// Records a message of the server. True if an event was accepted, false if one was refused or
    /// something else went wrong, `None` if the message is about no publish.
    fn answered(&self, message: &[u8], log: &mut PublisherLog) -> Option<bool> {
        let Ok(answer) = serde_json::from_slice::<Answer<'_>>(message) else {
            return None;
        };
        let accepted = match answer.kind {
            "published" => true,
            "error" => false,
            _ => return None,
        };
        let slot = answer.id.as_u64().and_then(|id| usize::try_from(id).ok());
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = slot.and_then(|slot| Some((slot, events.get_mut(slot)?.take()?)));
        match waited {
            Some((slot, (channel, sent))) => {
                if accepted {
                    log.accepted(sent);
                } else {
                    log.refused(channel, &excerpt(message));
                }
                self.give_back(slot);
            }
            None if accepted => return None,
            None => {
                log.sample.get_or_insert_with(|| excerpt(message));
            }
        }
        Some(accepted)
    }
}

fn append(bytes: &mut Vec<u8>, slot: usize, event: &Outgoing) {
    let mut message = format!(
        r#"{{"type":"publish","id":{slot},"channel":"{NAMESPACE}:{}","event_type":"{EVENT_TYPE}","data":"#,
        event.channel
    )
    .into_bytes();
    message.extend_from_slice(&event.data);
    message.push(b'}');
    bytes.extend_from_slice(&client_frame(Opcode::Text, &message));
}

fn closed(payload: &[u8]) -> Error {
    let code = payload
        .first_chunk()
        .map_or(1005, |code| u16::from_be_bytes(*code));
    let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default()).into_owned();
    failed(format!("closed with {code}: {reason}"))
}

fn failed(why: impl std::fmt::Display) -> Error {
    Error::new(format!("publishing over the WebSocket failed: {why}"))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn event(channel: usize) -> Outgoing {
        Outgoing {
            channel,
            data: Bytes::from_static(br#"{"n":1}"#),
            sent: 1,
        }
    }

    fn log() -> PublisherLog {
        PublisherLog {
            refused: vec![0; 3],
            ..PublisherLog::default()
        }
    }

    #[test]
    fn answers_in_any_order_free_their_slots() {
        let (open, mut slots) = Open::new(2);
        for channel in [1, 2] {
            open.waits(slots.try_recv().unwrap(), &event(channel));
        }
        assert!(slots.try_recv().is_err(), "the window is full");
        let mut log = log();
        let refusal = br#"{"type":"error","id":1,"code":"resource_exhausted","message":"later"}"#;
        assert_eq!(open.answered(refusal, &mut log), Some(false));
        assert_eq!(slots.try_recv(), Ok(1));
        let accepted = br#"{"type":"published","id":0,"event_id":"x"}"#;
        assert_eq!(open.answered(accepted, &mut log), Some(true));
        assert_eq!(slots.try_recv(), Ok(0));
        assert_eq!(open.answered(accepted, &mut log), None, "it waits no more");
        assert_eq!(log.refused, [0, 0, 1]);
        assert!(log.sample.unwrap().contains("resource_exhausted"));
    }

    #[test]
    fn unrelated_error_is_kept_as_sample() {
        let (open, mut slots) = Open::new(1);
        open.waits(slots.try_recv().unwrap(), &event(0));
        let mut log = log();
        for other in [
            &br#"{"type":"heartbeat","timestamp":"now"}"#[..],
            b"no JSON",
        ] {
            assert_eq!(open.answered(other, &mut log), None);
        }
        assert_eq!(log.sample, None);
        let error = br#"{"type":"error","code":"resource_exhausted","message":"too fast"}"#;
        assert_eq!(open.answered(error, &mut log), Some(false));
        assert!(log.sample.as_deref().unwrap().contains("too fast"));
        assert_eq!(log.refusals(), 0);
        assert!(slots.try_recv().is_err(), "the event still waits");
    }

    #[test]
    fn event_is_a_publish_command() {
        let mut bytes = Vec::new();
        append(&mut bytes, 7, &event(2));
        let (header, length) = (2, usize::from(bytes[1] & 0x7f));
        assert_eq!(bytes.len(), header + 4 + length, "one short frame");
        let key = bytes[header..].iter().take(4).cycle();
        let masked = bytes[header + 4..].iter();
        let unmasked: Vec<u8> = masked.zip(key).map(|(byte, key)| byte ^ key).collect();
        let message: serde_json::Value = serde_json::from_slice(&unmasked).unwrap();
        let expected = serde_json::json!({"type": "publish", "id": 7, "channel": "bench:2",
            "event_type": "bench.tick", "data": {"n": 1}});
        assert_eq!(message, expected);
    }
}
