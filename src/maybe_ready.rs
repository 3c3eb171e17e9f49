//! An answer that is often there at once.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::error::Result;

/// Work that goes on elsewhere.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// The answer to a request: there already, or later.
///
/// Most requests are answered from memory, so a shard, which must never wait, looks for
/// [`MaybeReady::Ready`] and hands only the rest to a runtime; an async caller just awaits.
#[must_use = "a promise does nothing unless it is awaited or taken apart"]
pub enum MaybeReady<T> {
    /// There already.
    Ready(Result<T>),
    /// Later.
    Pending(BoxFuture<Result<T>>),
}

impl<T: Send + 'static> MaybeReady<T> {
    /// A good answer, there already.
    pub fn ok(value: T) -> Self {
        MaybeReady::Ready(Ok(value))
    }

    /// All answers in their order, good or not: there already if each of them is.
    pub fn all(promises: Vec<MaybeReady<T>>) -> MaybeReady<Vec<Result<T>>> {
        let mut answers = Vec::with_capacity(promises.len());
        let mut promises = promises.into_iter();
        for promise in promises.by_ref() {
            match promise {
                MaybeReady::Ready(answer) => answers.push(answer),
                MaybeReady::Pending(first) => {
                    return MaybeReady::later(async move {
                        answers.push(first.await);
                        for promise in promises {
                            answers.push(match promise {
                                MaybeReady::Ready(answer) => answer,
                                MaybeReady::Pending(later) => later.await,
                            });
                        }
                        Ok(answers)
                    });
                }
            }
        }
        MaybeReady::ok(answers)
    }

    /// An answer that a future will give.
    pub fn later(future: impl Future<Output = Result<T>> + Send + 'static) -> Self {
        MaybeReady::Pending(Box::pin(future))
    }

    /// Goes on with the answer once it is there.
    pub fn then<U: Send + 'static>(
        self,
        next: impl FnOnce(Result<T>) -> Result<U> + Send + 'static,
    ) -> MaybeReady<U> {
        match self {
            MaybeReady::Ready(answer) => MaybeReady::Ready(next(answer)),
            MaybeReady::Pending(future) => MaybeReady::later(async move { next(future.await) }),
        }
    }
}

impl<T: Send + Unpin + 'static> IntoFuture for MaybeReady<T> {
    type Output = Result<T>;
    type IntoFuture = Awaited<T>;

    fn into_future(self) -> Awaited<T> {
        match self {
            MaybeReady::Ready(answer) => Awaited::Ready(Some(answer)),
            MaybeReady::Pending(future) => Awaited::Pending(future),
        }
    }
}

/// A [`MaybeReady`] being awaited.
pub enum Awaited<T> {
    /// There already; taken once.
    Ready(Option<Result<T>>),
    /// Later.
    Pending(BoxFuture<Result<T>>),
}

impl<T: Unpin> Future for Awaited<T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        match self.get_mut() {
            Awaited::Ready(answer) => match answer.take() {
                Some(answer) => Poll::Ready(answer),
                None => Poll::Pending,
            },
            Awaited::Pending(future) => future.as_mut().poll(cx),
        }
    }
}
