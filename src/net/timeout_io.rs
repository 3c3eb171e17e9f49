//! An IO wrapper with timeouts for peers that send or read too slowly.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::clock::RunTimer;
use crate::telemetry::Metrics;

/// HTTP/2's connection preface (RFC 9113 §3.4). Fewer bytes do not identify the version of HTTP.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The timeout for a peer that reads too little.
pub const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// How much a peer must read within the timeout, in bytes, once the kernel's buffers are full.
const MIN_READ: usize = 16 * 1024;

/// Both timeouts count only time in which the server ran: see [`RunTimer`].
///
/// Fails if a request head does not arrive in time, or if the peer does not read what is written.
/// HTTP itself would wait indefinitely for a client that does not read the response.
pub struct TimeoutIo<S> {
    socket: S,
    heads: Option<Heads>,
    stalled: Option<Stalled>,
    metrics: Arc<Metrics>,
}

/// The state while the peer reads less than there is to write.
struct Stalled {
    until: RunTimer,
    /// How much it has read since, in bytes.
    taken: usize,
}

impl<S> TimeoutIo<S> {
    /// Wraps a socket whose peer must read at least 16 KiB in 30 s while more waits to be written.
    /// A peer that does not is counted as `unread_answers`.
    pub fn new(socket: S, metrics: &Arc<Metrics>) -> Self {
        TimeoutIo {
            socket,
            heads: None,
            stalled: None,
            metrics: Arc::clone(metrics),
        }
    }

    /// Also limits the time of each request head, from its first byte on. The first head, or the
    /// preface of HTTP/2, must arrive within `first` from now on. The time between two requests is
    /// not limited here. Must be called within a runtime.
    #[must_use]
    pub fn with_head_timeout(
        mut self,
        activity: &Arc<Activity>,
        first: Duration,
        head_timeout: Duration,
    ) -> Self {
        self.heads = Some(Heads {
            activity: Arc::clone(activity),
            head_timeout,
            preface: Some(0),
            deadline: Some((0, RunTimer::new(first))),
        });
        self
    }

    /// The socket.
    pub fn into_inner(self) -> S {
        self.socket
    }

    /// Starts the timeout while written bytes are not accepted.
    fn written(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(bytes)) => {
                if let Some(stalled) = &mut self.stalled {
                    stalled.taken += bytes;
                    if stalled.taken >= MIN_READ {
                        self.stalled = None;
                    }
                }
                written
            }
            Poll::Ready(Err(_)) => written,
            Poll::Pending => self.wait(cx).map(Err),
        }
    }

    /// Ready with an error once the timeout has elapsed.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let stalled = self.stalled.get_or_insert_with(|| Stalled {
            until: RunTimer::new(READ_TIMEOUT),
            taken: 0,
        });
        ready!(Pin::new(&mut stalled.until).poll(cx));
        self.metrics.limit_reached("unread_answers");
        self.stalled = None;
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }
}

/// The requests in progress on a connection. Shared by its socket and its request handlers.
#[derive(Debug)]
pub struct Activity {
    /// The number of requests begun.
    begun: AtomicUsize,
    /// The number of requests in progress.
    open: AtomicUsize,
    /// A request head has arrived in part.
    in_head: AtomicBool,
    /// A request on it was authenticated.
    proven: AtomicBool,
    /// When the last request ended, or the connection began.
    idle_since: Mutex<Instant>,
}

impl Default for Activity {
    fn default() -> Self {
        Activity {
            begun: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            in_head: AtomicBool::new(false),
            proven: AtomicBool::new(false),
            idle_since: Mutex::new(Instant::now()),
        }
    }
}

impl Activity {
    /// A request begins.
    pub fn begin(&self) {
        self.open.fetch_add(1, Ordering::AcqRel);
        self.in_head.store(false, Ordering::Release);
        self.begun.fetch_add(1, Ordering::AcqRel);
    }

    /// The first bytes of a head have arrived, or a head was discarded. A connection is not idle
    /// while a head arrives, which has its own timeout.
    fn set_in_head(&self, in_head: bool) {
        self.in_head.store(in_head, Ordering::Release);
    }

