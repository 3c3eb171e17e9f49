//! The store of compiled filter expressions. Equal expressions are compiled and held once, within a
//! memory limit for all of them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::{FilterLimits, event_filter};
use crate::error::{Code, Error, Result};
use crate::filter::expression::Expression;

/// A compiled expression, shared by all filters with the same source.
#[derive(Debug)]
pub struct Condition {
    expression: Expression,
    reads_data: bool,
    serial: u64,
    /// The store whose memory it counts towards.
    store: Option<Arc<FilterStore>>,
}

/// The expressions in use.
#[derive(Debug, Default)]
pub struct FilterStore {
    known: Mutex<HashMap<Arc<str>, Weak<Condition>>>,
    bytes: AtomicUsize,
}

/// Identifies the compiled expression. Compiling the source again gives another id.
static SERIALS: AtomicU64 = AtomicU64::new(1);

impl Condition {
    fn new(expression: Expression, store: Option<Arc<FilterStore>>) -> Self {
        Condition {
            reads_data: expression.uses("data") || expression.uses("event"),
            expression,
            serial: SERIALS.fetch_add(1, Ordering::Relaxed),
            store,
        }
    }

    /// A condition that counts towards no limit.
    pub(crate) fn unbounded(expression: Expression) -> Self {
        Self::new(expression, None)
    }

    /// The expression.
    #[must_use]
    pub fn expression(&self) -> &Expression {
        &self.expression
    }

    /// True if it reads the event's data, which must then be parsed.
    #[must_use]
    pub fn reads_data(&self) -> bool {
        self.reads_data
    }

    /// The memory that it holds, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.expression.bytes()
    }

    /// Identifies this compiled expression.
    pub(crate) fn serial(&self) -> u64 {
        self.serial
    }
}

impl Drop for Condition {
    fn drop(&mut self) {
        let Some(store) = &self.store else {
            return;
        };
        store.bytes.fetch_sub(self.bytes(), Ordering::Relaxed);
        let source = self.expression.source();
        let mut known = store.lock();
        // Another thread may have inserted an equal one meanwhile.
        if known.get(source).is_some_and(|it| it.strong_count() == 0) {
            known.remove(source);
        }
    }
}

impl FilterStore {
    /// The condition with this source, if it is in use.
    #[must_use]
    pub fn find(&self, source: &str) -> Option<Arc<Condition>> {
        self.lock().get(source).and_then(Weak::upgrade)
    }

    /// Compiles a condition. This may take a few milliseconds, so a shard's thread must not call
    /// it.
    ///
    /// # Errors
    /// `invalid_argument` for the field `filter`. `resource_exhausted` if it is too large
    /// (`limits.filter_bytes`), or if all conditions together are (`limits.filter_memory`).
    pub fn compile(
        self: &Arc<Self>,
        source: &str,
        limits: &FilterLimits,
    ) -> Result<Arc<Condition>, Refusal> {
        if let Some(known) = self.find(source) {
            return Ok(known);
        }
        let too_large = || {
            let most = limits.bytes;
            let text = format!(
                "the filter takes more than {most} bytes when compiled (limits.filter_bytes)"
            );
            Refusal::full("filter_bytes", text)
        };
        let expression = event_filter::compile(source, limits.bytes).map_err(|error| {
            if error.code() == Code::ResourceExhausted {
                return too_large();
            }
            Refusal::from(error)
        })?;
        let bytes = expression.bytes();
        if bytes > limits.bytes {
            return Err(too_large());
        }
        let fits = |held: usize| {
            held.checked_add(bytes)
                .filter(|held| *held <= limits.memory)
        };
        let taken = self
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        if taken.is_err() {
            let text = "the filters of all clients take too much memory (limits.filter_memory)";
            return Err(Refusal::full("filter_memory", text));
        }
        let made = Arc::new(Condition::new(expression, Some(Arc::clone(self))));
        let source = Arc::clone(made.expression.source());
        self.lock().insert(source, Arc::downgrade(&made));
        Ok(made)
    }

    /// The memory of all conditions, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Weak<Condition>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a condition was not compiled.
#[derive(Debug)]
pub struct Refusal {
    /// The limit that was reached, as a label of `tidings_limit_reached_total`.
    pub limit: Option<&'static str>,
    /// The error for the client.
    pub error: Error,
}

impl Refusal {
    fn full(limit: &'static str, text: impl Into<String>) -> Self {
        Refusal {
            limit: Some(limit),
            error: Error::exhausted(text.into()),
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal { limit: None, error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(bytes: usize, memory: usize) -> FilterLimits {
        FilterLimits {
            bytes,
            memory,
            ..FilterLimits::sample()
        }
    }

    #[test]
    fn equal_conditions_are_shared_and_released() {
        let store = Arc::new(FilterStore::default());
        let limits = FilterLimits::sample();
        let one = store.compile("data.a == 1", &limits).unwrap();
        let two = store.compile("data.a == 1", &limits).unwrap();
        assert!(Arc::ptr_eq(&one, &two));
        assert_eq!(store.bytes(), one.bytes());
        drop((one, two));
        assert_eq!(store.bytes(), 0);
        assert!(store.find("data.a == 1").is_none());
    }

    #[test]
    fn oversized_condition_names_the_limit() {
        let store = Arc::new(FilterStore::default());
        let refusal = store
            .compile(r"data.a.matches('\\w\\w')", &limits(2048, 1 << 20))
            .unwrap_err();
        assert_eq!(refusal.limit, Some("filter_bytes"));
        assert!(refusal.error.message().contains("limits.filter_bytes"));
        assert_eq!(store.bytes(), 0);
    }

    #[test]
    fn total_condition_memory_is_limited() {
        let store = Arc::new(FilterStore::default());
        let limits = limits(64 << 10, 256 << 10);
        let mut held = Vec::new();
        let refusal = loop {
            let source = format!(r"data.a.matches('^\\w{}$')", held.len());
            match store.compile(&source, &limits) {
                Ok(made) => held.push(made),
                Err(refusal) => break refusal,
            }
        };
        assert_eq!(refusal.limit, Some("filter_memory"));
        assert!(refusal.error.message().contains("limits.filter_memory"));
        assert!(store.bytes() <= limits.memory && held.len() > 4);
        // A known condition takes no more memory.
        let known = Arc::clone(held[0].expression().source());
        assert!(store.compile(&known, &limits).is_ok());
    }
}
