//! The connections that ended last, so that a late event makes no second record.

use std::collections::{HashSet, VecDeque};

use super::{Key, packed::PackedKey};

/// How many ended sockets are remembered, so that a late event does not make a second record.
const ENDED_REMEMBERED: usize = 16_384;

/// The latest keys put in.
#[derive(Default)]
pub(super) struct Remembered {
    order: VecDeque<PackedKey>,
    keys: HashSet<PackedKey>,
    /// None is forgotten now.
    all: bool,
}

impl Remembered {
    pub(super) fn contains(&self, key: Key) -> bool {
        self.keys.contains(&key.into())
    }

    pub(super) fn insert(&mut self, key: Key) {
        let key = PackedKey::from(key);
        if !self.keys.insert(key) {
            return;
        }
        self.order.push_back(key);
        self.forget();
    }

    /// Whether to remember all that is put in from now on.
    pub(super) fn remember_all(&mut self, all: bool) {
        self.all = all;
        self.forget();
    }

    fn forget(&mut self) {
        while self.order.len() > ENDED_REMEMBERED
            && !self.all
            && let Some(oldest) = self.order.pop_front()
        {
            self.keys.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use monitor_ebpf::event::{Role, Snapshot};

    use super::*;
    use crate::{timeline::timeline, tracker::Tracker};

    #[test]
    fn memory_of_ended_sockets_is_bounded() {
        let mut remembered = Remembered::default();
        for cookie in 0..=ENDED_REMEMBERED as u64 {
            remembered.insert((cookie, None));
        }
        assert!(!remembered.contains((0, None)) && remembered.contains((1, None)));
        assert_eq!(remembered.keys.len(), ENDED_REMEMBERED);
    }

    #[test]
    fn what_ends_while_a_list_is_taken_in_does_not_come_to_life_again() {
        let mut tracker = Tracker::default();
        tracker.remember_all(true);
        let steps = timeline(Role::Server, "1s upgrade; 2s server rst; 3s gone");
        let of = |cookie, step: &Snapshot| Snapshot {
            cookie,
            ..step.clone()
        };
        for cookie in 0..=ENDED_REMEMBERED as u64 {
            for step in &steps {
                tracker.observe(of(cookie, step), None, step.taken);
            }
        }
        assert_eq!(
            tracker.observe(of(0, &steps[0]), None, Duration::from_secs(4)),
            []
        );
        assert_eq!(tracker.len(), 0);
        tracker.remember_all(false);
        assert_eq!(tracker.recently_ended.keys.len(), ENDED_REMEMBERED);
    }
}
