//! A result that is often available at once.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::error::Result;

/// Work that completes elsewhere.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// The result of a request: available now or later.
///
/// Most requests are answered from memory. A shard must never block, so it handles
/// [`MaybeReady::Ready`] itself and passes only the rest to the runtime. Async callers await it.
#[must_use = "a `MaybeReady` does nothing unless it is awaited or matched"]
pub enum MaybeReady<T> {
    /// Available now.
    Ready(Result<T>),
    /// Available later.
    Pending(BoxFuture<Result<T>>),
}

impl<T: Send + 'static> MaybeReady<T> {
    /// A success that is available now.
    pub fn ok(value: T) -> Self {
        MaybeReady::Ready(Ok(value))
    }

    /// Combines all results in order, successes and failures. It is ready if each of them is.
    pub fn all(results: Vec<MaybeReady<T>>) -> MaybeReady<Vec<Result<T>>> {
        let mut answers = Vec::with_capacity(results.len());
        let mut results = results.into_iter();
        for result in results.by_ref() {
            match result {
                MaybeReady::Ready(answer) => answers.push(answer),
                MaybeReady::Pending(first) => {
                    return MaybeReady::later(async move {
                        answers.push(first.await);
                        for result in results {
                            answers.push(match result {
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

    /// A result that a future produces.
    pub fn later(future: impl Future<Output = Result<T>> + Send + 'static) -> Self {
        MaybeReady::Pending(Box::pin(future))
    }

    /// Maps the result once it is available.
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
    /// Available now. Taken once.
    Ready(Option<Result<T>>),
    /// Available later.
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
