//! The state that the loop owns: every connection, figure and record.
//!
//! In: kernel events, questions from HTTP, the passing of time. Out: records, metrics, log lines.
//! Everything happens in turns of bounded length on one thread, so there is no lock. No turn waits for
//! anything: the disk that takes the records has a thread of its own.

use std::{collections::HashMap, thread, time::Duration};

use anyhow::Result;
use tokio::sync::mpsc::Receiver;
use tracing::{info, warn};

use crate::{
    cgroups::Cgroups,
    check::{self, Cgroup},
    clock,
    config::Config,
    events::Events,
    history::Histories,
    journal::{Followed, Journal},
    metrics::{Metrics, edges},
    outcome::role_name,
    privileges::{self, Kept},
    probes::{self, Pins, Probes},
    process::Names,
    record_file::Opened,
    servers::{Flip, Servers},
    time_wait::{Listing, TimeWait},
    tls::{Chosen, Tls},
    tracker::{self, Key, Tracker},
};

use self::{
    complaints::Complaints,
    keeping::Records,
    leftovers::Leftovers,
    scrape::Waiting,
    sweep::{Comparison, Listed},
};

mod answers;
mod complaints;
mod hooks;
mod intake;
mod keeping;
mod leftovers;
mod restart;
mod scrape;
mod status;
mod sweep;

/// Events in one turn at most.
const BATCH: usize = 256;
/// The kernel side's loss counters are compared this often, besides every scrape.
const LOSSES_EVERY: Duration = Duration::from_secs(10);
/// Emptying the ring at once may take this long.
const DRAIN_WITHIN: Duration = Duration::from_millis(300);

pub(crate) struct Daemon {
    started: Duration,
    slow_after: Duration,
    probes: Probes,
    kept: Kept,
    tracker: Tracker,
    servers: Servers,
    histories: Histories,
    metrics: Metrics,
    records: Option<Records>,
    journal: Option<Journal>,
    /// What a daemon before this one followed, and what was not yet heard of here.
    followed: HashMap<Key, Followed>,
    cgroups: Cgroups,
    names: Names,
    server_ttl: Duration,
    time_wait: TimeWait,
    /// Of what the kernel side remembers of TLS.
    leftovers: Leftovers,
    complaints: Complaints,
    tls: Option<Tls>,
    waiting: Waiting,
    /// It was told that hooks are not attached.
    detached_told: bool,
    losses_checked: Duration,
    swept: Duration,
    /// Ends that the kernel side could not tell or may have missed, when last compared.
    ends_lost: u64,
    /// Ends and changes that found the ring full, when last told in the log.
    told_lost: (u64, u64),
    /// A comparison with the kernel's list of sockets.
    comparison: Option<Comparison>,
    /// The latest list of sockets, when what it lacks is not yet dropped.
    unswept: Option<Listed>,
    /// When the newest state was taken that has come out of the ring.
    told_until: Duration,
    /// Connections that ended unseen.
    ended_unseen: u64,
    /// Ring records that were no event.
    malformed: u64,
}

impl Daemon {
    pub(crate) fn start(
        config: &Config,
        cgroup: Cgroup,
        tls: Option<Chosen>,
    ) -> Result<(Self, Events, Receiver<Listing>)> {
        let pins = config.pin.as_deref().map(Pins::open).transpose()?;
        let (journal, recalled) = restart::recall(config, pins.as_ref())?;
        let records = config.records.clone().map(Opened::open).transpose()?;
        let mut metrics =
            Metrics::new(config.slow_after, env!("CARGO_PKG_VERSION"))?.with_process()?;
        let (mut probes, mut events, before) = Probes::attach(&cgroup.watched, pins, tls.is_some())
            .map_err(|error| check::refused(error, tls.is_some()))?;
        metrics.attached(&probes.attached());
        if !before.attached {
            hooks::find_candidates(&mut probes, &mut metrics);
        }
        privileges::bound()?;
        let mut kept = Kept::of_now(config.scope.cgroup.is_some(), tls.is_some())?;
        if tls.is_some() {
            kept.settle_tls(|| probes::try_uprobe().is_ok())?;
        }
        let (time_wait, listings) = TimeWait::start(kept.time_wait.clone())?;
        let tls = tls
            .map(|chosen| Tls::start(chosen, probes.tls_programs()?, kept.tls.clone()))
            .transpose()?;
        kept.settle(|| probes.counters().is_ok() && probes.list().is_ok())?;
        info!(%kept, "privileges dropped");
        let complaints = Complaints::since(&probes)?;
        let records = records.map(Opened::start).transpose()?;
        let targets = config.records.clone();
        let records = targets
            .zip(records)
            .map(|(target, file)| Records::new(target, file));
        let mut daemon = Self {
            started: clock::since_boot(),
            slow_after: config.slow_after,
            probes,
            kept,
            tracker: Tracker::default(),
            servers: Servers::new(
                config.max_servers.get(),
                config.server_ttl,
                config.slow_after,
            ),
            histories: Histories::new(edges(config.slow_after)),
            metrics,
            records,
            journal,
            followed: HashMap::new(),
            cgroups: Cgroups::new(cgroup.mount),
            names: Names::default(),
            server_ttl: config.server_ttl,
            time_wait,
            leftovers: Leftovers::default(),
            complaints,
            tls,
            waiting: Waiting::default(),
            detached_told: false,
            losses_checked: Duration::ZERO,
            swept: clock::since_boot(),
            ends_lost: 0,
            told_lost: (0, 0),
            comparison: None,
            unswept: None,
            told_until: Duration::ZERO,
            ended_unseen: 0,
            malformed: 0,
        };
        daemon.resume(recalled, before, &mut events)?;
        Ok((daemon, events, listings))
    }

