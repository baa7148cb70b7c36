//! Drops the connections that ended unseen, by a list of the kernel's sockets.
//!
//! An end that still waits in the ring is not unseen: what the list lacks is dropped once everything that was
//! told before it has been taken in. That is when the ring is empty; or, in a flood in which it never is,
//! when it has come to what was told after the list.

use std::{collections::HashSet, mem, time::Duration};

use anyhow::Result;
use monitor_ebpf::{counter::Counter, event::Event};
use tracing::warn;

use super::Daemon;
use crate::{
    clock,
    events::Events,
    tracker::{self, Key},
};

/// The kernel's sockets are listed at least this often, to find what ended unseen.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
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

    /// Compares with what the kernel follows when ends were lost, and at times.
    ///
    /// # Errors
    ///
    /// When the kernel does not let its counters or its sockets be read.
    pub(super) fn sweep_if_ends_were_lost(&mut self, events: &mut Events) -> Result<()> {
        let (ends, changes) = self.lost_events()?;
        if (ends, changes) != self.told_lost {
            self.tell_lost(ends, changes);
            warn!(
                ends,
                changes,
                "the kernel's ring buffer was full: the daemon gets too little CPU for what this host opens and closes (CPUWeight= in its systemd unit gives it more)"
            );
        }
        let lost = ends + self.probes.skipped()?;
        // Once a minute all the same: the kernel may have kept an end to itself.
        let now = clock::since_boot();
        if lost == self.ends_lost && now.saturating_sub(self.swept) < SWEEP_EVERY {
            return Ok(());
        }
        if self.unswept.is_some() {
            return Ok(());
        }
        if self.sweep(events)? {
            self.ends_lost = lost;
        }
        Ok(())
    }

    /// Ends, and other changes, that found the ring full.
    pub(super) fn lost_events(&self) -> Result<(u64, u64)> {
        let counters = self.probes.counters()?;
        let count = |counter| {
            let counted = counters.iter().filter(|(other, _)| *other == counter);
            counted.map(|(_, count)| count).sum::<u64>()
        };
        Ok((count(Counter::EndLost), count(Counter::EventLost)))
    }

    /// Compares what is followed here with what the kernel follows. False when events come faster than they
    /// can be read: then that is settled later.
    pub(super) fn sweep(&mut self, events: &mut Events) -> Result<bool> {
        self.swept = clock::since_boot();
        // What waits in the ring is told better by it than by the list.
        self.drain_all(events);
        let began = clock::since_boot();
        let keys = self.learn_from_list(began)?;
        self.unswept = Some(Listed::new(keys, began));
        // An end that waits in the ring is not unseen.
        self.drain_all(events);
        Ok(self.unswept.is_none())
    }

    /// Takes in every WebSocket that the kernel side follows. Returns which.
    pub(super) fn learn_from_list(&mut self, now: Duration) -> Result<HashSet<Key>> {
        let mut keys = HashSet::new();
        for record in self.probes.list()?.records() {
            if let Ok(event) = Event::decode(record) {
                keys.insert(tracker::key(&event.snapshot));
                self.take_in(event, record, now);
            }
        }
        Ok(keys)
    }

    /// Connections ended, and nobody saw how.
    pub(super) fn went_unseen(&mut self, keys: &[Key]) {
        self.metrics.sight.swept(keys.len());
        self.ended_unseen += keys.len() as u64;
        for key in keys {
            self.journal_done(*key);
        }
        if !keys.is_empty() {
            warn!(
                swept = keys.len(),
                "connections ended unseen: they have no record"
            );
        }
    }
}
