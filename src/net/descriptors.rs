//! File descriptors: as many as the configured limits need, with some reserved.

use std::os::fd::{AsRawFd, RawFd};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that the process opens besides sockets: the store, logs, certificates, the shards'
/// own.
const OTHERS: u64 = 256;
/// Descriptors reserved for probes and files, if the limit allows.
const KEPT: u64 = 64;

/// The limit on open file descriptors of the process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Descriptors {
    limit: u64,
}

impl Descriptors {
    /// Raises the soft limit to the hard limit (`RLIMIT_NOFILE`), and warns if that is too little
    /// for this many sockets.
    pub(crate) fn raise(sockets: usize) -> Self {
        let before = getrlimit(Resource::Nofile);
        let wanted = Rlimit {
            current: before.maximum,
            maximum: before.maximum,
        };
        if before.current != before.maximum
            && let Err(error) = setrlimit(Resource::Nofile, wanted)
        {
            tracing::warn!(%error, "the limit of file descriptors could not be raised");
        }
        // `None` means unlimited.
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let needed = needed(sockets);
        if limit < needed {
            tracing::warn!(
                limit,
                needed,
                "too few file descriptors for limits.connections and internal.connections: \
                 raise the hard limit (ulimit -Hn, LimitNOFILE= of systemd), or lower the keys; \
                 connections beyond it are refused"
            );
        }
        Descriptors { limit }
    }

    /// Whether a socket has one of the last descriptors. The kernel allocates the lowest free
    /// number, so all below it are in use.
    pub(crate) fn is_last(self, socket: &impl AsRawFd) -> bool {
        self.is_kept(socket.as_raw_fd())
    }

    fn is_kept(self, descriptor: RawFd) -> bool {
        let kept = KEPT.min(self.limit / 4);
        u64::try_from(descriptor).is_ok_and(|number| number >= self.limit.saturating_sub(kept))
    }
}

/// The number of descriptors that this many sockets and everything else may use.
pub(crate) fn needed(sockets: usize) -> u64 {
    u64::try_from(sockets)
        .unwrap_or(u64::MAX)
        .saturating_add(OTHERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_descriptors_are_reserved() {
        let many = Descriptors { limit: 1024 };
        assert!(!many.is_kept(959) && many.is_kept(960));
        let few = Descriptors { limit: 40 };
        assert!(!few.is_kept(29) && few.is_kept(30));
        let boundless = Descriptors { limit: u64::MAX };
        assert!(!boundless.is_kept(RawFd::MAX));
    }

    #[test]
    fn needed_descriptors_never_overflow() {
        assert_eq!(needed(1_624), 1_624 + 256);
        assert_eq!(needed(usize::MAX), u64::MAX);
    }
}
