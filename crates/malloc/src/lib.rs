//! The server's allocator, and how it returns unused memory.
//!
//! mimalloc keeps freed pages for a moment, and checks them again only when their thread frees
//! another page: a thread that becomes idle keeps them forever. The same happens to a thread whose
//! memory other threads have freed, as shards free the events that publishers have allocated. A
//! thread that becomes idle therefore calls [`give_back`]; a thread that can't know whether it will
//! stay idle calls [`pausing`].

use std::cell::Cell;
use std::time::{Duration, Instant};

/// The allocator, chosen by measurements: see `docs/explanation/performance.md`.
pub use mimalloc::MiMalloc as Allocator;

/// The shortest time between two collections by a thread.
pub const PAUSE: Duration = Duration::from_millis(250);
/// The shortest time between two collections, as a multiple of the last collection's duration: with
/// much memory collections are rarer.
const SHARE: u32 = 1000;

thread_local! {
    /// When this thread last paused.
    static PAUSED: Cell<Option<Instant>> = const { Cell::new(None) };
    /// When this thread may collect again.
    static NEXT: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Returns free pages of this thread to the system, unless that was done within [`PAUSE`]. Visits
/// every page of the thread, some 16 for each megabyte, but uses no more than a thousandth of the
/// time.
pub fn give_back() {
    let start = Instant::now();
    if NEXT.get().is_none_or(|next| start >= next) {
        collect();
        let pause = PAUSE.max(start.elapsed().saturating_mul(SHARE));
        NEXT.set(start.checked_add(pause));
    }
}

/// For a thread that pauses often, and for long only when it is idle: does the same as
/// [`give_back`], but only if the thread has already paused within [`PAUSE`]. A busy thread is
/// therefore left alone, while a thread that wakes only now and then, for a timer for instance, is
/// not.
pub fn pausing() {
    let now = Instant::now();
    let last = PAUSED.replace(Some(now));
    if last.is_none_or(|last| now.duration_since(last) >= PAUSE) {
        give_back();
    }
}

#[expect(unsafe_code, reason = "mimalloc has no safe wrapper for it")]
fn collect() {
    // SAFETY: it has no preconditions. It visits memory that the calling thread and ended threads
    // have freed, and nothing that is in use; a thread that has allocated nothing with mimalloc has
    // nothing to visit.
    unsafe { libmimalloc_sys::mi_collect(true) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[global_allocator]
    static ALLOCATOR: Allocator = Allocator;

    /// Resident memory in bytes.
    #[cfg(target_os = "linux")]
    fn resident() -> usize {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: usize = text.split(' ').nth(1).unwrap().parse().unwrap();
        pages * 4096
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn memory_freed_elsewhere_is_returned() {
        let kept: Vec<Vec<u8>> = (0..100).map(|n| vec![n; 1000]).collect();
        let lent: Vec<Vec<u8>> = (0..40_000).map(|_| vec![1; 1000]).collect();
        let before = resident();
        std::thread::spawn(move || drop(lent)).join().unwrap();
        give_back();
        assert!(resident() + 20_000_000 < before);
        assert!(
            (0..)
                .zip(&kept)
                .all(|(n, bytes)| bytes.iter().all(|b| *b == n))
        );
    }
}
