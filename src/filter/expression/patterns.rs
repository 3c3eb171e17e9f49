//! The regular expressions of `matches`: small, shared, and linear in their subject.
//!
//! They run on the NFA directly (a Pike VM). The engines of the `regex` crate are faster on long
//! texts, but each keeps caches of hundreds of kilobytes per pattern and thread. This one only
//! needs the compiled states and, while it runs, one list of them per thread.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use regex_automata::nfa::thompson::pikevm::{Cache, PikeVM};
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::util::syntax;

use super::{Error, Result};

/// The longest pattern, in bytes.
const MAX_LEN: usize = 256;
/// The most memory for a compiled pattern, in bytes.
const MAX_SIZE: usize = 64 * 1024;
/// The deepest nesting of groups, classes and repetitions.
const MAX_NEST: u32 = 16;
/// How many states of the automaton one step visits.
const STATES_PER_STEP: usize = 8;

/// A compiled regular expression.
#[derive(Debug)]
pub(super) struct Pattern {
    source: Box<str>,
    engine: PikeVM,
    bytes: usize,
}

/// The patterns in use. Equal ones are held once.
static IN_USE: LazyLock<Mutex<HashMap<Box<str>, Weak<Pattern>>>> = LazyLock::new(Mutex::default);

thread_local! {
    /// The working memory of a search. It is as large as the largest pattern needs.
    static SCRATCH: RefCell<Option<Cache>> = const { RefCell::new(None) };
}

impl Pattern {
    /// The pattern, compiled unless it is in use already.
    ///
    /// # Errors
    /// `invalid_argument`: too long, too large when compiled, or not a regular expression.
    pub(super) fn get(source: &str) -> Result<Arc<Pattern>> {
        if let Some(known) = in_use().get(source).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let made = Arc::new(Pattern::compile(source)?);
        in_use().insert(made.source.clone(), Arc::downgrade(&made));
        Ok(made)
    }

    fn compile(source: &str) -> Result<Pattern> {
        if source.len() > MAX_LEN {
            let text = "expected a regular expression of at most 256 bytes";
            return Err(Error::invalid(text));
        }
        let config = thompson::Config::new()
            .nfa_size_limit(Some(MAX_SIZE))
            .which_captures(WhichCaptures::None);
        let engine = PikeVM::builder()
            .syntax(syntax::Config::new().nest_limit(MAX_NEST))
            .thompson(config)
            .build(source)
            .map_err(|error| {
                Error::invalid(if error.size_limit().is_some() {
                    "the regular expression is too large when compiled"
                } else {
                    "not a valid regular expression"
                })
            })?;
        let bytes = size_of::<Pattern>() + 2 * source.len() + engine.get_nfa().memory_usage();
        Ok(Pattern {
            source: source.into(),
            engine,
            bytes,
        })
    }

    /// The memory that it holds, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The steps for searching a text of this many bytes.
    pub(super) fn cost(&self, len: usize) -> u64 {
        let states = self.engine.get_nfa().states().len();
        let per_byte = 1 + states / STATES_PER_STEP;
        // Besides the text, the list of states is initialized.
        let steps = len.saturating_add(2).saturating_mul(per_byte);
        u64::try_from(steps).unwrap_or(u64::MAX)
    }

    /// True if it matches anywhere in the text.
    pub(super) fn is_match(&self, text: &str) -> bool {
        SCRATCH.with_borrow_mut(|scratch| {
            let cache = scratch.get_or_insert_with(|| self.engine.create_cache());
            cache.reset(&self.engine);
            self.engine.is_match(cache, text)
        })
    }
}

impl Drop for Pattern {
    fn drop(&mut self) {
        let mut known = in_use();
        // Another thread may have inserted an equal one meanwhile.
        if known
            .get(&self.source)
            .is_some_and(|it| it.strong_count() == 0)
        {
            known.remove(&self.source);
        }
    }
}

fn in_use() -> MutexGuard<'static, HashMap<Box<str>, Weak<Pattern>>> {
    IN_USE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_patterns_are_shared_and_released() {
        let source = r"^held-once-\d+$";
        let (one, two) = (Pattern::get(source).unwrap(), Pattern::get(source).unwrap());
        assert!(Arc::ptr_eq(&one, &two));
        drop((one, two));
        assert!(!in_use().contains_key(source));
    }

    #[test]
    fn pattern_size_is_limited() {
        for source in [
            r"(\w{1,99}){1,99}",
            r"((((a{9}){9}){9}){9}){9}",
            r"\pL{100}",
            &"(".repeat(20),
            &format!("{}a{}", "(".repeat(20), ")".repeat(20)),
            &"x".repeat(257),
        ] {
            assert!(Pattern::get(source).is_err(), "{source}");
        }
    }

    #[test]
    fn pattern_cost_follows_its_size() {
        let sizes = [r"^ed", r"^[a-z]+-\d{3}$", r"\pL{2}", r"\w+@\w+"].map(|source| {
            let pattern = Pattern::get(source).unwrap();
            assert!(pattern.bytes() < MAX_SIZE + 1024);
            (pattern.bytes(), pattern.cost(20))
        });
        assert!(sizes.is_sorted_by_key(|(bytes, _)| *bytes), "{sizes:?}");
    }
}
