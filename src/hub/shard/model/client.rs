//! A client of the model: its knowledge of each channel, and its checks of each message.

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio_stream::Stream;

use super::CHANNELS;
use super::world::World;
use crate::error::CloseCode;
use crate::event::{Epoch, Position, SlowConsumer};
use crate::hub::pipe::{PipeReader, Piped};

/// A client's knowledge of one channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Book {
    pub(super) epoch: Epoch,
    /// The offset of the last event that it has, or knows to be missing.
    pub(super) at: u64,
}

#[derive(Default)]
pub(super) struct Client {
    /// The number of its dialect.
    pub(super) dialect: u32,
    pub(super) reader: Option<PipeReader>,
    /// Bytes of an incomplete line.
    pub(super) rest: Vec<u8>,
    /// Its knowledge of each channel, whether or not it is connected.
    pub(super) books: HashMap<usize, Book>,
    /// The channels to which it is subscribed now.
    pub(super) follows: Vec<usize>,
    /// The requested resume positions, until the reply.
    pub(super) asked: HashMap<usize, Position>,
    /// The channels whose `subscribe` was not answered yet.
    pub(super) unanswered: HashSet<usize>,
    /// The channels to which it subscribed again, until the reply.
    pub(super) again: HashSet<usize>,
}

impl Client {
    pub(super) fn lost_connection(&mut self) {
        self.reader = None;
        self.rest.clear();
        self.follows.clear();
        self.asked.clear();
        self.unanswered.clear();
        self.again.clear();
    }

    /// Takes one message; false if there is none.
    pub(super) fn read(&mut self, world: &World) -> bool {
        let Some(reader) = &mut self.reader else {
            return false;
        };
        let mut cx = Context::from_waker(Waker::noop());
        match Pin::new(reader).poll_next(&mut cx) {
            Poll::Pending | Poll::Ready(None) => false,
            Poll::Ready(Some(Piped::End(code, _))) => {
                assert_eq!(
                    code,
                    CloseCode::TooSlow,
                    "nothing else ends a connection here"
                );
                self.lost_connection();
                true
            }
            Poll::Ready(Some(Piped::Frame(bytes))) => {
                self.rest.extend_from_slice(&bytes);
                while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                    let text: Vec<u8> = self.rest.drain(..=end).collect();
                    self.receive(world, std::str::from_utf8(&text).unwrap().trim_end());
                }
                true
            }
        }
    }

    fn receive(&mut self, world: &World, text: &str) {
        let words: Vec<&str> = text.split_whitespace().collect();
        let channel = CHANNELS.iter().position(|(name, _)| *name == words[1]);
        let channel = channel.unwrap();
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        match words[0] {
            "subscribed" => {
                let (offset, epoch) = (number(2), words[3].parse().unwrap());
                let (recovered, replayed) = (words[4] == "true", number(5));
                let asked = self.asked.remove(&channel);
                if recovered {
                    let asked = asked.expect("it asked to resume");
                    assert_eq!(asked.epoch, epoch, "{text}: of another epoch");
                    assert_eq!(asked.offset + replayed, offset, "{text}: not all of it");
                }
                assert!(
                    offset <= world.top(channel, epoch),
                    "{text}: an offset that was never given"
                );
                let at = offset - replayed;
                self.unanswered.remove(&channel);
                if self.again.remove(&channel)
                    && let Some(book) = self.books.get(&channel)
                    && book.epoch == epoch
                {
                    assert_eq!(book.at, at, "{text}: it goes on where it stood");
                }
                self.books.insert(channel, Book { epoch, at });
            }
            "event" => {
                let book = self.books.get_mut(&channel).expect("it is subscribed");
                assert_eq!(book.epoch.to_string(), words[3], "{text}: {book:?}");
                assert_eq!(book.at + 1, number(2), "{text}: {book:?}");
                assert_eq!(
                    u64::from(self.dialect),
                    number(4),
                    "{text}: not its dialect"
                );
                book.at += 1;
            }
            "gap" => {
                let book = self.books.get_mut(&channel).expect("it is subscribed");
                let (from, to) = (number(2), number(3));
                assert!(from == book.at + 1 && from <= to, "{text}: {book:?}");
                let drops = matches!(
                    CHANNELS[channel].1,
                    SlowConsumer::DropOldest | SlowConsumer::Conflate
                );
                assert!(
                    drops || words[4] == "expired",
                    "{text}: nothing is dropped there"
                );
                book.at = to;
            }
            other => panic!("{other}?"),
        }
    }
}
