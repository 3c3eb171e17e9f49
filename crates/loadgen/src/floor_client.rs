//! Publishes to the floor server of `benches/floor.rs`, which has no gRPC: the same tasks with a
//! minimal protocol.
//!
//! Request: channel and length as two big-endian `u32`, then the payload. Response: one byte for
//! each event, in order.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::error::{Error, Result};
use crate::publisher_task::{PublisherLog, PublisherTask};

/// Publishes over one TCP connection to `address`, with up to `window` unanswered events. A `burst`
/// collects events into one write.
///
/// # Errors
///
/// If there is no floor server, or it closes the connection.
pub(super) async fn publish(
    address: &str,
    mut task: PublisherTask,
    window: usize,
    burst: bool,
) -> Result<PublisherLog> {
    let failed = |error: std::io::Error| Error::new(format!("the floor server: {error}"));
    let socket = TcpStream::connect(address).await.map_err(failed)?;
    socket.set_nodelay(true).map_err(failed)?;
    let (mut reader, mut writer) = socket.into_split();
    let (waiting, mut answered) = mpsc::channel::<u64>(window);
    let mut log = task.log();
    let send = async {
        let mut bytes = Vec::with_capacity(64 << 10);
        while let Ok(permit) = waiting.reserve().await {
            let Some(event) = task.next().await else {
                break;
            };
            permit.send(event.sent);
            append(&mut bytes, event.channel, &event.data);
            while burst && bytes.len() < (64 << 10) {
                let Ok(permit) = waiting.try_reserve() else {
                    break;
                };
                let Some(event) = task.due() else { break };
                permit.send(event.sent);
                append(&mut bytes, event.channel, &event.data);
            }
            writer.write_all(&bytes).await?;
            bytes.clear();
        }
        drop(waiting);
        writer.shutdown().await
    };
    let receive = async {
        let mut answers = [0; 4096];
        loop {
            let count = reader.read(&mut answers).await?;
            for _ in 0..count {
                if let Some(sent) = answered.recv().await {
                    log.accepted(sent);
                }
            }
            if count == 0 {
                answered.close();
                return match answered.recv().await {
                    Some(_) => Err(std::io::ErrorKind::UnexpectedEof.into()),
                    None => Ok(()),
                };
            }
        }
    };
    tokio::try_join!(send, receive).map_err(failed)?;
    Ok(task.finish(log))
}

fn append(bytes: &mut Vec<u8>, channel: usize, data: &[u8]) {
    for number in [channel, data.len()] {
        bytes.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes());
    }
    bytes.extend_from_slice(data);
}
