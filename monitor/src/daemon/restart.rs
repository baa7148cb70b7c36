//! Goes on where the daemon before this one ended, in whatever way it did.
//!
//! What the kernel remembers (pinned maps: each connection's state, and events that nobody has read) and what
//! that daemon noted (its journal) are put together. Nothing that it told already is told again.

use std::{collections::HashSet, fs, mem};

use anyhow::{Context as _, Result};
use monitor_ebpf::event::{Event, Snapshot};
use tracing::{info, warn};

use super::Daemon;
use crate::{
    clock,
    config::Config,
    events::Events,
    heads::Missing,
    journal::{Journal, Origin, Recalled, without_written},
    probes::{Before, Pins},
    record_file::Target,
    servers::Label,
    tracker::{self, Key},
};

/// How often the ring may be found to fill faster than it is read, before the start goes on all the same.
const SWEEPS: usize = 10;

/// Reads the journal, if the probes are pinned.
pub(super) fn recall(config: &Config, pins: Option<&Pins>) -> Result<(Option<Journal>, Recalled)> {
    let Some(pins) = pins else {
        return Ok((None, Recalled::default()));
    };
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let origin = Origin {
        boot: boot.context("read the id of this boot")?.trim().to_owned(),
        layout: pins.layout().to_owned(),
    };
    let (journal, recalled) = Journal::open(&config.state.directory, origin)?;
    Ok((Some(journal), recalled))
}

impl Daemon {
    /// Takes up what was recalled, and what the kernel has remembered and told since.
    pub(super) fn resume(
        &mut self,
        recalled: Recalled,
        before: Before,
        events: &mut Events,
    ) -> Result<()> {
        if self.journal.is_none() {
            return Ok(());
        }
        if let Some(unread) = before.other {
            warn!(
                unread,
                "the probes were those of another version, which this one cannot go on with: they are removed, and with them the events that nobody had read; connections that are open now are adopted once their frames show, and those that end before have no record"
            );
        }
        if recalled.unreadable > 0 {
            warn!(
                ended = recalled.unreadable,
                "connections that ended while the daemon before was killed have no record: it was of another version"
            );
        }
        for key in recalled.done {
            self.tracker.remember_ended(key);
        }
        self.write_again(recalled.lines.into());
        let known = recalled.followed.len();
        self.followed = recalled.followed;
        let now = clock::since_boot();
        for event in recalled.ended.into_values().flatten() {
            if let Ok(heard) = Event::decode(&event) {
                self.take_in(heard, &event, now);
            }
        }
        if !before.remembered {
            self.forget_followed();
            return Ok(());
        }
        self.tell_lost_since(recalled.told)?;
        let tries = 0..SWEEPS;
        if !tries
            .map(|_| self.sweep(events))
            .any(|swept| swept.is_ok_and(|done| done))
        {
            warn!("events come faster than they can be read: some may be told late");
        }
        info!(
            known,
            live = self.tracker.len(),
            "went on with the connections of the daemon before"
        );
        Ok(())
    }

    /// Without the kernel's memory of them, connections must be found by their frames.
    fn forget_followed(&mut self) {
        let followed = mem::take(&mut self.followed);
        if !followed.is_empty() {
            warn!(
                connections = followed.len(),
                "what the kernel remembered of connections is gone: those that are open still are adopted"
            );
        }
        for key in followed.into_keys() {
            self.journal_done(key);
        }
        self.commit(clock::since_boot());
    }

    /// Records that the daemon before may not have written.
    fn write_again(&mut self, mut lines: Vec<(Key, Vec<u8>)>) {
        if lines.is_empty() {
            return;
        }
        let all: Vec<Key> = lines.iter().map(|(key, _)| *key).collect();
        for key in &all {
            self.tracker.remember_ended(*key);
        }
        if let Some(Target::File(path)) = self.records.as_ref().map(|records| &records.target) {
            without_written(path, &mut lines);
        }
        let count = lines.len();
        let missing = lines.iter().map(|(key, _)| *key).collect::<HashSet<_>>();
        for key in all.into_iter().filter(|key| !missing.contains(key)) {
            self.journal_done(key);
        }
        let is_written = self.records.is_some();
        for (key, line) in lines {
            self.write_journalled(key, &line);
        }
        self.commit(clock::since_boot());
        self.flush_records();
        match (count, is_written) {
            (0, _) => {}
            (_, true) => info!(
                records = count,
                "wrote what the daemon before had not written"
            ),
            (_, false) => warn!(
                records = count,
                "records that the daemon before had not written are lost: there is no --records any more"
            ),
        }
    }

    /// What found the ring full since the daemon before last looked.
    fn tell_lost_since(&mut self, told: (u64, u64)) -> Result<()> {
        let (ends, changes) = self.lost_events()?;
        if (ends, changes) != told {
            warn!(
                ends = ends.saturating_sub(told.0),
                changes = changes.saturating_sub(told.1),
                "the kernel's ring buffer was full while no daemon ran: connections that ended then may have no record"
            );
        }
        self.tell_lost(ends, changes);
        Ok(())
    }

    /// If this is a connection of the daemon before, it goes on.
    pub(super) fn recognise(&mut self, snapshot: &Snapshot, label: &Label) {
        let Some(followed) = self.followed.remove(&tracker::key(snapshot)) else {
            return;
        };
        if let Some(path) = followed.cgroup {
            self.cgroups.recall(followed.cgroup_id, path);
        }
        if let Some(opening) = &followed.opening {
            self.metrics.heads(label, opening, Missing::default());
            self.histories.seen(label, Some(opening));
        }
        self.tracker.resume(
            snapshot,
            followed.opening,
            followed.since,
            followed.close_frames,
        );
    }
}
