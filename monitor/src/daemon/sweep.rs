//! Drops the connections that ended unseen, by a list of the kernel's sockets.
//!
//! An end that still waits in the ring is not unseen: what the list lacks is dropped once everything that was
//! told before it has been taken in. That is when the ring is empty; or, in a flood in which it never is,
//! when it has come to what was told after the list.

use std::{collections::HashSet, mem, time::Duration};

use super::Daemon;
use crate::{clock, tracker::Key};

/// Two CPUs may put what they tell into the ring in another order than they took it, by no more than this.
const DISORDER: Duration = Duration::from_secs(1);

/// The sockets that were listed, until what they lack is dropped.
pub(super) struct Listed {
    keys: HashSet<Key>,
    began: Duration,
    ended: Duration,
}

impl Listed {
    /// A list that was begun then, and has just ended.
    pub(super) fn new(keys: HashSet<Key>, began: Duration) -> Self {
        Self {
            keys,
            began,
            ended: clock::since_boot(),
        }
    }
}

impl Daemon {
    /// Drops what the last list lacked, if it is time.
    pub(super) fn sweep_when_due(&mut self, ring_is_empty: bool) {
        let told_until = self.told_until;
        let is_due = |listed: &mut Listed| ring_is_empty || told_until >= listed.ended + DISORDER;
        let Some(listed) = self.unswept.take_if(is_due) else {
            return;
        };
        let mut unseen = self.tracker.sweep(&listed.keys, listed.began);
        unseen.extend(mem::take(&mut self.followed).into_keys());
        self.went_unseen(&unseen);
        self.commit(listed.began);
    }
}
