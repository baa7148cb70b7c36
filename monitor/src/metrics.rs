//! Every metric: name, help, labels, buckets. Names and labels are a public promise.
//!
//! In: what happened, under which label. Out: the Prometheus text format 0.0.4. Decides nothing about
//! which servers have a label; makes a server's series at 0 when it first hears of it, and removes
//! them when told.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use anyhow::{Context, Result};
use monitor_ebpf::{counter::Counter, event::Role};
use prometheus::{
    Gauge, GaugeVec, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
    TEXT_FORMAT, TextEncoder,
};

use self::{
    register::{counter, counters, edges, gauges, histograms, raise, register, seconds},
    time_wait::TimeWaitMetrics,
};
use crate::{
    heads::{Missing, Opening, Unparsed},
    labels::{code_name, codes, direction_name, lost_name, outcome_name, outcomes},
    outcome::{Judgement, TimeWait, role_name},
    servers::Label,
    time_wait::Listing,
    tracker::{Live, Phase},
};

mod register;
mod time_wait;

/// The type of what [`Exposition::encode`] gives.
pub(crate) const CONTENT_TYPE: &str = TEXT_FORMAT;

const ROLES: [Role; 2] = [Role::Client, Role::Server];

pub(crate) struct Metrics {
    registry: Registry,
    /// The servers that have series.
    labels: HashSet<Label>,
    /// The host and software in `server_info`, of servers of which either is known.
    infos: HashMap<String, [String; 2]>,

    connections: IntGaugeVec,
    opened: IntCounterVec,
    adopted: IntCounterVec,
    ended: IntCounterVec,
    close_handshake: HistogramVec,
    close_to_fin: HistogramVec,
    awaiting_fin_oldest: GaugeVec,
    half_closed_oldest: GaugeVec,
    close_frames: IntCounterVec,
    time_wait_entered: IntCounterVec,
    time_wait: TimeWaitMetrics,
    server_slow: IntGaugeVec,
    server_info: IntGaugeVec,

    probe_attached: IntGaugeVec,
    events_lost: IntCounterVec,
    sockets_lost: IntCounterVec,
    streams_lost: IntCounterVec,
    streams_relocked: IntCounterVec,
    candidates: IntCounter,
    candidates_rejected: IntCounter,
    heads_unparsed: IntCounterVec,
    servers_folded: IntCounter,
    connections_swept: IntCounter,
    records_written: IntCounter,
    records_lost: IntCounter,
}

/// All metrics; their values are read when it is encoded.
#[derive(Debug)]
pub(crate) struct Exposition(Registry);

impl Exposition {
    /// The text format.
    pub(crate) fn encode(&self) -> Result<String> {
        TextEncoder::new()
            .encode_to_string(&self.0.gather())
            .context("encode the metrics")
    }
}

