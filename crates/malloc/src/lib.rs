//! The server's allocator, and how it gives back what nobody needs.
//!
//! mimalloc keeps freed pages for a moment, and looks at them again only when its thread frees
//! another one: a thread that has come to rest keeps them for good. So does a thread whose memory
//! others have freed, as shards free the events that publishers have made. Whoever comes to rest
//! therefore calls [`give_back`]; who can't tell whether it will stay at rest, [`pausing`].

use std::cell::Cell;
use std::time::{Duration, Instant};

/// The allocator: chosen by measuring, see `docs/explanation/performance.md`.
pub use mimalloc::MiMalloc as Allocator;

/// How long a thread leaves its memory alone, at least, after it has looked through it.
pub const PAUSE: Duration = Duration::from_millis(250);
/// The same, in times that looking took: with much memory it is looked through more rarely.
const SHARE: u32 = 1000;

thread_local! {
    /// When this thread last paused.
    static PAUSED: Cell<Option<Instant>> = const { Cell::new(None) };
    /// When this thread may look again.
    static NEXT: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Gives free pages of this thread back to the system, unless that was done within [`PAUSE`].
/// Looks at every page of the thread's, some 16 for each megabyte, but for no more than a
/// thousandth of the time.
pub fn give_back() {
    let start = Instant::now();
    if NEXT.get().is_none_or(|next| start >= next) {
        collect();
        let pause = PAUSE.max(start.elapsed().saturating_mul(SHARE));
        NEXT.set(start.checked_add(pause));
    }
}

/// For a thread that pauses often, and for long only when there is nothing to do: does what
/// [`give_back`] does, but where the thread has paused within [`PAUSE`] already. So a busy thread
/// is left alone, and one that is woken now and then, by a clock for instance, is not.
pub fn pausing() {
    let now = Instant::now();
    let last = PAUSED.replace(Some(now));
    if last.is_none_or(|last| now.duration_since(last) >= PAUSE) {
        give_back();
    }
}

#[expect(unsafe_code, reason = "mimalloc has no safe wrapper for it")]
fn collect() {
    // SAFETY: it has no preconditions. It looks at what the calling thread and threads that have
    // ended have freed, and at nothing that is in use; a thread that has allocated nothing by
    // mimalloc has nothing to be looked at.
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
    fn what_another_thread_has_freed_goes_back_and_what_is_in_use_stays() {
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
