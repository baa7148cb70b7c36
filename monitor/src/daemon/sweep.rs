//! Drops the connections that ended unseen, by a list of the kernel's sockets.
//!
//! An end that still waits in the ring is not unseen: what the list lacks is dropped once everything that was
//! told before it has been taken in. That is when the ring is empty; or, in a flood in which it never is,
//! when it has come to what was told after the list.
//!
//! The kernel goes on with a list by how many sockets it has shown, and so passes over one where others have gone from in
//! front of it since the read before: what one list lacks is looked for in more.
//!
//! The longer the list, the more often the kernel walks it from its beginning. It is read by a thread of its own, and taken in by portions:
//! events and questions have their turns in between.

use std::{collections::HashSet, mem, ops::ControlFlow, thread, time::Duration};

use anyhow::{Context as _, Error, Result};
use monitor_ebpf::{counter::Counter, event::Event};
use tokio::sync::oneshot;
use tracing::warn;

use super::Daemon;
use crate::{
    clock,
    events::Events,
    metrics::Search,
    probes::{self, List},
    tracker::{self, Key},
};

/// The kernel's sockets are listed at least this often, to find what ended unseen.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// Two CPUs may put what they tell into the ring in another order than they took it, by no more than this.
const DISORDER: Duration = Duration::from_secs(1);

/// Lists that must lack a connection before it is believed to have ended.
const LISTS: u32 = 3;

/// Listed sockets that are taken in within one turn of the loop.
const PORTION: usize = 512;

/// The sockets that were listed, until what they lack is dropped.
pub(super) struct Listed {
    /// Those of every list.
    keys: HashSet<Key>,
    /// When the first list began.
    began: Duration,
    /// When the latest ended.
    ended: Duration,
    lists: u32,
    /// What was lost when the first began, where that is why: see [`Daemon::sweep_if_ends_were_lost`].
    lost: Option<u64>,
}

impl Listed {
    /// No list yet.
    fn begin(lost: Option<u64>) -> Self {
        let began = clock::since_boot();
        Self {
            keys: HashSet::new(),
            began,
            ended: began,
            lists: 0,
            lost,
        }
    }

    /// One more list has just been taken in, which ended then.
    fn and(self, ended: Duration) -> Self {
        Self {
            ended,
            lists: self.lists + 1,
            ..self
        }
    }
}

/// A comparison under way: the list is read elsewhere, and then taken in.
pub(super) struct Comparison {
    /// What was listed before, and what of this list is taken in.
    listed: Listed,
    reader: oneshot::Receiver<Result<Read>>,
    read: Option<Read>,
    /// How many of it are taken in.
    taken: usize,
}

/// The list, and when it ended.
struct Read {
    list: probes::Listed,
    ended: Duration,
}

impl Comparison {
    /// # Errors
    ///
    /// When there can be no thread.
    fn begin(list: List, listed: Listed) -> Result<Self> {
        let (sender, reader) = oneshot::channel();
        let read = move || {
            let read = list.read().map(|list| Read {
                list,
                ended: clock::since_boot(),
            });
            // The daemon may have ended meanwhile.
            let _ = sender.send(read);
        };
        thread::Builder::new()
            .name("list-sockets".to_owned())
            .spawn(read)
            .context("start a thread")?;
        Ok(Self {
            listed,
            reader,
            read: None,
            taken: 0,
        })
    }

    /// Waits until the list is there. Cancel-safe.
    async fn ready(&mut self) -> Result<()> {
        if self.read.is_none() {
            let read = (&mut self.reader).await;
            self.read = Some(read.context("the thread that lists sockets died")??);
        }
        Ok(())
    }
}

impl Daemon {
    /// Whether the kernel's list of sockets is under way.
    pub(crate) fn is_comparing(&self) -> bool {
        self.comparison.is_some()
    }