    /// A request ends: its response was sent, or its client is gone.
    pub fn end(&self) {
        *self.idle_since() = Instant::now();
        self.open.fetch_sub(1, Ordering::AcqRel);
    }

    /// A request on it was authenticated, or its certificate was.
    pub fn prove(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }

    /// Whether a request on it was ever authenticated.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }

    /// The number of requests begun.
    #[must_use]
    pub fn begun(&self) -> usize {
        self.begun.load(Ordering::Acquire)
    }

    /// Since when no request has been in progress. `None` while one is, or while its head arrives.
    #[must_use]
    pub fn since_idle(&self) -> Option<Instant> {
        let busy = self.open.load(Ordering::Acquire) > 0 || self.in_head.load(Ordering::Acquire);
        (!busy).then(|| *self.idle_since())
    }

    fn idle_since(&self) -> std::sync::MutexGuard<'_, Instant> {
        self.idle_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Limits the time of request heads.
struct Heads {
    activity: Arc<Activity>,
    head_timeout: Duration,
    /// How much of the preface of HTTP/2 has arrived. `None` if something else did.
    preface: Option<usize>,
    /// The deadline of the head that is arriving, and the number of requests begun before it.
    deadline: Option<(usize, RunTimer)>,
}

impl Heads {
    fn on_read(&mut self, new: &[u8]) {
        if let Some(received) = self.preface {
            let expected = PREFACE.get(received..).unwrap_or_default();
            let compared = new.len().min(expected.len());
            let same = expected.get(..compared) == new.get(..compared);
            self.preface = same.then_some(received + compared);
        }
        if self.preface == Some(PREFACE.len()) {
            // HTTP/2 frames do not show where a head begins, and HTTP/2 has keep-alive of its own.
            self.deadline = None;
            self.activity.set_in_head(false);
            return;
        }
        let begun = self.activity.begun();
        if self
            .deadline
            .as_ref()
            .is_some_and(|(before, _)| *before != begun)
        {
            self.deadline = None;
        }
        let waits = self.activity.since_idle().is_some();
        if waits && !new.is_empty() {
            self.activity.set_in_head(true);
            if self.deadline.is_none() {
                self.deadline = Some((begun, RunTimer::new(self.head_timeout)));
            }
        }
    }

