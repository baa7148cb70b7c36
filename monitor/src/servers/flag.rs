//! Whether a server is flagged as slow. It takes more to be rid of the flag than not to get it, or a
//! server near the bound would flutter.
//!
//! Raised while a connection hangs, or when at least [`ENDED_MIN`] connections ended within the window and
//! a tenth of them were slow closes. Lowered when for as long as the window nothing hung and fewer than
//! a twentieth were slow. Within a window after that only a connection that hangs raises it again.

use std::time::Duration;

use super::window::{Counts, WINDOW};

/// Fewer ended connections in the window prove nothing.
const ENDED_MIN: u64 = 3;
/// One slow close among this many ended connections raises the flag.
const RAISED_BY: u64 = 10;
/// One among this many keeps it.
const KEPT_BY: u64 = 20;
/// A connection that awaits the server's FIN for longer than this, and than slow-after, hangs.
const HANGING: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct Flag {
    is_slow: bool,
    /// When something last kept it up.
    kept: Duration,
    lowered: Option<Duration>,
}

impl Flag {
    pub(super) fn is_slow(&self) -> bool {
        self.is_slow
    }

    /// Judges anew: what ended within the window, and for how long the connection that awaits its FIN
    /// longest does so. Returns whether the flag flipped.
    pub(super) fn review(
        &mut self,
        counts: Counts,
        awaiting_fin: Option<Duration>,
        slow_after: Duration,
        now: Duration,
    ) -> bool {
        let hangs = awaiting_fin.is_some_and(|age| age > slow_after.max(HANGING));
        let share_is = |one_in: u64| counts.slow > 0 && counts.slow * one_in >= counts.ended;
        let a_window_since = |at: Duration| now.saturating_sub(at) >= WINDOW;
        if hangs || share_is(KEPT_BY) {
            self.kept = now;
        }
        let rested = self.lowered.is_none_or(a_window_since);
        let often = counts.ended >= ENDED_MIN && share_is(RAISED_BY);
        let is_slow = if self.is_slow {
            !a_window_since(self.kept)
        } else {
            hangs || often && rested
        };
        let flipped = is_slow != self.is_slow;
        if flipped && !is_slow {
            self.lowered = Some(now);
        }
        self.is_slow = is_slow;
        flipped
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::window::Window, *};

    const SLOW_AFTER: Duration = Duration::from_secs(1);

    /// When the flag of a server flips, reviewed once a second, of whose connections one ends every
    /// `every` milliseconds and is slow if `slow` says so of its number.
    fn flips(seconds: u64, every: u64, slow: impl Fn(u64) -> bool) -> Vec<Duration> {
        let (mut window, mut flag) = (Window::default(), Flag::default());
        let mut number = 0;
        let mut flips = Vec::new();
        for second in 0..seconds {
            let now = Duration::from_secs(second);
            while number * every < second * 1000 {
                window.ended(slow(number), Some(Duration::from_secs(2)), now);
                number += 1;
            }
            if flag.review(window.counts(now), None, SLOW_AFTER, now) {
                flips.push(now);
            }
        }
        flips
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// A share of one in `one_in` that never changes, spread evenly, whatever it is.
        #[test]
        fn steady_share_flips_once_a_window_at_most(
            one_in in 2..60_u64, phase in 0..60_u64, every in 50..60_000_u64,
        ) {
            let flips = flips(6000, every, |number| (number + phase) % one_in == 0);
            prop_assert!(flips.windows(2).all(|two| two[1] - two[0] >= WINDOW), "{flips:?}");
            // Between the two bounds it makes up its mind once.
            let in_a_window = WINDOW.as_millis() as u64 / every;
            if (10..=20).contains(&one_in) && in_a_window > 2 * one_in {
                prop_assert!(flips.len() <= 1, "{flips:?}");
            }
        }

        /// The same share, but by chance.
        #[test]
        fn borderline_by_chance_flips_once_a_window_at_most(
            permille in 20..200_u64, every in 50..60_000_u64, seed in any::<u64>(),
        ) {
            let chance = |number: u64| {
                let mixed = (number ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                (mixed ^ mixed >> 31).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33
            };
            let flips = flips(6000, every, |number| chance(number) % 1000 < permille);
            prop_assert!(flips.windows(2).all(|two| two[1] - two[0] >= WINDOW), "{flips:?}");
        }
    }

    #[test]
    fn falls_a_window_after_the_share_fell_below_a_twentieth() {
        // One ends every 10 s, the first three slow: the last of them leaves the window at 321 s, the
        // second at 311 s, and from then on they are one in thirty.
        let flips = flips(2000, 10_000, |number| number < 3);
        assert_eq!(flips, [21, 610].map(Duration::from_secs));
    }

    #[test]
    fn hanging_connection_raises_it_again_at_once() {
        let secs = Duration::from_secs;
        let mut flag = Flag::default();
        let mut at = |awaiting_fin: Option<u64>, now: u64| {
            flag.review(
                Counts::default(),
                awaiting_fin.map(secs),
                SLOW_AFTER,
                secs(now),
            );
            flag.is_slow()
        };
        assert!(!at(Some(10), 1000) && at(Some(11), 1001));
        assert!(at(None, 1300) && !at(None, 1301), "a window after it hung");
        assert!(at(Some(11), 1312));
    }

    #[test]
    fn share_raises_it_again_a_window_later() {
        let secs = Duration::from_secs;
        let mut flag = Flag::default();
        let slow = Counts { ended: 3, slow: 3 };
        let none = Counts::default();
        let mut at = |counts, now| flag.review(counts, None, SLOW_AFTER, secs(now));
        assert!(at(slow, 1000));
        assert!(at(none, 1300), "lowered");
        assert!(!at(slow, 1599) && at(slow, 1600));
    }
}
