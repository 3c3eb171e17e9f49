//! Answers that are valid for a while.

use std::sync::Arc;
use std::time::Instant;

use quick_cache::Weighter;
use quick_cache::sync::Cache as QuickCache;

use super::answer::Answer;
use super::question::Key;

/// The memory of an entry besides the answer's own content, in bytes, about.
const ENTRY: u64 = 256;

/// Answers by question, within a number of bytes.
pub(super) struct Cache(QuickCache<Key, Entry, Bytes>);

#[derive(Clone)]
struct Entry {
    answer: Arc<Answer>,
    ends: Instant,
}

#[derive(Clone)]
struct Bytes;

impl Weighter<Key, Entry> for Bytes {
    fn weight(&self, _: &Key, entry: &Entry) -> u64 {
        ENTRY + u64::try_from(entry.answer.bytes()).unwrap_or(u64::MAX / 2)
    }
}

impl Cache {
    /// An empty cache of this many bytes.
    pub(super) fn new(bytes: usize) -> Self {
        let weight = u64::try_from(bytes).unwrap_or(u64::MAX);
        let entries = bytes / usize::try_from(ENTRY).unwrap_or(1).saturating_mul(4);
        Cache(QuickCache::with_weighter(entries.max(1), weight, Bytes))
    }

    /// The answer to an equal question, if it is still valid.
    pub(super) fn get(&self, key: &Key) -> Option<Arc<Answer>> {
        let entry = self.0.get(key)?;
        if Instant::now() < entry.ends {
            return Some(entry.answer);
        }
        self.0.remove(key);
        None
    }

    /// Keeps an answer for as long as it says.
    pub(super) fn put(&self, key: Key, answer: &Arc<Answer>) {
        let time = answer.cache_time();
        if time.is_zero() {
            return;
        }
        let answer = Arc::clone(answer);
        let ends = Instant::now() + time;
        self.0.insert(key, Entry { answer, ends });
    }
}
