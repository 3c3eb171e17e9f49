//! The pipe between a shard and a stream's task: every frame arrives, in order, then the end;
//! and neither side waits for the other forever.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use loom::future::block_on;
use loom::thread;
use tokio_stream::Stream as _;

use crate::error::CloseCode;
use crate::event::ConnectionId;
use crate::hub::Hub;
use crate::model;
use crate::pipe::{Pipe, PipeReader, Piped};

/// Two of these fill the pipe.
const FRAME: usize = 40 * 1024;

async fn next(reader: &mut PipeReader) -> Option<Piped> {
    let mut reader = pin!(reader);
    std::future::poll_fn(|cx: &mut Context<'_>| -> Poll<Option<Piped>> {
        reader.as_mut().poll_next(cx)
    })
    .await
}

fn frame(number: u8, bytes: usize) -> Bytes {
    vec![number; bytes].into()
}

/// The shard's side: writes all frames, and retries when the pipe reports free space.
fn write_all(pipe: &Pipe, hub: &Hub, frames: Vec<Bytes>) {
    let mut frames = frames.into_iter().peekable();
    let mut refills = 0;
    loop {
        pipe.write(|| frames.next());
        if frames.peek().is_none() {
            return;
        }
        // Not all frames fitted, so the reader reports when there is space.
        loop {
            let notified = hub.notified.lock().unwrap();
            if notified.gone > 0 {
                return;
            }
            if notified.refills > refills {
                refills = notified.refills;
                break;
            }
            drop(notified);
            hub.waker.wait();
        }
    }
}

#[test]
fn frames_arrive_in_order_before_the_end() {
    for (frames, bytes) in [(3, 10), (3, FRAME)] {
        model(move || {
            let hub = Arc::new(Hub::new());
            let (pipe, shareable) = Pipe::new();
            let telling = Arc::clone(&hub);
            let shard = thread::spawn(move || {
                let all = (0..frames).map(|number| frame(number, bytes)).collect();
                write_all(&pipe, &telling, all);
                pipe.end(CloseCode, "over");
            });
            let mut reader = shareable.reader(Arc::clone(&hub), ConnectionId);
            for number in 0..frames {
                match block_on(next(&mut reader)) {
                    Some(Piped::Frame(bytes)) => assert_eq!(bytes[0], number),
                    other => panic!("{other:?} instead of frame {number}"),
                }
            }
            assert!(matches!(block_on(next(&mut reader)), Some(Piped::End(..))));
            assert!(block_on(next(&mut reader)).is_none());
            drop(reader);
            shard.join().unwrap();
            assert_eq!(hub.notified.lock().unwrap().gone, 0, "it had ended");
        });
    }
}

#[test]
fn shard_is_notified_when_the_reader_of_a_full_pipe_goes() {
    model(|| {
        let hub = Arc::new(Hub::new());
        let (pipe, shareable) = Pipe::new();
        let telling = Arc::clone(&hub);
        let reader = shareable.reader(Arc::clone(&hub), ConnectionId);
        let shard = thread::spawn(move || {
            let all = (0..3).map(|number| frame(number, FRAME)).collect();
            write_all(&pipe, &telling, all);
        });
        drop(reader);
        shard.join().unwrap();
        assert_eq!(hub.notified.lock().unwrap().gone, 1);
    });
}

#[test]
fn read_and_detached_frames_are_all_frames_in_order() {
    model(|| {
        let hub = Arc::new(Hub::new());
        let (pipe, shareable) = Pipe::new();
        let mut reader = shareable.reader(Arc::clone(&hub), ConnectionId);
        let shard = thread::spawn(move || {
            let mut all = (0..3).map(|number| frame(number, 10));
            pipe.write(|| all.next());
            pipe.detach()
        });
        let mut read = Vec::new();
        while let Some(Piped::Frame(bytes)) = block_on(next(&mut reader)) {
            read.push(bytes);
        }
        drop(reader);
        read.extend(shard.join().unwrap());
        let numbers: Vec<u8> = read.iter().map(|bytes| bytes[0]).collect();
        assert_eq!(numbers, [0, 1, 2]);
        assert_eq!(
            hub.notified.lock().unwrap().gone,
            0,
            "the connection goes on"
        );
    });
}
