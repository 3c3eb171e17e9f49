//! A subscription as a `Stream`.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::{FusedStream, Stream};

use crate::{Result, Step, Subscription};

type Next = Pin<Box<dyn Future<Output = (Option<Result<Step>>, Subscription)> + Send>>;

/// The steps of a [`Subscription`], as a [`Stream`]. See [`Subscription::into_stream`].
pub struct Steps(State);

enum State {
    Idle(Box<Subscription>),
    Waiting(Next),
    Ended,
}

impl Steps {
    pub(crate) fn new(subscription: Subscription) -> Self {
        Steps(State::Idle(Box::new(subscription)))
    }

    /// The subscription, for its positions. `None` while a step is waited for, and after the end.
    #[must_use]
    pub fn subscription(&self) -> Option<&Subscription> {
        match &self.0 {
            State::Idle(subscription) => Some(subscription),
            State::Waiting(_) | State::Ended => None,
        }
    }
}

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Steps").field(&self.subscription()).finish()
    }
}

impl Stream for Steps {
    type Item = Result<Step>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match &mut self.0 {
                State::Ended => return Poll::Ready(None),
                State::Idle(_) => {
                    let State::Idle(subscription) = std::mem::replace(&mut self.0, State::Ended)
                    else {
                        continue;
                    };
                    self.0 = State::Waiting(Box::pin(async move {
                        let mut subscription = *subscription;
                        (subscription.next().await, subscription)
                    }));
                }
                State::Waiting(next) => {
                    let (step, subscription) = ready!(next.as_mut().poll(cx));
                    self.0 = match step {
                        Some(_) => State::Idle(Box::new(subscription)),
                        None => State::Ended,
                    };
                    return Poll::Ready(step);
                }
            }
        }
    }
}

impl FusedStream for Steps {
    fn is_terminated(&self) -> bool {
        matches!(self.0, State::Ended)
    }
}
