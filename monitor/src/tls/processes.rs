//! Which processes to look at now: new ones at once, young ones each second, all of them from time to time.
//!
//! In: the processes that there are, and the time. Out: those to look at, and those that ended. Reads nothing.

use std::{collections::HashSet, time::Duration};

/// For so long a process may still be loading its libraries.
const YOUNG: Duration = Duration::from_secs(10);
/// All processes are looked at this often: libraries are loaded late, too, and replaced.
const ALL_EVERY: Duration = Duration::from_secs(60);

/// A process. Another may get its id later, which has started later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// When it started, since boot, to a hundredth of a second.
    pub(super) started: Duration,
}

impl Process {
    /// Whether it may still be loading its libraries.
    pub(super) fn is_young(self, now: Duration) -> bool {
        now.saturating_sub(self.started) < YOUNG
    }
}

#[derive(Debug, Default)]
pub(super) struct Processes {
    /// Those that were there last.
    known: HashSet<Process>,
    looked_at_all: Option<Duration>,
}

/// What there is to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) look: Vec<Process>,
    /// They are all there are.
    pub(super) is_all: bool,
    pub(super) ended: Vec<Process>,
}

impl Processes {
    /// Takes in which processes there are.
    pub(super) fn due(&mut self, there: &HashSet<Process>, now: Duration) -> Due {
        let is_all = self
            .looked_at_all
            .is_none_or(|looked| now.saturating_sub(looked) >= ALL_EVERY);
        if is_all {
            self.looked_at_all = Some(now);
        }
        let mut look: Vec<_> = there.iter().copied().collect();
        look.retain(|process| is_all || process.is_young(now) || !self.known.contains(process));
        look.sort_unstable();
        let ended = self.known.difference(there).copied().collect();
        self.known.clone_from(there);
        Due {
            look,
            is_all,
            ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_ones_are_looked_at_each_second_and_old_ones_each_minute() {
        let mut processes = Processes::default();
        let secs = Duration::from_secs;
        let process = |pid, started| Process {
            pid,
            started: secs(started),
        };
        let [oldest, old, new] = [process(1, 7), process(2, 99), process(3, 110)];
        let there = HashSet::from([oldest, old]);
        let due = processes.due(&there, secs(100));
        assert_eq!((due.look, due.is_all), (vec![oldest, old], true));

        assert_eq!(processes.due(&there, secs(108)).look, [old]);
        assert_eq!(processes.due(&there, secs(109)).look, []);
        let moved_here = process(4, 8);
        let there = HashSet::from([oldest, old, new, moved_here]);
        assert_eq!(processes.due(&there, secs(111)).look, [new, moved_here]);
        assert_eq!(processes.due(&there, secs(112)).look, [new]);
        assert!(new.is_young(secs(119)) && !new.is_young(secs(120)));
        let due = processes.due(&there, secs(160));
        assert_eq!((due.look.len(), due.is_all), (4, true));
        assert_eq!(processes.due(&there, secs(161)).look, []);
    }

    #[test]
    fn id_that_is_given_again_is_another_process() {
        let mut processes = Processes::default();
        let [before, after] = [70, 71].map(|started| Process {
            pid: 1,
            started: Duration::from_secs(started),
        });
        processes.due(&HashSet::from([before]), Duration::ZERO);
        let due = processes.due(&HashSet::from([after]), Duration::from_secs(30));
        assert_eq!((due.look, due.ended), (vec![after], vec![before]));
    }
}
