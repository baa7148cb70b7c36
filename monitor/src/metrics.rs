//! Every metric: name, help, labels, buckets. Names and labels are a public promise.
//!
//! In: what happened, under which label. Out: the Prometheus text format 0.0.4. Decides nothing about
//! which servers have a label; makes a server's series at 0 when it first hears of it, and removes
//! them when told.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use monitor_ebpf::{
    counter::Counter,
    event::{Lost, Role},
    socket::Direction,
};
use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TEXT_FORMAT, TextEncoder, core::Collector,
};
use serde::Serialize;

pub(crate) use self::register::edges;
use self::{
    endpoint::EndpointMetrics,
    register::{counter, counters, gauge, gauges, raise, register},
    series::{Series, index},
    text::Copied,
    time_wait::ListingMetrics,
};
use crate::{
    heads::{Missing, Opening, Unparsed},
    http::Figures,
    labels::{direction_name, lost_name},
    outcome::{Judgement, TimeWait},
    servers::Label,
    time_wait::Listing,
    tracker::Live,
};

mod endpoint;
mod register;
mod series;
mod text;
mod time_wait;

/// The type of what [`Exposition::encode`] gives.
pub(crate) const CONTENT_TYPE: &str = TEXT_FORMAT;

/// Edges in seconds: a loop that has the CPU is within the first ones.
const EVENT_DELAYS: [f64; 10] = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0];

const ROLES: [Role; 2] = [Role::Client, Role::Server];

pub(crate) struct Metrics {
    registry: Registry,
    edges: Arc<[f64]>,
    servers: HashMap<Label, Series>,

    event_delay: Histogram,
    endpoint: EndpointMetrics,
    listing: ListingMetrics,
    probe_attached: IntGaugeVec,
    events_lost: IntCounterVec,
    sockets_lost: IntCounterVec,
    streams_lost: IntCounterVec,
    streams_relocked: IntCounterVec,
    candidates: IntCounter,
    candidates_rejected: IntCounter,
    candidates_undecided: IntCounter,
    heads_unparsed: IntCounterVec,
    servers_folded: IntCounter,
    connections_swept: IntCounter,
    searches_failed: IntCounterVec,
    log_lines_lost: IntCounter,
    records_written: IntCounter,
    records_lost: IntCounter,
    journal_lost: IntCounter,
    records_waiting: IntGauge,
}

/// What the kernel's sockets are searched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Search {
    /// Connections that were open already.
    Open,
    /// Connections that ended unseen.
    Ended,
}

impl Search {
    fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Ended => "ended",
        }
    }
}

/// A counter of what could not be seen or told, under its name and labels.
#[derive(Debug, Serialize)]
pub(crate) struct Unseen {
    metric: String,
    labels: BTreeMap<String, String>,
    count: u64,
}

/// All metrics: those of servers as they were, the others as they are when this is encoded.
#[derive(Debug)]
pub(crate) struct Exposition {
    registry: Registry,
    servers: Copied,
}

impl Exposition {
    /// The text format.
    pub(crate) fn encode(&self) -> Result<String> {
        let mut text = String::new();
        TextEncoder::new()
            .encode_utf8(&self.registry.gather(), &mut text)
            .context("encode the metrics")?;
        self.servers.encode(&mut text);
        Ok(text)
    }
}

impl Metrics {
    /// Registers every metric, in a registry of its own. `slow_after` becomes an edge of the histograms.
    pub(crate) fn new(slow_after: Duration, version: &str) -> Result<Self> {
        let registry = Registry::new();
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
            event_delay: register(
                r,
                Histogram::with_opts(
                    HistogramOpts::new(
                        "closewatch_event_delay_seconds",
                        "From what an event tells to the daemon's taking it in.",
                    )
                    .buckets(EVENT_DELAYS.to_vec()),
                )?,
            )?,
            endpoint: EndpointMetrics::new(r)?,
            listing: ListingMetrics::new(r)?,
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
            candidates_undecided: counter(
                r,
                "adoption_undecided_total",
                "Such connections that ended before they had shown what they are: a WebSocket among them has no record.",
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
            searches_failed: counters(
                r,
                "searches_failed_total",
                "Searches for connections, open already or ended unseen, that the kernel refused.",
                &["search"],
            )?,
            log_lines_lost: counter(
                r,
                "log_lines_lost_total",
                "Lines of the log dropped because whoever reads it was too slow, or away.",
            )?,
            records_written: counter(r, "records_written_total", "Records written.")?,
            records_lost: counter(
                r,
                "records_lost_total",
                "Records dropped because they could not be written and memory for them was full.",
            )?,
            journal_lost: counter(
                r,
                "journal_lost_total",
                "Facts that the journal did not take: a restart would lose them.",
            )?,
            records_waiting: gauge(
                r,
                "records_waiting",
                "Records in memory that are still to be written.",
            )?,
            edges: edges(slow_after).into(),
            servers: HashMap::new(),
            registry,
        };
        metrics.streams_refused();
        for reason in Unparsed::ALL {
            metrics
                .heads_unparsed
                .with_label_values(&["request", reason.name()]);
            metrics
                .heads_unparsed
                .with_label_values(&["response", reason.name()]);
        }
        for search in [Search::Open, Search::Ended] {
            metrics.searches_failed.with_label_values(&[search.name()]);
        }
        Ok(metrics)
    }

