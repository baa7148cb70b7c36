//! What ended with a server in the last five minutes.
//!
//! In: each ended connection that has an outcome. Out: how many, how many of them slow, and how long the
//! slow ones made their peers wait. Counting costs the same however many there were.

use std::{collections::VecDeque, time::Duration};

/// How far back it looks.
pub(crate) const WINDOW: Duration = Duration::from_secs(300);
/// It moves in steps of this.
const SLOT: Duration = Duration::from_secs(10);
/// How many of the latest slow waits are kept, for their percentiles.
const WAITS_MAX: usize = 100;

#[derive(Default)]
pub(super) struct Window {
    slots: VecDeque<Slot>,
    /// The sum of the slots.
    total: Counts,
    /// The waits of the latest slow closes, and when they ended.
    waits: VecDeque<(Duration, Duration)>,
}

/// Connections that ended with an outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) ended: u64,
    /// Slow closes among them.
    pub(super) slow: u64,
}

struct Slot {
    began: Duration,
    counts: Counts,
}

/// How long slow closes took: the wait from the latest Close frame to the first end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waits {
    pub(crate) p50: Option<Duration>,
    pub(crate) p99: Option<Duration>,
    pub(crate) longest: Option<Duration>,
}

impl Window {
    /// A connection ended; `slow` with the wait if it was a slow close.
    pub(super) fn ended(&mut self, slow: bool, waited: Option<Duration>, now: Duration) {
        self.forget(now);
        let is_new = |slot: &Slot| now.saturating_sub(slot.began) >= SLOT;
        if self.slots.back().is_none_or(is_new) {
            let counts = Counts::default();
            self.slots.push_back(Slot { began: now, counts });
        }
        let last = self.slots.back_mut().map(|slot| &mut slot.counts);
        for counts in last.into_iter().chain([&mut self.total]) {
            counts.ended += 1;
            counts.slow += u64::from(slow);
        }
        if let Some(waited) = waited.filter(|_| slow) {
            self.waits.push_back((now, waited));
        }
        if self.waits.len() > WAITS_MAX {
            self.waits.pop_front();
        }
    }

    pub(super) fn counts(&mut self, now: Duration) -> Counts {
        self.forget(now);
        self.total
    }

    /// Of the latest hundred slow closes.
    pub(super) fn waits(&self) -> Waits {
        let mut waits: Vec<Duration> = self.waits.iter().map(|(_, waited)| *waited).collect();
        waits.sort_unstable();
        // The nearest rank: a wait that was, and none in between.
        let percentile = |hundredths: usize| {
            let rank = (waits.len() * hundredths).div_ceil(100);
            waits.get(rank.checked_sub(1)?).copied()
        };
        Waits {
            p50: percentile(50),
            p99: percentile(99),
            longest: waits.last().copied(),
        }
    }

    fn forget(&mut self, now: Duration) {
        let old = |at: Duration| now.saturating_sub(at) >= WINDOW;
        while let Some(slot) = self.slots.pop_front_if(|slot| old(slot.began)) {
            self.total.ended -= slot.counts.ended;
            self.total.slow -= slot.counts.slow;
        }
        while self.waits.pop_front_if(|(at, _)| old(*at)).is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_waits_that_were() {
        let mut window = Window::default();
        assert_eq!(window.waits(), Waits::default());
        for ms in 1..=200 {
            window.ended(true, Some(Duration::from_millis(ms)), Duration::ZERO);
        }
        let ms = |ms| Some(Duration::from_millis(ms));
        let (p50, p99, longest) = (ms(150), ms(199), ms(200));
        assert_eq!(
            window.waits(),
            Waits { p50, p99, longest },
            "of the latest hundred"
        );
    }

    #[test]
    fn what_is_older_than_the_window_is_gone() {
        let mut window = Window::default();
        let secs = Duration::from_secs;
        window.ended(true, Some(secs(2)), secs(0));
        window.ended(false, None, secs(20));
        let counts = |ended, slow| Counts { ended, slow };
        assert_eq!(window.counts(secs(299)), counts(2, 1));
        assert_eq!(window.counts(secs(300)), counts(1, 0));
        assert_eq!(window.waits(), Waits::default());
        assert_eq!(window.counts(secs(320)), counts(0, 0));
    }
}
