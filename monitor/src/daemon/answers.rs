//! The loop's answers to HTTP: owned data, taken out of its state in one short turn.

use std::collections::HashMap;

use anyhow::Result;

use super::{Daemon, scrape::Asker};
use crate::{
    api::{Health, Page, Probe, Records, Row, Selection, ServerCount, ServersNow, look},
    clock::{self, UtcOffset, seconds},
    http::Query,
    journal::Journal,
    log,
    metrics::Exposition,
    record_file::RecordFile,
    servers::Label,
    tracker::{Live, Place},
};

impl Daemon {
    /// Answers HTTP. One that does not wait any more is no error.
    pub(crate) fn answer(&mut self, query: Query) {
        match query {
            Query::Alive(reply) => {
                let _ = reply.send(());
            }
            Query::Metrics(endpoint, reply) => {
                self.metrics.endpoint(&endpoint);
                self.asked(Asker::Metrics(reply));
            }
            Query::Servers(reply) => self.asked(Asker::Servers(reply)),
            Query::Connections {
                selection,
                behind,
                reply,
            } => {
                let _ = reply.send(self.page(&selection, behind));
            }
            Query::Health(reply) => {
                let _ = reply.send(self.health());
            }
        }
    }

    pub(super) fn exposition(&mut self) -> Result<Exposition> {
        let live = self.tracker.live_servers();
        let live = live.map(|(server, live)| (self.servers.label(server), live));
        self.metrics.live(live, clock::since_boot());
        for (label, slow) in self.servers.flags_by_label() {
            self.metrics.slow(label, slow);
        }
        self.count_losses()?;
        Ok(self.metrics.exposition())
    }

    pub(super) fn servers_now(&mut self) -> ServersNow {
        let now = clock::since_boot();
        let mut live = self.live_by_label();
        for label in live.keys() {
            self.histories.seen(label, None);
        }
        let mut evidence: HashMap<Label, _> = self
            .servers
            .evidence(now)
            .map(|(server, evidence)| (server.into(), evidence))
            .collect();
        let rows = self.histories.iter().map(|(label, history)| Row {
            live: live.remove(label).unwrap_or_default(),
            evidence: evidence.remove(label),
            time_wait: self.metrics.time_wait_sockets(label),
            label: label.clone(),
            history: history.clone(),
        });
        ServersNow {
            now,
            offset: UtcOffset::measure(),
            slow_after: self.slow_after,
            edges: self.histories.edges().to_vec(),
            rows: rows.collect(),
        }
    }

    fn page(&mut self, selection: &Selection, behind: Option<Place>) -> Page {
        let now = clock::since_boot();
        let cgroups = &mut self.cgroups;
        let (found, next) = look(&self.tracker, selection, behind, |id| {
            cgroups.path(id, now).map(str::to_owned)
        });
        Page {
            now,
            offset: UtcOffset::measure(),
            found,
            next,
        }
    }

    fn health(&mut self) -> Result<Health> {
        self.count_losses()?;
        let now = clock::since_boot();
        let offset = UtcOffset::measure();
        let (known, max) = self.servers.len_and_max();
        Ok(Health {
            time: offset.utc(now),
            version: env!("CARGO_PKG_VERSION"),
            started_at: offset.utc(self.started),
            uptime_seconds: seconds(now.saturating_sub(self.started)),
            slow_after_seconds: self.slow_after.as_secs_f64(),
            probes: self
                .probes
                .attached()
                .into_iter()
                .map(|(name, attached)| Probe { name, attached })
                .collect(),
            connections: self.tracker.len() as u64,
            servers: ServerCount { known, max },
            records: self.records.as_ref().map(|records| Records {
                written: records.file.written(),
                lost: records.file.lost(),
                waiting: records.file.waiting(),
            }),
            unseen: self.metrics.unseen(),
        })
    }

    /// Brings the counters of what could not be seen or told up to date.
    fn count_losses(&mut self) -> Result<()> {
        let records = self.records.as_ref().map(|records| &records.file);
        self.metrics.sight.folded(self.servers.folded());
        self.metrics.keeping.log_lines_lost(log::lost());
        self.metrics.keeping.records(
            records.map_or(0, RecordFile::written),
            records.map_or(0, RecordFile::lost),
            records.map_or(0, RecordFile::waiting),
        );
        self.metrics
            .keeping
            .journal_lost(self.journal.as_ref().map_or(0, Journal::lost));
        self.metrics
            .sight
            .kernel_losses(&self.probes.counters()?, self.malformed);
        if let Some(tls) = &self.tls {
            self.metrics.tls.set(tls.figures());
        }
        Ok(())
    }

    fn live_by_label(&self) -> HashMap<Label, Live> {
        let mut live: HashMap<Label, Live> = HashMap::new();
        for (server, of_server) in self.tracker.live() {
            live.entry(self.servers.label(server).into_owned())
                .or_default()
                .add(&of_server);
        }
        live
    }
}
