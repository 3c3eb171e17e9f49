//! What the parts that threads share are made of.
//!
//! Those parts name it from here, so that `tests/systematic` can compile the same files over
//! stand-ins that try every order in which threads can meet.

pub(super) use std::collections::hash_map::RandomState;
pub(super) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize};
pub(super) use std::sync::{Mutex, MutexGuard, OnceLock, RwLock, RwLockWriteGuard};

pub(super) use crossbeam_queue::SegQueue;
pub(super) use mio::Waker;
pub(super) use tokio::sync::Notify;
