//! What an event does to the loop's state: what is new in it goes to figures, metrics and journal, and a connection that
//! has ended to its record.

use std::time::Duration;

use monitor_ebpf::event::{Event, Heads, Lost, Malformed, Snapshot};
use tracing::{debug, trace};

use super::Daemon;
use crate::{
    clock::{self, UtcOffset},
    heads,
    outcome::{Outcome, judge},
    records::{Place, Record},
    tracker::{self, Connection, Key, News, Server},
};

impl Daemon {
    /// Takes in a record of the ring buffer. What of it the kernel does not keep is in the journal when this
    /// returns.
    pub(super) fn observe(&mut self, record: &[u8], now: Duration) {
        match Event::decode(record) {
            Ok(event) => {
                let delay = clock::since_boot().saturating_sub(event.snapshot.taken);
                self.metrics.event(delay);
                self.take_in(event, record, now);
            }
            Err(Malformed) => self.malformed += 1,
        }
    }

    pub(super) fn take_in(&mut self, event: Event<'_>, record: &[u8], now: Duration) {
        let key = tracker::key(&event.snapshot);
        if let Some(session) = event.session {
            if event.snapshot.ended.is_some() {
                self.leftovers.ended(session.number, now);
            }
            if session.withheld {
                return self.withdraw(key);
            }
        }
        self.learn(event.snapshot, event.heads, now);
        self.journal_held(key, record);
        self.commit(now);
    }

    /// What was told of a connection may be of another.
    fn withdraw(&mut self, key: Key) {
        if self.tracker.withdraw(key) {
            self.journal_done(key);
        }
    }

    fn learn(&mut self, snapshot: Snapshot, heads: Option<Heads<'_>>, now: Duration) {
        trace!(?snapshot, "event");
        self.told_until = self.told_until.max(snapshot.taken);
        let server = Server::of(&snapshot);
        let label = self.servers.admit(server, now);
        let cgroup_id = snapshot.cgroup_id;
        self.time_wait.followed(cgroup_id, now);
        self.recognise(&snapshot, &label);
        let opening = heads.map(|heads| {
            let (opening, missing) = heads::read(heads);
            self.metrics.heads(&label, &opening, missing);
            opening
        });
        self.histories.seen(&label, opening.as_ref());
        let key = tracker::key(&snapshot);
        let mut heads = self.journal.is_some().then(|| opening.clone()).flatten();
        for news in self.tracker.observe(snapshot, opening, now) {
            match news {
                News::Opened | News::Adopted => {
                    if matches!(news, News::Opened) {
                        self.metrics.opened(&label);
                    } else {
                        self.metrics.adopted(&label);
                    }
                    // Looked up while it is sure to exist; the record may come after its end.
                    self.cgroups.path(cgroup_id, now);
                    self.journal_followed(key, cgroup_id, heads.take(), now);
                }
                News::CloseFrame { sender, code } => {
                    self.metrics.close_frame(&label, sender, code);
                    self.journal_close_frame(key, sender);
                }
                News::Ended(connection) => self.ended(&connection, now),
            }
        }
        // They came after other news of their connection.
        if heads.is_some() && self.tracker.is_followed(key) {
            self.journal_followed(key, cgroup_id, heads, now);
        }
    }

    pub(super) fn ended(&mut self, connection: &Connection, now: Duration) {
        let snapshot = &connection.snapshot;
        let server = Server::of(snapshot);
        let judgement = judge(snapshot, self.slow_after);
        debug!(
            local = %snapshot.local,
            remote = %snapshot.remote,
            outcome = judgement.outcome.map(Outcome::name),
            waited_seconds = judgement.waited.map(|waited| waited.as_secs_f64()),
            "connection ended"
        );
        self.time_wait.ended(snapshot.cookie);
        let label = self.servers.admit(server, now);
        self.servers.ended(server, &judgement, now);
        self.histories.ended(&label, &judgement, now);
        self.metrics.ended(&label, &judgement);
        if connection.opening.is_none() && snapshot.opened.is_some() {
            self.metrics.sight.heads_unseen();
        }
        if snapshot.received.lost == Some(Lost::Refused) {
            self.metrics.sight.refused();
        }

        let key = tracker::key(snapshot);
        if self.records.is_none() {
            self.journal_done(key);
            return;
        }
        let process = snapshot.closer.and_then(|closer| {
            let sent = snapshot.sent;
            let closed = sent.fin.or(sent.rst).or(snapshot.ended)?;
            self.names.name(&closer, closed)
        });
        let place = Place {
            cgroup: self.cgroups.path(snapshot.cgroup_id, now),
            process: process.as_deref(),
        };
        let record = Record::new(connection, &judgement, place, UtcOffset::measure());
        let line = record.line();
        self.write(key, &line);
    }
}
