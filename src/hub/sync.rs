//! The synchronisation primitives of the parts that threads share.
//!
//! Those parts import them from here, so that `tests/systematic` can compile the same files with
//! loom's types, which explore thread interleavings.

pub(super) use std::collections::hash_map::RandomState;
pub(super) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize};
pub(super) use std::sync::{Mutex, MutexGuard, OnceLock, RwLock, RwLockWriteGuard};

pub(super) use crossbeam_queue::SegQueue;
pub(super) use mio::Waker;
pub(super) use tokio::sync::Notify;
