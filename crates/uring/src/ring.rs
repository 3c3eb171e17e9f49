//! The ring.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::types::Fd;
use io_uring::{IoUring, SubmissionQueue, opcode};

use super::Short;

/// How often the kernel may postpone one call before the ring is abandoned.
const FAILURES: u32 = 64;

/// A ring for the sends of one thread, or of several threads that take turns.
///
/// # Why this is sound
///
/// The kernel reads the bytes of a send only while [`Sends::send`] runs. It reads them inside
/// `io_uring_enter`, because a send with `MSG_DONTWAIT` is completed or refused there and never
/// kept for later (the flag sets `REQ_F_NOWAIT`). And `send` returns only when each send that was
/// queued has been answered; if it can't, because of an error or a panic, the ring is dropped
/// together with the entries that the kernel has not taken.
#[derive(Default)]
pub struct Sends {
    /// `None` once it has failed.
    ring: Option<IoUring>,
    most: usize,
}

impl Sends {
    /// A ring for `most` sends at a time, rounded up to a power of two.
    ///
    /// # Errors
    ///
    /// If the system has no `io_uring` or does not allow it, as many containers don't; or if it
    /// can't send with it.
    pub fn new(most: u16) -> io::Result<Self> {
        let ring = IoUring::new(u32::from(most.max(1)))?;
        let mut probe = io_uring::Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        if !probe.is_supported(opcode::Send::CODE) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let most = usize::try_from(ring.params().sq_entries()).unwrap_or(1);
        let ring = Some(ring);
        Ok(Sends { ring, most })
    }

    /// The most sends at once; 0 once the ring has failed.
    #[must_use]
    pub fn most(&self) -> usize {
        if self.ring.is_some() { self.most } else { 0 }
    }

    /// Submits the sends in this order, and reports every one that was not completed in full. Sends
    /// beyond [`Sends::most`], and those that a failing ring has not taken, are reported as
    /// `WouldBlock`. Returns the number of sends.
    pub fn send<'a>(
        &mut self,
        sends: impl Iterator<Item = (BorrowedFd<'a>, &'a [u8])>,
        mut short: impl FnMut(Short),
    ) -> usize {
        // After this point, entries without a result must not stay in the ring, whatever happens.
        let mut ring = self.ring.take();
        let (taken, count) = match &mut ring {
            Some(ring) => fill(&mut ring.submission(), self.most, sends),
            None => (0, sends.count()),
        };
        let mut answered = 0;
        let mut failures = 0;
        while let Some(whole) = &mut ring
            && answered < taken
        {
            let went = whole.submit_and_wait(taken - answered);
            for answer in whole.completion() {
                answered += 1;
                if let Some(reported) = read(answer.user_data(), answer.result()) {
                    short(reported);
                }
            }
            if let Err(error) = went {
                failures += 1;
                if failures > FAILURES || !may_go_on(&error) {
                    ring = None;
                }
            }
        }
        // Results are in order, so the sends without one are the last.
        let done = if ring.is_some() { taken } else { answered };
        for index in done..count {
            let sent = Err(io::ErrorKind::WouldBlock.into());
            short(Short { index, sent });
        }
        self.ring = ring;
        count
    }
}

/// Queues the sends; returns how many fit the ring, and how many there were.
fn fill<'a>(
    queue: &mut SubmissionQueue<'_>,
    most: usize,
    sends: impl Iterator<Item = (BorrowedFd<'a>, &'a [u8])>,
) -> (usize, usize) {
    let mut taken = 0;
    let mut count = 0;
    for (socket, bytes) in sends {
        // Once the ring is full, later sends must not overtake this one.
        if taken == count && taken < most && push(queue, taken, socket, bytes) {
            taken += 1;
        }
        count += 1;
    }
    (taken, count)
}

/// Queues one send; false if the ring is full.
fn push(
    queue: &mut SubmissionQueue<'_>,
    index: usize,
    socket: BorrowedFd<'_>,
    bytes: &[u8],
) -> bool {
    let (Ok(slot), Ok(len)) = (u32::try_from(index), u32::try_from(bytes.len())) else {
        return false;
    };
    let send = opcode::Send::new(Fd(socket.as_raw_fd()), bytes.as_ptr(), len)
        .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
        .build()
        .user_data(u64::from(slot) | u64::from(len) << 32);
    // SAFETY: the socket and the bytes are borrowed for longer than `Sends::send` runs, and the
    // kernel has finished with the entry before that returns (see there).
    #[expect(unsafe_code, reason = "the ring holds a bare pointer")]
    let pushed = unsafe { queue.push(&send) };
    pushed.is_ok()
}

/// The result of a send; `None` if it was completed in full.
fn read(which: u64, result: i32) -> Option<Short> {
    let index = usize::try_from(which & u64::from(u32::MAX)).ok()?;
    let sent = match u32::try_from(result) {
        Ok(sent) if u64::from(sent) == which >> 32 => return None,
        Ok(sent) => Ok(usize::try_from(sent).unwrap_or(0)),
        Err(_) => Err(io::Error::from_raw_os_error(-result)),
    };
    Some(Short { index, sent })
}

/// True for errors that another call resolves: a signal arrived, or results must be read first.
fn may_go_on(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)
    )
}

impl std::fmt::Debug for Sends {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sends").field("most", &self.most()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    type Failure = Box<dyn std::error::Error>;

