//! The step budget of an evaluation.
//!
//! A step stands for a small amount of CPU time: one visit of a node, one element of a list, or 16
//! bytes of text. Every operation deducts its steps before it does its work. Hence, an evaluation
//! never does more work than its budget allows, whatever the expression and the data.

use std::cell::Cell;

use super::Stop;

/// How many bytes of text one step compares, searches or copies.
const BYTES_PER_STEP: usize = 16;

/// The steps that are left.
#[derive(Debug)]
pub struct Steps {
    left: Cell<u64>,
    taken: Cell<u64>,
}

impl Steps {
    /// A budget of this many steps.
    #[must_use]
    pub const fn new(most: u64) -> Self {
        Steps {
            left: Cell::new(most),
            taken: Cell::new(0),
        }
    }

    /// The number of steps taken.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken.get()
    }

    /// Deducts steps, or ends the evaluation if too few are left.
    pub(super) fn take(&self, steps: u64) -> Result<(), Stop> {
        let left = self.left.get();
        let Some(rest) = left.checked_sub(steps) else {
            self.taken.set(self.taken.get() + left);
            self.left.set(0);
            return Err(Stop::Steps);
        };
        self.left.set(rest);
        self.taken.set(self.taken.get() + steps);
        Ok(())
    }

    /// Deducts the steps for scanning this many bytes of text.
    pub(super) fn take_bytes(&self, bytes: usize) -> Result<(), Stop> {
        self.take_many(bytes / BYTES_PER_STEP + 1)
    }

    /// Deducts one step for each of this many elements.
    pub(super) fn take_many(&self, elements: usize) -> Result<(), Stop> {
        self.take(u64::try_from(elements).unwrap_or(u64::MAX))
    }
}