impl Metrics {
    /// Registers every metric, in a registry of its own. `slow_after` becomes an edge of the histograms.
    pub(crate) fn new(slow_after: Duration, version: &str) -> Result<Self> {
        let registry = Registry::new();
        let edges = edges(slow_after);
        let build_info = Gauge::with_opts(
            Opts::new(
                "closewatch_build_info",
                "1, with the version of this daemon.",
            )
            .const_label("version", version),
        )?;
        build_info.set(1.0);
        register(&registry, build_info)?;

        let r = &registry;
        let metrics = Self {
            connections: gauges(
                r,
                "connections",
                "Live WebSocket connections by phase: open, awaiting_close_frame (one Close frame), awaiting_fin (closing handshake complete, no FIN), half_closed (a FIN, the socket still there).",
                &["role", "server", "phase"],
            )?,
            opened: counters(
                r,
                "connections_opened_total",
                "WebSocket openings (HTTP 101) seen.",
                &["role", "server"],
            )?,
            adopted: counters(
                r,
                "connections_adopted_total",
                "WebSocket connections found by their frames, because their opening was not seen: most were open before closewatch started.",
                &["role", "server"],
            )?,
            ended: counters(
                r,
                "connections_ended_total",
                "WebSocket connections whose socket is gone, by outcome.",
                &["role", "server", "outcome"],
            )?,
            close_handshake: histograms(
                r,
                "close_handshake_seconds",
                "From the first Close frame to the second.",
                &["role", "server"],
                &edges,
            )?,
            close_to_fin: histograms(
                r,
                "close_to_fin_seconds",
                "From the second Close frame to the first FIN or RST, by the end that sent it. With first_end=\"client\" it is the client's patience: a lower bound of the server's delay.",
                &["role", "server", "first_end"],
                &edges,
            )?,
            awaiting_fin_oldest: seconds(
                r,
                "awaiting_fin_oldest_seconds",
                "How long the connection that awaits the first FIN for longest does so already; 0 when none does.",
                &["role", "server"],
            )?,
            half_closed_oldest: seconds(
                r,
                "half_closed_oldest_seconds",
                "How long ago the first FIN or RST came, of the connection of which that is longest and whose socket is still there; 0 when there is none. With role=\"server\" and growing: a CLOSE_WAIT leak.",
                &["role", "server"],
            )?,
            close_frames: counters(
                r,
                "close_frames_total",
                "First Close frames by sender and status code (1000 to 1015, 3xxx, 4xxx, none, invalid).",
                &["role", "server", "sender", "code"],
            )?,
            time_wait_entered: counters(
                r,
                "time_wait_entered_total",
                "Ended connections by the end that sent the first FIN and so holds TIME_WAIT; both ends when their FINs crossed.",
                &["role", "server", "holder"],
            )?,
            time_wait: TimeWaitMetrics::new(r)?,
            server_slow: gauges(
                r,
                "server_slow",
                "1 while the server is flagged: 3 or more ended connections in 5 minutes and a tenth of them slow closes, or one that awaits the FIN for longer than 10 s and slow-after; lowered when for 5 minutes none did and less than a twentieth were slow.",
                &["role", "server"],
            )?,
            server_info: gauges(
                r,
                "server_info",
                "1, with the Host and the Server header of the first opening to a server that clients on this host connect to.",
                &["server", "host", "software"],
            )?,
            probe_attached: gauges(
                r,
                "probe_attached",
                "1 if the probe is attached to the kernel.",
                &["probe"],
            )?,
            events_lost: counters(
                r,
                "events_lost_total",
                "Kernel events that did not reach the daemon.",
                &["reason"],
            )?,
            sockets_lost: counters(
                r,
                "sockets_lost_total",
                "WebSocket connections that could not be followed from their opening on.",
                &["reason"],
            )?,
            streams_lost: counters(
                r,
                "streams_lost_total",
                "Times that the frames of a direction could not be followed any further.",
                &["direction", "reason"],
            )?,
            streams_relocked: counters(
                r,
                "streams_relocked_total",
                "Times that the frames of a lost direction were found again.",
                &["direction"],
            )?,
            candidates: counter(
                r,
                "adoption_candidates_total",
                "TCP connections that are or were watched for the frames of a WebSocket, because their opening was not seen.",
            )?,
            candidates_rejected: counter(
                r,
                "adoption_rejected_total",
                "Such connections that turned out to be something else.",
            )?,
            heads_unparsed: counters(
                r,
                "heads_unparsed_total",
                "Heads of the opening handshake of which a part is missing.",
                &["head", "reason"],
            )?,
            servers_folded: counter(
                r,
                "servers_folded_total",
                "Ended connections counted under server=\"other\" because of --max-servers.",
            )?,
            connections_swept: counter(
                r,
                "connections_swept_total",
                "Connections whose end was not seen; they have no record.",
            )?,
            records_written: counter(r, "records_written_total", "Records written.")?,
            records_lost: counter(
                r,
                "records_lost_total",
                "Records dropped because they could not be written and memory for them was full.",
            )?,
            labels: HashSet::new(),
            infos: HashMap::new(),
            registry,
        };
        for reason in Unparsed::ALL {
            metrics
                .heads_unparsed
                .with_label_values(&["request", reason.name()]);
            metrics
                .heads_unparsed
                .with_label_values(&["response", reason.name()]);
        }
        Ok(metrics)
    }

    /// Adds the daemon's own cpu, memory and file descriptors as `process_*`.
    pub(crate) fn with_process(self) -> Result<Self> {
        let process = prometheus::process_collector::ProcessCollector::for_self();
        self.registry.register(Box::new(process))?;
        Ok(self)
    }

    /// A connection was found whose opening was not seen.
    pub(crate) fn adopted(&mut self, label: &Label) {
        self.introduce(label);
        self.adopted.with_label_values(&names(label)).inc();
    }

    /// A connection opened.
    pub(crate) fn opened(&mut self, label: &Label) {
        self.introduce(label);
        self.opened.with_label_values(&names(label)).inc();
    }