    /// `None` if the system has no ring: then there is nothing to test.
    fn ring(most: u16) -> Option<Sends> {
        Sends::new(most).ok()
    }

    fn pairs(count: usize) -> Result<Vec<(TcpStream, TcpStream)>, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let pair = || {
            let near = TcpStream::connect(listener.local_addr()?)?;
            Ok((near, listener.accept()?.0))
        };
        (0..count).map(|_| pair()).collect()
    }

    fn all<'a>(sends: &mut Sends, each: &[(&'a TcpStream, &'a [u8])]) -> Vec<Short> {
        let mut reported = Vec::new();
        let list = each.iter().map(|(socket, bytes)| (socket.as_fd(), *bytes));
        sends.send(list, |short| reported.push(short));
        reported
    }

    #[test]
    fn sockets_get_their_bytes_in_order() -> Result<(), Failure> {
        let Some(mut sends) = ring(64) else {
            return Ok(());
        };
        let pairs = pairs(20)?;
        let texts: Vec<[u8; 2]> = (0..20).map(|n| [n, n + 100]).collect();
        for round in 0..3 {
            let first = pairs
                .iter()
                .zip(&texts)
                .map(|(pair, text)| (&pair.0, &text[..1]));
            let second = pairs
                .iter()
                .zip(&texts)
                .map(|(pair, text)| (&pair.0, &text[1..]));
            let each: Vec<_> = first.chain(second).collect();
            assert!(all(&mut sends, &each).is_empty(), "round {round}");
            for ((_, far), text) in pairs.iter().zip(&texts) {
                let mut got = [0; 2];
                (&*far).read_exact(&mut got)?;
                assert_eq!(got, *text, "round {round}");
            }
        }
        Ok(())
    }

    #[test]
    fn full_socket_is_reported_and_does_not_block() -> Result<(), Failure> {
        let Some(mut sends) = ring(8) else {
            return Ok(());
        };
        let pairs = pairs(2)?;
        let (Some((slow, _)), Some((quick, far))) = (pairs.first(), pairs.get(1)) else {
            return Err("two pairs".into());
        };
        let large = vec![7; 32 << 20];
        let reported = all(
            &mut sends,
            &[(slow, &large), (slow, b"later"), (quick, b"now")],
        );
        let mut reported = reported.into_iter();
        let first = reported.next().ok_or("the large one is reported")?;
        assert_eq!(first.index, 0);
        assert!(
            matches!(first.sent, Ok(some) if some > 0 && some < large.len()),
            "{first:?}"
        );
        let second = reported.next().ok_or("the one behind it is reported")?;
        assert_eq!(second.index, 1);
        let kind = second.sent.as_ref().map_err(io::Error::kind);
        assert!(matches!(kind, Err(io::ErrorKind::WouldBlock)), "{second:?}");
        assert!(reported.next().is_none(), "the other socket has got it");
        let mut got = [0; 3];
        (&*far).read_exact(&mut got)?;
        assert_eq!(&got, b"now");
        Ok(())
    }

    #[test]
    fn closed_socket_is_reported_without_signal() -> Result<(), Failure> {
        let Some(mut sends) = ring(8) else {
            return Ok(());
        };
        let pairs = pairs(1)?;
        let Some((near, far)) = pairs.first() else {
            return Err("a pair".into());
        };
        far.shutdown(std::net::Shutdown::Both)?;
        near.shutdown(std::net::Shutdown::Write)?;
        let reported = all(&mut sends, &[(near, b"too late")]);
        assert!(
            matches!(&*reported, [Short { index: 0, sent: Err(error) }]
            if error.kind() == io::ErrorKind::BrokenPipe),
            "{reported:?}"
        );
        Ok(())
    }

    #[test]
    fn excess_sends_are_reported_not_sent() -> Result<(), Failure> {
        let Some(mut sends) = ring(4) else {
            return Ok(());
        };
        assert_eq!(sends.most(), 4);
        let pairs = pairs(1)?;
        let Some((near, far)) = pairs.first() else {
            return Err("a pair".into());
        };
        let each: Vec<_> = [b"a", b"b", b"c", b"d", b"e", b"f"]
            .iter()
            .map(|text| (near, &text[..]))
            .collect();
        let reported = all(&mut sends, &each);
        let which: Vec<usize> = reported.iter().map(|short| short.index).collect();
        assert_eq!(which, [4, 5]);
        assert!(reported.iter().all(|short| short.sent.is_err()));
        near.shutdown(std::net::Shutdown::Write)?;
        let mut got = String::new();
        (&*far).read_to_string(&mut got)?;
        assert_eq!(got, "abcd");
        Ok(())
    }

    #[test]
    fn panic_midway_sends_nothing_later() -> Result<(), Failure> {
        let Some(mut sends) = ring(8) else {
            return Ok(());
        };
        let pairs = pairs(1)?;
        let Some((near, far)) = pairs.first() else {
            return Err("a pair".into());
        };
        let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let list = (0..2).map(|n| {
                assert!(n < 1, "midway");
                (near.as_fd(), &b"lost"[..])
            });
            sends.send(list, |_| {});
        }));
        assert!(unwound.is_err());
        assert_eq!(sends.most(), 0, "the ring has gone");
        assert_eq!(all(&mut sends, &[(near, b"neither")]).len(), 1);
        near.shutdown(std::net::Shutdown::Write)?;
        let mut got = String::new();
        (&*far).read_to_string(&mut got)?;
        assert_eq!(got, "");
        Ok(())
    }
}
