//! Which processes to look at now: new ones at once, young ones each second, all of them from time to time.
//!
//! In: the processes that there are, and the time. Out: those to look at, and those that ended. Reads nothing.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

/// For so long a process may still be loading its libraries.
const YOUNG: Duration = Duration::from_secs(10);
/// All processes are looked at this often: libraries are loaded late, too, and replaced.
const ALL_EVERY: Duration = Duration::from_secs(60);

/// A process. Another may get its id later, which has started later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// When it started, in the kernel's ticks since boot.
    pub(super) started: u64,
}

#[derive(Debug, Default)]
pub(super) struct Processes {
    /// When each was first there.
    first: HashMap<Process, Duration>,
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
        let mut ended = Vec::new();
        self.first.retain(|process, _| {
            let is_there = there.contains(process);
            if !is_there {
                ended.push(*process);
            }
            is_there
        });
        let mut look = Vec::new();
        for process in there {
            let first = *self.first.entry(*process).or_insert(now);
            if is_all || now.saturating_sub(first) < YOUNG {
                look.push(*process);
            }
        }
        look.sort_unstable();
        Due {
            look,
            is_all,
            ended,
        }
    }

    /// Whether a process may still be loading its libraries.
    pub(super) fn is_young(&self, process: Process, now: Duration) -> bool {
        let first = self.first.get(&process);
        first.is_none_or(|first| now.saturating_sub(*first) < YOUNG)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_ones_are_looked_at_each_second_and_old_ones_each_minute() {
        let mut processes = Processes::default();
        let secs = Duration::from_secs;
        let [old, new] = [1, 2].map(|pid| Process { pid, started: 70 });
        let there = HashSet::from([old]);
        let due = processes.due(&there, secs(100));
        assert_eq!((due.look, due.is_all), (vec![old], true));

        assert_eq!(processes.due(&there, secs(109)).look, [old]);
        assert_eq!(processes.due(&there, secs(110)).look, []);
        let there = HashSet::from([old, new]);
        assert_eq!(processes.due(&there, secs(111)).look, [new]);
        assert!(processes.is_young(new, secs(120)) && !processes.is_young(new, secs(121)));
        let due = processes.due(&there, secs(160));
        assert_eq!((due.look, due.is_all), (vec![old, new], true));
        assert_eq!(processes.due(&there, secs(161)).look, []);
    }

    #[test]
    fn id_that_is_given_again_is_another_process() {
        let mut processes = Processes::default();
        let [before, after] = [70, 71].map(|started| Process { pid: 1, started });
        processes.due(&HashSet::from([before]), Duration::ZERO);
        let due = processes.due(&HashSet::from([after]), Duration::from_secs(30));
        assert_eq!((due.look, due.ended), (vec![after], vec![before]));
    }
}