    /// The heads of an opening were read. Only a server that clients of this host chose gets an info:
    /// who connects to a server of this host writes what he likes.
    pub(crate) fn heads(&mut self, label: &Label, opening: &Opening, missing: Missing) {
        self.introduce(label);
        for (head, reason) in [("request", missing.request), ("response", missing.response)] {
            if let Some(reason) = reason {
                self.heads_unparsed
                    .with_label_values(&[head, reason.name()])
                    .inc();
            }
        }
        let info = [&opening.host, &opening.server_software];
        if label.role == Role::Server || label.is_other() || info.iter().all(|text| text.is_none())
        {
            return;
        }
        let [host, software] = self
            .infos
            .entry(label.server.clone())
            .or_insert_with(|| info.map(|text| text.clone().unwrap_or_default()));
        self.server_info
            .with_label_values(&[&label.server, host, software])
            .set(1);
    }

    /// An end sent its first Close frame.
    pub(crate) fn close_frame(&mut self, label: &Label, sender: Role, code: Option<u16>) {
        self.introduce(label);
        let [role, server] = names(label);
        let code = code_name(code);
        self.close_frames
            .with_label_values(&[role, server, role_name(sender), &code])
            .inc();
    }

    /// A connection ended.
    pub(crate) fn ended(&mut self, label: &Label, judgement: &Judgement) {
        self.introduce(label);
        let [role, server] = names(label);
        self.ended
            .with_label_values(&[role, server, outcome_name(judgement.outcome)])
            .inc();
        if let Some(duration) = judgement.close_handshake {
            self.close_handshake
                .with_label_values(&[role, server])
                .observe(duration.as_secs_f64());
        }
        if let Some(duration) = judgement.close_to_fin {
            let first_end = role_name(judgement.first_end);
            self.close_to_fin
                .with_label_values(&[role, server, first_end])
                .observe(duration.as_secs_f64());
        }
        let holders: &[Role] = match judgement.time_wait {
            TimeWait::Client => &[Role::Client],
            TimeWait::Server => &[Role::Server],
            TimeWait::Both => &ROLES,
            TimeWait::None => &[],
        };
        for holder in holders {
            self.time_wait_entered
                .with_label_values(&[role, server, role_name(*holder)])
                .inc();
        }
    }

    /// What is live, by label; a server that is not among it has nothing live.
    pub(crate) fn live(&mut self, live: &HashMap<Label, Live>, now: Duration) {
        for label in live.keys() {
            self.introduce(label);
        }
        for label in &self.labels {
            let [role, server] = names(label);
            let live = live.get(label).copied().unwrap_or_default();
            for (phase, count) in Phase::ALL.iter().zip(live.phases) {
                let count = i64::try_from(count).unwrap_or(i64::MAX);
                self.connections
                    .with_label_values(&[role, server, phase.name()])
                    .set(count);
            }
            for (series, since) in [
                (&self.awaiting_fin_oldest, live.awaiting_fin_since),
                (&self.half_closed_oldest, live.half_closed_since),
            ] {
                let age = since.map(|since| now.saturating_sub(since));
                series
                    .with_label_values(&[role, server])
                    .set(age.unwrap_or_default().as_secs_f64());
            }
        }
    }

    /// What was listed: how much is in TIME_WAIT by server, and how it went.
    pub(crate) fn time_wait(
        &mut self,
        sockets: impl Iterator<Item = (Label, u64)>,
        listing: &Listing,
    ) {
        self.time_wait.set(sockets, listing);
    }

    /// Whether a server is flagged as slow. `other` never is, and has no flag.
    pub(crate) fn slow(&mut self, label: &Label, slow: bool) {
        self.introduce(label);
        self.server_slow
            .with_label_values(&names(label))
            .set(slow.into());
    }

    /// These probes are attached.
    pub(crate) fn attached(&mut self, probes: &[&str]) {
        for probe in probes {
            self.probe_attached.with_label_values(&[probe]).set(1);
        }
    }

