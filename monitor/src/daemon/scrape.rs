//! Scrapes and questions about servers, which wait a moment for the kernel's list of TIME_WAIT.
//!
//! The loop goes on meanwhile; what is listed comes back to it as [`Daemon::listed`].

use std::{collections::HashSet, mem, time::Duration};

use anyhow::Result;
use tokio::sync::oneshot;

use super::Daemon;
use crate::{
    api::ServersNow, clock, metrics::Exposition, servers::Label, time_wait::Listing,
    tracker::Server,
};

/// They wait this long for a listing, to the next tick, and take older figures then.
const LISTING_WITHIN: Duration = Duration::from_secs(1);

/// Who wants to know, among other things, what is in TIME_WAIT.
pub(super) enum Asker {
    Metrics(oneshot::Sender<Result<Exposition>>),
    Servers(oneshot::Sender<ServersNow>),
}

/// Those who wait for a listing, and since when the first does.
#[derive(Default)]
pub(super) struct Waiting {
    pub(super) askers: Vec<Asker>,
    since: Duration,
}

impl Daemon {
    /// Answers at once, or with the listing of TIME_WAIT that this begins or finds under way.
    pub(super) fn asked(&mut self, asker: Asker) {
        let now = clock::since_boot();
        self.refresh_time_wait(now);
        if !self.time_wait.is_running() {
            self.tell(asker);
            return;
        }
        if self.waiting.askers.is_empty() {
            self.waiting.since = now;
        }
        self.waiting.askers.push(asker);
    }

    /// Begins a listing of TIME_WAIT when it is time for one.
    fn refresh_time_wait(&mut self, now: Duration) {
        if self.time_wait.is_due(now) {
            self.list_time_wait(now);
        }
    }

    fn list_time_wait(&mut self, now: Duration) {
        let servers: HashSet<Server> = self.servers.flags().map(|(server, _)| server).collect();
        if servers.is_empty() {
            return;
        }
        for id in self.tracker.cgroups() {
            self.time_wait.followed(id, now);
        }
        let ids = self.time_wait.cgroups(self.server_ttl, now);
        let cgroups = ids
            .into_iter()
            .filter_map(|id| self.cgroups.directory(id, now))
            .collect();
        self.time_wait.begin(servers, cgroups, now);
    }

    /// Takes in how much is in TIME_WAIT, and answers those who waited for it.
    pub(crate) fn listed(&mut self, listing: &Listing) {
        self.time_wait.came(listing, clock::since_boot());
        // A server may have been forgotten meanwhile.
        let known = listing.sockets.iter();
        let known = known.filter(|(server, _)| !self.servers.label(**server).is_other());
        let sockets = known.map(|(server, count)| (Label::from(*server), *count));
        self.metrics.time_wait(sockets, listing);
        self.answer_waiting();
    }

    /// Answers the scrapes that waited for long enough, with the figures of the listing before.
    pub(super) fn answer_impatient(&mut self, now: Duration) {
        if now.saturating_sub(self.waiting.since) >= LISTING_WITHIN {
            self.answer_waiting();
        }
    }

    fn answer_waiting(&mut self) {
        for asker in mem::take(&mut self.waiting.askers) {
            self.tell(asker);
        }
    }

    /// One that does not wait any more is no error.
    fn tell(&mut self, asker: Asker) {
        match asker {
            Asker::Metrics(reply) => {
                let _ = reply.send(self.exposition());
            }
            Asker::Servers(reply) => {
                let _ = reply.send(self.servers_now());
            }
        }
    }
}
