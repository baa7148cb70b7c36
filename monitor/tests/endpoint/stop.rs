//! Ends what runs beside a test, however the test ends.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Sets what the threads of a scope look at. An assertion that fails before would leave them at work, and the scope
/// waiting for them without end.
pub(crate) struct StopWhenDropped<'a>(pub(crate) &'a AtomicBool);

impl Drop for StopWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}