    /// Adds the daemon's own cpu, memory and file descriptors as `process_*`.
    pub(crate) fn with_process(self) -> Result<Self> {
        let process = prometheus::process_collector::ProcessCollector::for_self();
        self.registry.register(Box::new(process))?;
        Ok(self)
    }

    /// An event was taken in this long after the kernel saw what it tells.
    pub(crate) fn event(&self, delay: Duration) {
        self.event_delay.observe(delay.as_secs_f64());
    }

    /// A connection was found whose opening was not seen.
    pub(crate) fn adopted(&mut self, label: &Label) {
        self.of(label).adopted += 1;
    }

    /// A connection opened.
    pub(crate) fn opened(&mut self, label: &Label) {
        self.of(label).opened += 1;
    }

    /// The heads of an opening were read. Only a server that clients of this host chose gets an info:
    /// who connects to a server of this host writes what he likes.
    pub(crate) fn heads(&mut self, label: &Label, opening: &Opening, missing: Missing) {
        for (head, reason) in [("request", missing.request), ("response", missing.response)] {
            if let Some(reason) = reason {
                self.heads_unparsed
                    .with_label_values(&[head, reason.name()])
                    .inc();
            }
        }
        let series = self.of(label);
        let info = [&opening.host, &opening.server_software];
        if label.role == Role::Client && !label.is_other() && info.iter().any(|text| text.is_some())
        {
            series
                .info
                .get_or_insert_with(|| info.map(|text| text.clone().unwrap_or_default()));
        }
    }

    /// An end sent its first Close frame.
    pub(crate) fn close_frame(&mut self, label: &Label, sender: Role, code: Option<u16>) {
        self.of(label).close_frame(sender, code);
    }

    /// A connection ended.
    pub(crate) fn ended(&mut self, label: &Label, judgement: &Judgement) {
        let edges = Arc::clone(&self.edges);
        let series = self.of(label);
        series.ended(judgement.outcome);
        if let Some(duration) = judgement.close_handshake {
            series.close_handshake.observe(&edges, duration);
        }
        if let Some(duration) = judgement.close_to_fin {
            series.close_to_fin[index(judgement.first_end)].observe(&edges, duration);
        }
        let holders: &[Role] = match judgement.time_wait {
            TimeWait::Client => &[Role::Client],
            TimeWait::Server => &[Role::Server],
            TimeWait::Both => &ROLES,
            TimeWait::None => &[],
        };
        for holder in holders {
            series.time_wait_entered(*holder);
        }
    }

    /// What is live, by label; a server that is not among it has nothing live.
    pub(crate) fn live(&mut self, live: &HashMap<Label, Live>, now: Duration) {
        for label in live.keys() {
            self.of(label);
        }
        for (label, series) in &mut self.servers {
            series.live(&live.get(label).copied().unwrap_or_default(), now);
        }
    }

    /// How much the latest listing found in TIME_WAIT; none when it could not tell.
    pub(crate) fn time_wait_sockets(&self, label: &Label) -> Option<u64> {
        self.servers.get(label)?.time_wait_sockets
    }

    /// What was listed: how much is in TIME_WAIT by server, and how it went.
    pub(crate) fn time_wait(
        &mut self,
        sockets: impl Iterator<Item = (Label, u64)>,
        listing: &Listing,
    ) {
        self.listing.set(listing);
        for series in self.servers.values_mut() {
            series.time_wait_sockets = None;
        }
        // No figure at all is better than one that is too low without a sign of it.
        if listing.listed > 0 || listing.refused + listing.failed == 0 {
            for (label, count) in sockets {
                self.of(&label).time_wait_sockets = Some(count);
            }
        }
    }