    /// Takes in some events. Returns whether the ring is empty.
    pub(crate) fn drain(&mut self, events: &mut Events) -> bool {
        let now = clock::since_boot();
        let was_full = (0..BATCH).all(|_| events.take(|event| self.observe(event, now)));
        self.flush_records();
        self.sweep_when_due(!was_full);
        !was_full
    }

    /// Empties the ring, if that can be done in time. Returns whether it is empty.
    fn drain_all(&mut self, events: &mut Events) -> bool {
        let until = clock::since_boot() + DRAIN_WITHIN;
        loop {
            if self.drain(events) {
                return true;
            }
            if clock::since_boot() > until {
                return false;
            }
        }
    }

    /// When [`Daemon::expire`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.tracker.deadline()
    }

    /// Gives out the ended connections that have waited for their cause long enough, but not before the
    /// ring is empty: the cause may be in it.
    pub(crate) fn expire(&mut self, events: &mut Events) {
        let now = clock::since_boot();
        if self.drain(events) {
            self.give_out(now);
            self.commit(now);
            self.flush_records();
        }
    }

    fn give_out(&mut self, due: Duration) {
        for connection in self.tracker.expire(due) {
            self.ended(&connection, clock::since_boot());
        }
    }

    /// Whether nothing is followed, nobody waits for an answer, and every record is where it belongs.
    pub(crate) fn is_idle(&self) -> bool {
        let records = self.records.as_ref();
        self.tracker.len() == 0
            && self.waiting.askers.is_empty()
            && records.is_none_or(|records| records.file.waiting() == 0)
    }

    /// What is due every second, or every three while there is nothing to do.
    ///
    /// # Errors
    ///
    /// When nothing is seen any more, and this process cannot help it.
    pub(crate) fn tick(&mut self, events: &mut Events) -> Result<()> {
        let now = clock::since_boot();
        let live = self.tracker.live();
        for flip in self.servers.review(&live, now) {
            tell(&flip);
            self.histories.flipped(&flip.server.into(), flip.slow, now);
        }
        for label in self.servers.expire(&live, now) {
            self.histories.forget(&label);
            self.metrics.forget(&label);
        }
        self.answer_impatient(now);
        self.keep_attached()?;
        let lost = self.leftovers.forget(&mut self.probes, now);
        self.metrics.sight.tls_left(lost);
        self.flush_records();
        if let Some(records) = &mut self.records {
            records.file.tell(now);
        }
        if now.saturating_sub(self.losses_checked) >= LOSSES_EVERY {
            self.losses_checked = now;
            if let Err(error) = self.sweep_if_ends_were_lost(events) {
                self.cannot_compare(&error);
            }
            self.complaints.tell(&self.probes, now);
        }
        Ok(())
    }

    /// Makes records of all that has ended. What goes on has none, and is left to the next daemon where the
    /// probes are pinned.
    pub(crate) fn stop(mut self, events: &mut Events) {
        self.drain_for_the_last_time(events);
        if let Some(tls) = self.tls.take() {
            tls.leave();
        }
        self.give_out(Duration::MAX);
        self.commit(clock::since_boot());
        self.close_records();
    }

    fn drain_for_the_last_time(&mut self, events: &mut Events) {
        let is_empty = self.drain_all(events);
        // What ended just now may still show why.
        if is_empty && self.tracker.deadline().is_some() {
            thread::sleep(tracker::GRACE);
            self.drain_all(events);
        } else if !is_empty {
            warn!("stopping with events left in the ring buffer");
        }
    }
}

fn tell(flip: &Flip) {
    let seconds = |duration: Option<Duration>| duration.map(|duration| duration.as_secs_f64());
    let evidence = &flip.evidence;
    info!(
        server = %flip.server.address,
        role = role_name(flip.server.role),
        ended = evidence.ended,
        slow = evidence.slow,
        wait_p50_seconds = seconds(evidence.waits.p50),
        wait_p99_seconds = seconds(evidence.waits.p99),
        longest_wait_seconds = seconds(evidence.waits.longest),
        awaiting_fin_seconds = seconds(evidence.awaiting_fin),
        "{}",
        if flip.slow { "server delays closing" } else { "server no longer delays closing" }
    );
}
