//! What the loop and the thread that writes know in common: counters, and how the disk behaves.
//!
//! Nobody waits in here: the one lock is held for copying a sentence.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use super::WAITING_MAX;

#[derive(Clone, Default)]
pub(super) struct Shared(Arc<Inner>);

#[derive(Default)]
struct Inner {
    taken_in: AtomicU64,
    written: AtomicU64,
    lost: AtomicU64,
    waiting_bytes: AtomicUsize,
    /// Since when the thread waits for the disk, in nanoseconds since boot; 0 when it does not.
    busy_since: AtomicU64,
    reopen: AtomicBool,
    /// Why the latest attempt failed; none when it did not.
    error: Mutex<Option<String>>,
}

/// How the writing goes at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) waiting: u64,
    pub(super) lost: u64,
    pub(super) error: Option<String>,
    /// How long the disk has not answered.
    pub(super) busy: Duration,
}

impl Shared {
    /// Makes room for a record of so many bytes; without room it counts as lost.
    pub(super) fn take_in(&self, bytes: usize) -> bool {
        let inner = &self.0;
        // Nobody else adds.
        if inner.waiting_bytes.load(Relaxed) + bytes > WAITING_MAX {
            inner.lost.fetch_add(1, Relaxed);
            return false;
        }
        inner.waiting_bytes.fetch_add(bytes, Relaxed);
        inner.taken_in.fetch_add(1, Relaxed);
        true
    }

    pub(super) fn wrote(&self, records: u64, bytes: usize) {
        self.0.written.fetch_add(records, Relaxed);
        self.0.waiting_bytes.fetch_sub(bytes, Relaxed);
    }

    pub(super) fn written(&self) -> u64 {
        self.0.written.load(Relaxed)
    }

    pub(super) fn lost(&self) -> u64 {
        self.0.lost.load(Relaxed)
    }

    pub(super) fn waiting(&self) -> u64 {
        // Read first: what is written meanwhile was taken in before.
        let written = self.written();
        self.0.taken_in.load(Relaxed).saturating_sub(written)
    }

    /// The thread begins to wait for the disk.
    pub(super) fn begin(&self, now: Duration) {
        let nanoseconds = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        self.0.busy_since.store(nanoseconds.max(1), Relaxed);
    }

    /// The disk has answered.
    pub(super) fn end(&self) {
        self.0.busy_since.store(0, Relaxed);
    }

    /// Why the latest attempt to write failed, if it did.
    pub(super) fn failed(&self, error: Option<String>) {
        *self.0.error.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }

    pub(super) fn state(&self, now: Duration) -> State {
        let since = Duration::from_nanos(self.0.busy_since.load(Relaxed));
        let error = self.0.error.lock().unwrap_or_else(PoisonError::into_inner);
        State {
            waiting: self.waiting(),
            lost: self.lost(),
            error: error.clone(),
            busy: if since.is_zero() {
                Duration::ZERO
            } else {
                now.saturating_sub(since)
            },
        }
    }

    /// Returns false when that is wanted already.
    pub(super) fn want_reopening(&self) -> bool {
        !self.0.reopen.swap(true, Relaxed)
    }

    /// Whether the path is to be opened anew: told once.
    pub(super) fn is_reopening_wanted(&self) -> bool {
        self.0.reopen.swap(false, Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_records_are_dropped_and_counted_when_memory_is_full() {
        let shared = Shared::default();
        let taken = (0..5).filter(|_| shared.take_in(WAITING_MAX / 2)).count();
        assert_eq!((taken, shared.waiting(), shared.lost()), (2, 2, 3));
        shared.wrote(1, WAITING_MAX / 2);
        assert!(shared.take_in(WAITING_MAX / 2), "there is room again");
        assert_eq!((shared.written(), shared.waiting()), (1, 2));
    }

    #[test]
    fn waiting_for_the_disk_is_measured() {
        let shared = Shared::default();
        let second = Duration::from_secs;
        assert_eq!(shared.state(second(9)), State::default());
        shared.begin(second(3));
        assert_eq!(shared.state(second(9)).busy, second(6));
        shared.end();
        shared.failed(Some("no storage space".to_owned()));
        let state = shared.state(second(9));
        assert_eq!(
            (state.busy, state.error.as_deref()),
            (Duration::ZERO, Some("no storage space"))
        );
    }
}