    /// Whether a server is flagged as slow. `other` never is, and has no flag.
    pub(crate) fn slow(&mut self, label: &Label, slow: bool) {
        self.of(label).slow = slow;
    }

    /// How the endpoint itself is doing.
    pub(crate) fn endpoint(&mut self, figures: &Figures) {
        self.endpoint.set(figures);
    }

    /// Which probes are attached.
    pub(crate) fn attached(&mut self, probes: &[(&str, bool)]) {
        for (probe, attached) in probes {
            let series = self.probe_attached.with_label_values(&[probe]);
            series.set(i64::from(*attached));
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
                Counter::Renumbered => self.sockets_lost.with_label_values(&["renumbered"]),
                Counter::RequestGap => self.heads_unparsed.with_label_values(&["request", "gap"]),
                Counter::StreamLost(direction, why) => self
                    .streams_lost
                    .with_label_values(&[direction_name(*direction), lost_name(*why)]),
                Counter::Relocked(direction) => self
                    .streams_relocked
                    .with_label_values(&[direction_name(*direction)]),
                Counter::Candidate => self.candidates.clone(),
                Counter::Rejected => self.candidates_rejected.clone(),
                Counter::Undecided => self.candidates_undecided.clone(),
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

    /// Ended connections that were counted as `other`, since the start.
    pub(crate) fn folded(&mut self, connections: u64) {
        raise(&self.servers_folded, connections);
    }

    /// Lines of the log that were lost since the start.
    pub(crate) fn log_lines_lost(&mut self, lines: u64) {
        raise(&self.log_lines_lost, lines);
    }

    /// Records written and dropped since the start, and those that wait now.
    pub(crate) fn records(&mut self, written: u64, lost: u64, waiting: u64) {
        raise(&self.records_written, written);
        raise(&self.records_lost, lost);
        self.records_waiting
            .set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    /// Facts that the journal did not take since the start.
    pub(crate) fn journal_lost(&self, total: u64) {
        raise(&self.journal_lost, total);
    }

    /// A connection ended of which a Close frame passed that its TCP never took.
    pub(crate) fn refused(&mut self) {
        self.streams_refused().inc();
    }

    fn streams_refused(&self) -> IntCounter {
        let direction = direction_name(Direction::Ingress);
        self.streams_lost
            .with_label_values(&[direction, lost_name(Lost::Refused)])
    }

    /// Connections were dropped whose end was not seen.
    pub(crate) fn swept(&mut self, connections: usize) {
        self.connections_swept.inc_by(connections as u64);
    }

    /// The kernel refused a search.
    pub(crate) fn search_failed(&mut self, search: Search) {
        self.searches_failed
            .with_label_values(&[search.name()])
            .inc();
    }

    /// Every counter of what could not be seen or told, as far as it was brought up to date.
    pub(crate) fn unseen(&self) -> Vec<Unseen> {
        let collectors: [&dyn Collector; 10] = [
            &self.events_lost,
            &self.sockets_lost,
            &self.streams_lost,
            &self.heads_unparsed,
            &self.servers_folded,
            &self.connections_swept,
            &self.searches_failed,
            &self.records_lost,
            &self.journal_lost,
            &self.log_lines_lost,
        ];
        let families = collectors.iter().flat_map(|one| one.collect());
        let unseen = families.flat_map(|family| {
            let of_family = family.get_metric().iter().map(|metric| Unseen {
                metric: family.name().to_owned(),
                labels: metric
                    .get_label()
                    .iter()
                    .map(|label| (label.name().to_owned(), label.value().to_owned()))
                    .collect(),
                count: metric.get_counter().get_value() as u64,
            });
            let mut of_family: Vec<_> = of_family.collect();
            of_family.sort_by(|a, b| a.labels.cmp(&b.labels));
            of_family
        });
        unseen.collect()
    }

    /// Removes all series of a server.
    pub(crate) fn forget(&mut self, label: &Label) {
        self.servers.remove(label);
    }

    /// All metrics, to be encoded elsewhere: with thousands of servers that takes longer than the loop
    /// should be away.
    pub(crate) fn exposition(&self) -> Exposition {
        Exposition {
            registry: self.registry.clone(),
            servers: Copied::of(&self.servers, &self.edges),
        }
    }

    /// The series of a server, which begin at 0.
    fn of(&mut self, label: &Label) -> &mut Series {
        if !self.servers.contains_key(label) {
            self.servers.insert(label.clone(), Series::default());
        }
        self.servers.get_mut(label).expect("it was put in")
    }
}

#[cfg(test)]
mod tests;