    /// Waits until [`Daemon::compare`] has something to do. Cancel-safe.
    ///
    /// # Errors
    ///
    /// When the sockets could not be listed.
    pub(crate) async fn list_is_ready(&mut self) -> Result<()> {
        match &mut self.comparison {
            Some(comparison) => comparison.ready().await,
            None => Ok(()),
        }
    }

    /// Takes in a portion of the list, or gives up the comparison if there is none.
    pub(crate) fn compare(&mut self, ready: Result<()>, events: &mut Events) {
        let Some(mut comparison) = self.comparison.take() else {
            return;
        };
        match ready.map(|()| comparison.read.take()) {
            Ok(Some(read)) => match self.take_in_portion(&mut comparison, &read) {
                ControlFlow::Continue(()) => {
                    comparison.read = Some(read);
                    self.comparison = Some(comparison);
                }
                ControlFlow::Break(()) => {
                    self.tracker.remember_all(false);
                    self.unswept = Some(comparison.listed.and(read.ended));
                    // The ring may be empty, and stay so.
                    self.drain(events);
                }
            },
            Ok(None) => self.comparison = Some(comparison),
            Err(error) => {
                self.tracker.remember_all(false);
                self.cannot_compare(&error);
            }
        }
    }

    fn take_in_portion(&mut self, comparison: &mut Comparison, read: &Read) -> ControlFlow<()> {
        let now = clock::since_boot();
        let mut records = read.list.records().skip(comparison.taken);
        for record in records.by_ref().take(PORTION) {
            comparison.taken += 1;
            if let Ok(event) = Event::decode(record) {
                comparison.listed.keys.insert(tracker::key(&event.snapshot));
                self.take_in(event, record, now);
            }
        }
        if records.len() == 0 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    /// It is tried again.
    pub(super) fn cannot_compare(&mut self, error: &Error) {
        self.metrics.sight.search_failed(Search::Ended);
        warn!("cannot tell which connections ended unseen: {error:#}");
    }

    /// Drops what the lists lacked, if it is time, and if there were enough of them.
    pub(super) fn sweep_when_due(&mut self, ring_is_empty: bool) {
        let told_until = self.told_until;
        let is_due = |listed: &mut Listed| ring_is_empty || told_until >= listed.ended + DISORDER;
        let Some(listed) = self.unswept.take_if(is_due) else {
            return;
        };
        let lacks = !self.followed.is_empty() || self.tracker.lacks(&listed.keys, listed.began);
        if lacks && listed.lists < LISTS {
            if let Err(error) = self.begin_comparison(listed) {
                self.cannot_compare(&error);
            }
            return;
        }
        if let Some(lost) = listed.lost {
            self.ends_lost = lost;
        }
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
        if self.unswept.is_some() || self.comparison.is_some() {
            return Ok(());
        }
        self.swept = now;
        // What waits in the ring is told better by it than by the list.
        self.drain_all(events);
        self.begin_comparison(Listed::begin(Some(lost)))
    }

    /// Has the sockets listed once more.
    fn begin_comparison(&mut self, listed: Listed) -> Result<()> {
        let list = self.probes.begin_list()?;
        self.comparison = Some(Comparison::begin(list, listed)?);
        self.tracker.remember_all(true);
        Ok(())
    }

    /// Ends, and other changes, that found the ring full.
    pub(super) fn lost_events(&self) -> Result<(u64, u64)> {
        let [ends, changes] = self
            .probes
            .counted([Counter::EndLost, Counter::EventLost])?;
        Ok((ends, changes))
    }

    /// Compares what is followed here with what the kernel follows, at once. False when events come faster than they
    /// can be read: then that is settled later, and so is what the list lacks.
    pub(super) fn sweep(&mut self, events: &mut Events) -> Result<bool> {
        self.swept = clock::since_boot();
        // What waits in the ring is told better by it than by the list.
        self.drain_all(events);
        let mut listed = Listed::begin(None);
        listed.keys = self.learn_from_list(listed.began)?;
        self.unswept = Some(listed.and(clock::since_boot()));
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