    /// What the kernel side could not see or tell, and how many of its events could not be read.
    pub(crate) fn kernel_losses(&mut self, counters: &[(Counter, u64)], malformed: u64) {
        raise(
            &self.events_lost.with_label_values(&["malformed"]),
            malformed,
        );
        for (counter, count) in counters {
            let series = match counter {
                Counter::EventLost => self.events_lost.with_label_values(&["ring_full"]),
                Counter::EndLost => self.events_lost.with_label_values(&["ring_full_at_end"]),
                Counter::SocketLost => self.sockets_lost.with_label_values(&["storage"]),
                Counter::ResponseGap => self.sockets_lost.with_label_values(&["response_gap"]),
                Counter::ResponseTooLong => {
                    self.sockets_lost.with_label_values(&["response_too_long"])
                }
                Counter::ResponseUnasked => {
                    self.sockets_lost.with_label_values(&["response_unasked"])
                }
                Counter::ClosedBefore => self.sockets_lost.with_label_values(&["closed_before"]),
                Counter::RequestGap => self.heads_unparsed.with_label_values(&["request", "gap"]),
                Counter::StreamLost(direction, why) => self
                    .streams_lost
                    .with_label_values(&[direction_name(*direction), lost_name(*why)]),
                Counter::Relocked(direction) => self
                    .streams_relocked
                    .with_label_values(&[direction_name(*direction)]),
                Counter::Candidate => self.candidates.clone(),
                Counter::Rejected => self.candidates_rejected.clone(),
            };
            raise(&series, *count);
        }
    }

    /// A connection ended of whose opening no head ever came.
    pub(crate) fn heads_unseen(&mut self) {
        for head in ["request", "response"] {
            self.heads_unparsed
                .with_label_values(&[head, Unparsed::Unseen.name()])
                .inc();
        }
    }

    /// Totals that others keep since the start.
    pub(crate) fn totals(&mut self, servers_folded: u64, records_written: u64, records_lost: u64) {
        raise(&self.servers_folded, servers_folded);
        raise(&self.records_written, records_written);
        raise(&self.records_lost, records_lost);
    }

    /// Connections were dropped whose end was not seen.
    pub(crate) fn swept(&mut self, connections: usize) {
        self.connections_swept.inc_by(connections as u64);
    }

    /// Removes all series of a server.
    pub(crate) fn forget(&mut self, label: &Label) {
        if !self.labels.remove(label) {
            return;
        }
        // A series that never was is no error here.
        let [role, server] = names(label);
        let _ = self.opened.remove_label_values(&[role, server]);
        let _ = self.adopted.remove_label_values(&[role, server]);
        let _ = self.close_handshake.remove_label_values(&[role, server]);
        let _ = self
            .awaiting_fin_oldest
            .remove_label_values(&[role, server]);
        let _ = self.half_closed_oldest.remove_label_values(&[role, server]);
        let _ = self.server_slow.remove_label_values(&[role, server]);
        self.time_wait.forget([role, server]);
        for phase in Phase::ALL {
            let _ = self
                .connections
                .remove_label_values(&[role, server, phase.name()]);
        }
        for outcome in outcomes() {
            let _ = self
                .ended
                .remove_label_values(&[role, server, outcome_name(outcome)]);
        }
        for end in ROLES.map(role_name) {
            let _ = self.close_to_fin.remove_label_values(&[role, server, end]);
            let _ = self
                .time_wait_entered
                .remove_label_values(&[role, server, end]);
            for code in codes() {
                let _ = self
                    .close_frames
                    .remove_label_values(&[role, server, end, &code]);
            }
        }
        if label.role == Role::Client
            && let Some([host, software]) = self.infos.remove(server)
        {
            let _ = self
                .server_info
                .remove_label_values(&[server, &host, &software]);
        }
    }

    /// All metrics, to be encoded elsewhere: with 1,000 servers that takes a quarter of a second, in which
    /// the loop has better to do.
    pub(crate) fn exposition(&self) -> Exposition {
        Exposition(self.registry.clone())
    }

    /// Makes a server's series that can be foretold, at 0. Close codes come as they are seen.
    fn introduce(&mut self, label: &Label) {
        if !self.labels.insert(label.clone()) {
            return;
        }
        let [role, server] = names(label);
        self.opened.with_label_values(&[role, server]);
        self.adopted.with_label_values(&[role, server]);
        self.close_handshake.with_label_values(&[role, server]);
        self.awaiting_fin_oldest.with_label_values(&[role, server]);
        self.half_closed_oldest.with_label_values(&[role, server]);
        if !label.is_other() {
            self.server_slow.with_label_values(&[role, server]);
        }
        for phase in Phase::ALL {
            self.connections
                .with_label_values(&[role, server, phase.name()]);
        }
        for outcome in outcomes() {
            self.ended
                .with_label_values(&[role, server, outcome_name(outcome)]);
        }
        for end in ROLES.map(role_name) {
            self.close_to_fin.with_label_values(&[role, server, end]);
            self.time_wait_entered
                .with_label_values(&[role, server, end]);
        }
    }
}

fn names(label: &Label) -> [&str; 2] {
    [role_name(label.role), &label.server]
}

#[cfg(test)]
mod tests;
