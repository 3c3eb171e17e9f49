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
/// [`Promise::Ready`] and hands only the rest to a runtime; an async caller just awaits.
#[must_use = "a promise does nothing unless it is awaited or taken apart"]
pub enum Promise<T> {
    /// There already.
    Ready(Result<T>),
    /// Later.
    Pending(BoxFuture<Result<T>>),
}

impl<T: Send + 'static> Promise<T> {
    /// A good answer, there already.
    pub fn ok(value: T) -> Self {
        Promise::Ready(Ok(value))
    }

    /// All answers in their order, good or not: there already if each of them is.
    pub fn all(promises: Vec<Promise<T>>) -> Promise<Vec<Result<T>>> {
        let mut answers = Vec::with_capacity(promises.len());
        let mut promises = promises.into_iter();
        for promise in promises.by_ref() {
            match promise {
                Promise::Ready(answer) => answers.push(answer),
                Promise::Pending(first) => {
                    return Promise::later(async move {
                        answers.push(first.await);
                        for promise in promises {
                            answers.push(match promise {
                                Promise::Ready(answer) => answer,
                                Promise::Pending(later) => later.await,
                            });
                        }
                        Ok(answers)
                    });
                }
            }
        }
        Promise::ok(answers)
    }

    /// An answer that a future will give.
    pub fn later(future: impl Future<Output = Result<T>> + Send + 'static) -> Self {
        Promise::Pending(Box::pin(future))
    }

    /// Goes on with the answer once it is there.
    pub fn then<U: Send + 'static>(
        self,
        next: impl FnOnce(Result<T>) -> Result<U> + Send + 'static,
    ) -> Promise<U> {
        match self {
            Promise::Ready(answer) => Promise::Ready(next(answer)),
            Promise::Pending(future) => Promise::later(async move { next(future.await) }),
        }
    }
}

impl<T: Send + Unpin + 'static> IntoFuture for Promise<T> {
    type Output = Result<T>;
    type IntoFuture = Awaited<T>;

    fn into_future(self) -> Awaited<T> {
        match self {
            Promise::Ready(answer) => Awaited::Ready(Some(answer)),
            Promise::Pending(future) => Awaited::Pending(future),
        }
    }
}

/// A [`Promise`] being awaited.
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
