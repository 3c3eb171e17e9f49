//! Timers that only count time in which this process ran.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt;
use tokio::time::{Instant, Sleep};

/// The shortest slice of a timer.
const LEAST_SLICE: Duration = Duration::from_secs(1);
/// The number of slices of a long timer. At most one slice can elapse without detecting that the
/// process was stopped for most of it.
const SLICES: u32 = 8;
/// How late a slice may end and still count.
const LATE: Duration = Duration::from_secs(1);

/// Fires after a duration in which this process ran.
///
/// A timer of the runtime that expires while the process is stopped fires as soon as it continues,
/// although the peer could not be heard meanwhile. This timer waits in slices. A slice that ends
/// late indicates a stall, and is waited for again.
pub struct RunTimer {
    slice: Pin<Box<Sleep>>,
    length: Duration,
    /// The duration after this slice.
    left: Duration,
}

impl RunTimer {
    /// Fires after this duration. Must be called within a runtime.
    #[must_use]
    pub fn new(time: Duration) -> Self {
        let length = slice_of(time);
        RunTimer {
            slice: Box::pin(tokio::time::sleep(length)),
            length,
            left: time.saturating_sub(length),
        }
    }

    /// Restarts the timer.
    pub fn restart(&mut self, time: Duration) {
        self.length = slice_of(time);
        self.left = time.saturating_sub(self.length);
        self.wait();
    }

    fn wait(&mut self) {
        self.slice.as_mut().reset(Instant::now() + self.length);
    }
}

fn slice_of(time: Duration) -> Duration {
    (time / SLICES).max(LEAST_SLICE).min(time)
}

impl Future for RunTimer {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        loop {
            ready!(this.slice.as_mut().poll(cx));
            let late = Instant::now().saturating_duration_since(this.slice.deadline());
            if late <= LATE {
                if this.left.is_zero() {
                    return Poll::Ready(());
                }
                this.length = this.length.min(this.left);
                this.left -= this.length;
            }
            this.wait();
        }
    }
}

impl fmt::Debug for RunTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunTimer").finish_non_exhaustive()
    }
}

impl rt::Sleep for RunTimer {}

/// The timeout elapsed before the work was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

/// Waits for `work` for as long as this process runs for `time`. Work that is done when the process
/// continues after a stall counts as done.
///
/// # Errors
/// [`Elapsed`].
pub async fn timeout<F: Future>(time: Duration, work: F) -> Result<F::Output, Elapsed> {
    tokio::select! {
        biased;
        done = work => Ok(done),
        () = RunTimer::new(time) => Err(Elapsed),
    }
}

/// Adapts [`RunTimer`] to hyper.
#[derive(Debug, Clone, Copy, Default)]
pub struct HyperTimer;

impl rt::Timer for HyperTimer {
    fn sleep(&self, time: Duration) -> Pin<Box<dyn rt::Sleep>> {
        Box::pin(RunTimer::new(time))
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn rt::Sleep>> {
        self.sleep(until(deadline))
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn rt::Sleep>>, deadline: std::time::Instant) {
        match sleep.as_mut().downcast_mut_pin::<RunTimer>() {
            Some(timer) => timer.get_mut().restart(until(deadline)),
            None => *sleep = self.sleep_until(deadline),
        }
    }

    fn now(&self) -> std::time::Instant {
        Instant::now().into_std()
    }
}

fn until(deadline: std::time::Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now().into_std())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn timer_fires_when_due() {
        for time in [
            Duration::ZERO,
            Duration::from_millis(3),
            TIMEOUT,
            Duration::from_secs(75),
        ] {
            let began = Instant::now();
            RunTimer::new(time).await;
            let took = began.elapsed();
            // The runtime's timers have a resolution of a millisecond.
            let rounded = Duration::from_millis(u64::from(2 * SLICES));
            assert!(took >= time && took <= time + rounded, "{time:?}: {took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn stall_does_not_count() {
        let mut timer = RunTimer::new(TIMEOUT);
        let began = Instant::now();
        // No poll for a minute, as after SIGSTOP.
        assert!(poll_now(&mut timer).await.is_pending());
        tokio::time::advance(Duration::from_mins(1)).await;
        assert!(poll_now(&mut timer).await.is_pending());
        timer.await;
        let ran = began.elapsed().saturating_sub(Duration::from_mins(1));
        assert!(ran + Duration::from_millis(1) >= TIMEOUT, "{ran:?}");
        assert!(ran < TIMEOUT + LATE, "{ran:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn work_received_during_stall_is_done() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let mut waiting = Box::pin(timeout(TIMEOUT, receiver));
        assert!(poll_now(&mut waiting).await.is_pending());
        tokio::time::advance(TIMEOUT * 3).await;
        sender.send(7).unwrap();
        assert_eq!(waiting.await, Ok(Ok(7)));
        let never = std::future::pending::<()>();
        assert_eq!(timeout(TIMEOUT, never).await, Err(Elapsed));
    }

    async fn poll_now<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
        std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx))).await
    }
}
