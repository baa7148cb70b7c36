//! When and how often the log says that records cannot be written.

use std::time::Duration;

use tracing::{info, warn};

use super::shared::State;

/// Between two log lines about the same trouble at least.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);
/// A disk that does not answer for this long hangs.
const HANGS_AFTER: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(super) struct Trouble {
    complained: Option<Duration>,
    /// Records dropped when something was last told.
    lost_told: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Word {
    Hangs { lost: u64 },
    Fails { lost: u64 },
    Again { lost: u64 },
}

impl Trouble {
    pub(super) fn tell(&mut self, state: &State, now: Duration) {
        let waiting = state.waiting;
        match self.word(state, now) {
            Some(Word::Hangs { lost }) => warn!(
                seconds = state.busy.as_secs(),
                waiting,
                lost,
                "the disk does not take records: they wait in memory, as many as fit"
            ),
            Some(Word::Fails { lost }) => warn!(
                error = state.error,
                waiting, lost, "cannot write records: they wait in memory, as many as fit"
            ),
            Some(Word::Again { lost }) => info!(lost, "records are written again"),
            None => {}
        }
    }

    fn word(&mut self, state: &State, now: Duration) -> Option<Word> {
        let lost = state.lost - self.lost_told;
        let hangs = state.busy >= HANGS_AFTER;
        if !hangs && (state.waiting == 0 || (state.error.is_none() && lost == 0)) {
            // What waits in memory has not been written yet: nothing is well again.
            let is_over = state.waiting == 0 && (self.complained.take().is_some() || lost > 0);
            self.lost_told = if is_over { state.lost } else { self.lost_told };
            return is_over.then_some(Word::Again { lost });
        }
        let told = self.complained;
        if told.is_some_and(|at| now.saturating_sub(at) < COMPLAIN_EVERY) {
            return None;
        }
        self.complained = Some(now);
        self.lost_told = state.lost;
        Some(if hangs {
            Word::Hangs { lost }
        } else {
            Word::Fails { lost }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_full_disk_is_told_once_a_minute_and_its_end() {
        let mut trouble = Trouble::default();
        let full = |waiting, lost| State {
            waiting,
            lost,
            error: Some("no storage space".to_owned()),
            busy: Duration::ZERO,
        };
        let well = State::default();
        assert_eq!(trouble.word(&well, SECOND), None);
        let fails = |lost| Some(Word::Fails { lost });
        assert_eq!(trouble.word(&full(1, 0), 2 * SECOND), fails(0));
        assert_eq!(trouble.word(&full(9, 3), 61 * SECOND), None);
        assert_eq!(trouble.word(&full(9, 5), 62 * SECOND), fails(5));
        let over = State { lost: 6, ..well };
        let again = Some(Word::Again { lost: 1 });
        assert_eq!(trouble.word(&over, 63 * SECOND), again);
        assert_eq!(trouble.word(&over, 64 * SECOND), None);
    }

    #[test]
    fn a_disk_that_hangs_is_told_and_one_that_is_slow_is_not() {
        let mut trouble = Trouble::default();
        let busy = |busy| State {
            waiting: 4,
            busy,
            ..State::default()
        };
        assert_eq!(trouble.word(&busy(4 * SECOND), SECOND), None);
        let hangs = Some(Word::Hangs { lost: 0 });
        assert_eq!(trouble.word(&busy(5 * SECOND), 2 * SECOND), hangs);
        assert_eq!(
            trouble.word(&busy(Duration::ZERO), 3 * SECOND),
            None,
            "it answers, and has not taken all"
        );
        let again = Some(Word::Again { lost: 0 });
        assert_eq!(trouble.word(&State::default(), 4 * SECOND), again);
    }

    #[test]
    fn a_reader_that_is_too_slow_is_told_by_what_is_lost() {
        let mut trouble = Trouble::default();
        let slow = |lost| State {
            waiting: 7,
            lost,
            ..State::default()
        };
        assert_eq!(trouble.word(&slow(0), SECOND), None);
        assert_eq!(
            trouble.word(&slow(2), SECOND),
            Some(Word::Fails { lost: 2 })
        );
    }
}
