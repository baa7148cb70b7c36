//! Scrapes, which wait a moment for the kernel's list of TIME_WAIT.
//!
//! The loop goes on meanwhile; what is listed comes back to it as [`Daemon::listed`].

use std::{collections::HashSet, mem, time::Duration};

use anyhow::Result;
use tokio::sync::oneshot;

use super::Daemon;
use crate::{clock, metrics::Exposition, servers::Label, time_wait::Listing, tracker::Server};

/// A scrape waits this long for a listing, to the next tick, and takes older figures then.
const LISTING_WITHIN: Duration = Duration::from_secs(1);

type Scrape = oneshot::Sender<Result<Exposition>>;

/// Scrapes that wait for a listing, and since when the first does.
#[derive(Default)]
pub(super) struct Waiting {
    scrapes: Vec<Scrape>,
    since: Duration,
}

impl Daemon {
    /// Answers at once, or with the listing of TIME_WAIT that this begins or finds under way.
    pub(super) fn scraped(&mut self, reply: Scrape) {
        let now = clock::since_boot();
        self.refresh_time_wait(now);
        if !self.time_wait.is_running() {
            let _ = reply.send(self.exposition());
            return;
        }
        if self.waiting.scrapes.is_empty() {
            self.waiting.since = now;
        }
        self.waiting.scrapes.push(reply);
    }

    /// Begins a listing of TIME_WAIT when it is time for one.
    pub(super) fn refresh_time_wait(&mut self, now: Duration) {
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

    /// Takes in how much is in TIME_WAIT, and answers the scrapes that waited for it.
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
        for reply in mem::take(&mut self.waiting.scrapes) {
            let _ = reply.send(self.exposition());
        }
    }
}