    fn have_timed_out(&mut self, cx: &mut Context<'_>) -> bool {
        let deadline = self.deadline.as_mut();
        deadline.is_some_and(|(_, deadline)| Pin::new(deadline).poll(cx).is_ready())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimeoutIo<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.socket).poll_read(cx, buffer);
        if let Some(heads) = &mut this.heads {
            heads.on_read(buffer.filled().get(before..).unwrap_or_default());
            if read.is_pending() && heads.have_timed_out(cx) {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimeoutIo<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.socket).poll_write(cx, bytes);
        this.written(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.socket).poll_write_vectored(cx, slices);
        this.written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Poll::Ready(flushed) = Pin::new(&mut this.socket).poll_flush(cx) else {
            return this.wait(cx).map(Err);
        };
        // All written bytes were accepted: the next write starts a new timeout.
        this.stalled = None;
        Poll::Ready(flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Poll::Ready(over) = Pin::new(&mut this.socket).poll_shutdown(cx) else {
            return this.wait(cx).map(Err);
        };
        Poll::Ready(over)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::Instant;

    use super::*;

    const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

    fn timeout_io<S>(socket: S) -> (TimeoutIo<S>, Arc<Metrics>) {
        let metrics = Metrics::new("test");
        (TimeoutIo::new(socket, &metrics), metrics)
    }

    fn unread(metrics: &Arc<Metrics>) -> bool {
        let text = metrics.text(crate::telemetry::TextFormat::Prometheus);
        text.contains("tidings_limit_reached_total{limit=\"unread_answers\"} 1")
    }

    #[tokio::test(start_paused = true)]
    async fn incomplete_head_times_out() {
        for sent in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n"] {
            let (mut client, server) = tokio::io::duplex(64);
            client.write_all(sent).await.unwrap();
            let mut server =
                timeout_io(server)
                    .0
                    .with_head_timeout(&Arc::default(), HEAD_TIMEOUT, HEAD_TIMEOUT);
            let mut received = vec![0; sent.len()];
            server.read_exact(&mut received).await.unwrap();
            let error = server.read_u8().await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn http2_connection_has_no_head_timeout() {
        let (mut client, server) = tokio::io::duplex(64);
        let mut server =
            timeout_io(server)
                .0
                .with_head_timeout(&Arc::default(), HEAD_TIMEOUT, HEAD_TIMEOUT);
        client.write_all(PREFACE).await.unwrap();
        server.read_exact(&mut [0; PREFACE.len()]).await.unwrap();
        let later = async {
            tokio::time::sleep(HEAD_TIMEOUT * 3).await;
            client.write_all(&[2]).await.unwrap();
        };
        let (byte, ()) = tokio::join!(server.read_u8(), later);
        assert_eq!(byte.unwrap(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn head_timeout_excludes_idle_time() {
        let (mut client, server) = tokio::io::duplex(64);
        let activity = Arc::<Activity>::default();
        let mut server =
            timeout_io(server)
                .0
                .with_head_timeout(&activity, HEAD_TIMEOUT, HEAD_TIMEOUT);
        for _ in 0..3 {
            client.write_all(b"GET").await.unwrap();
            server.read_exact(&mut [0; 3]).await.unwrap();
            // The head is complete. The response and the next request both take a while.
            activity.begin();
            let next = async {
                tokio::time::sleep(HEAD_TIMEOUT * 3).await;
                activity.end();
                tokio::time::sleep(HEAD_TIMEOUT * 3).await;
                client.write_all(b"G").await.unwrap();
            };
            let (byte, ()) = tokio::join!(server.read_u8(), next);
            assert_eq!(byte.unwrap(), b'G');
        }
        let began = Instant::now();
        let error = server.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(
            began.elapsed(),
            HEAD_TIMEOUT,
            "from the head's first byte on"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn reader_that_stops_times_out() {
        let (_client, server) = tokio::io::duplex(64);
        let (mut server, metrics) = timeout_io(server);
        let error = server.write_all(&[0; 65]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(unread(&metrics));
    }

    #[tokio::test(start_paused = true)]
    async fn reader_that_trickles_times_out() {
        let (mut client, server) = tokio::io::duplex(64);
        let (mut server, metrics) = timeout_io(server);
        let began = Instant::now();
        let drip = async {
            loop {
                client.read_u8().await.unwrap();
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let error = tokio::select! {
            over = server.write_all(&[0; 4096]) => over.unwrap_err(),
            () = drip => unreachable!("it drips for ever"),
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), READ_TIMEOUT.as_secs());
        assert!(unread(&metrics));
    }

    #[tokio::test(start_paused = true)]
    async fn slow_but_steady_reader_gets_everything() {
        const PIECE: usize = 1024;
        let (mut client, server) = tokio::io::duplex(PIECE);
        let (mut server, metrics) = timeout_io(server);
        let all = vec![0; PIECE * 200];
        let reading = async {
            let mut piece = [0; PIECE];
            for _ in 0..200 {
                client.read_exact(&mut piece).await.unwrap();
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let (written, ()) = tokio::join!(server.write_all(&all), reading);
        written.unwrap();
        assert!(!unread(&metrics));
    }

    #[tokio::test(start_paused = true)]
    async fn pause_between_responses_resets_timeout() {
        let (mut client, server) = tokio::io::duplex(64);
        let (mut server, _) = timeout_io(server);
        for _ in 0..5 {
            let reading = async {
                tokio::time::sleep(READ_TIMEOUT * 2 / 3).await;
                client.read_exact(&mut [0; 65]).await.unwrap();
            };
            let writing = async {
                server.write_all(&[0; 65]).await.unwrap();
                server.flush().await.unwrap();
            };
            tokio::join!(writing, reading);
        }
    }
}
