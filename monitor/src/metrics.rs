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
use monitor_ebpf::{
    counter::Counter,
    event::{Lost, Role},
    socket::Direction,
};
use prometheus::{
    Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts,
    Registry, TEXT_FORMAT, TextEncoder, core::Collector,
};

use crate::{
    heads::{Missing, Opening, Unparsed},
    outcome::{Judgement, Outcome, TimeWait, role_name},
    servers::Label,
    tracker::{Live, Phase},
};

/// The type of what [`Metrics::encode`] gives.
pub(crate) const CONTENT_TYPE: &str = TEXT_FORMAT;

/// Histogram edges in seconds, between the timers of clients in the wild (1, 2, 5, 10, 30 s) rather
/// than on them. slow-after is merged in.
const EDGES: [f64; 18] = [
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.5, 2.5, 4.0, 7.5, 12.0, 18.0, 25.0,
    45.0, 90.0,
];

const ROLES: [Role; 2] = [Role::Client, Role::Server];

pub(crate) struct Metrics {
    registry: Registry,
    /// The servers that have series.
    labels: HashSet<Label>,
    /// The host and software in `server_info`, of servers of which either is known.
    infos: HashMap<String, [String; 2]>,

    connections: IntGaugeVec,
    opened: IntCounterVec,
    ended: IntCounterVec,
    close_handshake: HistogramVec,
    close_to_fin: HistogramVec,
    awaiting_fin_oldest: GaugeVec,
    close_frames: IntCounterVec,
    time_wait_entered: IntCounterVec,
    server_slow: IntGaugeVec,
    server_info: IntGaugeVec,

    probe_attached: IntGaugeVec,
    events_lost: IntCounterVec,
    sockets_lost: IntCounterVec,
    streams_lost: IntCounterVec,
    heads_unparsed: IntCounterVec,
    servers_folded: IntCounter,
    connections_swept: IntCounter,
    records_written: IntCounter,
    records_lost: IntCounter,
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
            awaiting_fin_oldest: register(
                r,
                GaugeVec::new(
                    Opts::new(
                        "closewatch_awaiting_fin_oldest_seconds",
                        "How long the connection that awaits the first FIN for longest does so already; 0 when none does.",
                    ),
                    &["role", "server"],
                )?,
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
            server_slow: gauges(
                r,
                "server_slow",
                "1 while the server is flagged: 3 or more ended connections in 5 minutes and a tenth of them slow closes, or one that awaits the FIN for longer than 10 s and slow-after.",
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
                "WebSocket connections that could not be followed at all.",
                &["reason"],
            )?,
            streams_lost: counters(
                r,
                "streams_lost_total",
                "Directions of connections whose frames could not be followed to their end.",
                &["direction", "reason"],
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
            let oldest = live
                .awaiting_fin_since
                .map(|since| now.saturating_sub(since));
            self.awaiting_fin_oldest
                .with_label_values(&[role, server])
                .set(oldest.unwrap_or_default().as_secs_f64());
        }
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
        let _ = self.close_handshake.remove_label_values(&[role, server]);
        let _ = self
            .awaiting_fin_oldest
            .remove_label_values(&[role, server]);
        let _ = self.server_slow.remove_label_values(&[role, server]);
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

    /// The whole exposition.
    pub(crate) fn encode(&self) -> Result<String> {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .context("encode the metrics")
    }

    /// Makes a server's series that can be foretold, at 0. Close codes come as they are seen.
    fn introduce(&mut self, label: &Label) {
        if !self.labels.insert(label.clone()) {
            return;
        }
        let [role, server] = names(label);
        self.opened.with_label_values(&[role, server]);
        self.close_handshake.with_label_values(&[role, server]);
        self.awaiting_fin_oldest.with_label_values(&[role, server]);
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

fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Egress => "sent",
        Direction::Ingress => "received",
    }
}

fn lost_name(why: Lost) -> &'static str {
    match why {
        Lost::Gap => "gap",
        Lost::InvalidFrame => "invalid_frame",
        Lost::Budget => "budget",
        Lost::Unreadable => "unreadable",
        Lost::Busy => "busy",
    }
}

fn names(label: &Label) -> [&str; 2] {
    [role_name(label.role), &label.server]
}

/// The outcome as a label value.
fn outcome_name(outcome: Option<Outcome>) -> &'static str {
    outcome.map_or(Outcome::UNKNOWN, Outcome::name)
}

/// Every outcome, and that of a connection whose outcome could not be seen.
fn outcomes() -> impl Iterator<Item = Option<Outcome>> {
    Outcome::ALL.into_iter().map(Some).chain([None])
}

/// The status code as a label value (RFC 6455 section 7.4.2 tells the ranges).
fn code_name(code: Option<u16>) -> String {
    match code {
        None => "none".to_owned(),
        Some(code @ 1000..=1015) => code.to_string(),
        Some(3000..=3999) => "3xxx".to_owned(),
        Some(4000..=4999) => "4xxx".to_owned(),
        Some(_) => "invalid".to_owned(),
    }
}

/// Every value of [`code_name`].
fn codes() -> impl Iterator<Item = String> {
    (1000..=1015)
        .map(Some)
        .chain([None, Some(3000), Some(4000), Some(0)])
        .map(code_name)
}

/// Brings a counter up to an absolute value that someone else keeps.
fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

fn edges(slow_after: Duration) -> Vec<f64> {
    let mut edges = EDGES.to_vec();
    edges.push(slow_after.as_secs_f64());
    edges.sort_by(f64::total_cmp);
    edges.dedup();
    edges
}

fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter> {
    register(
        registry,
        IntCounter::new(format!("closewatch_{name}"), help)?,
    )
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec> {
    register(
        registry,
        IntCounterVec::new(Opts::new(format!("closewatch_{name}"), help), labels)?,
    )
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec> {
    register(
        registry,
        IntGaugeVec::new(Opts::new(format!("closewatch_{name}"), help), labels)?,
    )
}

fn histograms(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
    edges: &[f64],
) -> Result<HistogramVec> {
    let options = HistogramOpts::new(format!("closewatch_{name}"), help).buckets(edges.to_vec());
    register(registry, HistogramVec::new(options, labels)?)
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> Result<C> {
    registry
        .register(Box::new(collector.clone()))
        .context("register a metric")?;
    Ok(collector)
}

#[cfg(test)]
mod tests {
    use std::{env, fs, path::Path};

    use super::*;
    use crate::{outcome::judge, timeline::after};

    const SLOW_AFTER: Duration = Duration::from_secs(1);

    /// The exposition is the public API: a change must show in a diff. CLOSEWATCH_BLESS=1 rewrites
    /// the file.
    #[test]
    fn exposition_is_the_golden_one() {
        let mut metrics = metrics();
        let (slow, v6) = (
            label(Role::Client, "198.51.100.1:8765"),
            label(Role::Server, "[2001:db8::1]:443"),
        );
        feed(&mut metrics, &slow);
        feed(&mut metrics, &v6);
        let awaiting_fin_since = Some(Duration::from_secs(5));
        let live = Live {
            phases: [4, 3, 2, 1],
            awaiting_fin_since,
        };
        metrics.live(&HashMap::from([(slow, live)]), Duration::from_secs(12));
        metrics.slow(&v6, false);
        metrics.ended(&Label::other(Role::Client), &judgement("1s server rst"));
        metrics.attached(&["observe_egress", "observe_ingress"]);
        let counters: Vec<_> = Counter::ALL.into_iter().zip(0..).collect();
        metrics.kernel_losses(&counters, 1);
        metrics.kernel_losses(&counters, 1);
        metrics.totals(1, 5, 0);
        metrics.swept(3);
        let exposition = metrics.encode().unwrap();

        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/metrics.txt");
        if env::var_os("CLOSEWATCH_BLESS").is_some() {
            fs::write(&path, &exposition).unwrap();
        }
        let golden = fs::read_to_string(&path).unwrap();
        assert!(
            exposition == golden,
            "differs from {}:\n{exposition}",
            path.display()
        );
    }

    #[test]
    fn forgotten_server_leaves_no_series() {
        let mut metrics = metrics();
        metrics.kernel_losses(&[], 0);
        let before = label(Role::Server, "192.0.2.1:80");
        metrics.opened(&before);
        metrics.slow(&before, false);
        let without = metrics_without_heads(&metrics);
        for role in ROLES {
            let gone = label(role, "198.51.100.1:8765");
            feed(&mut metrics, &gone);
            metrics.forget(&gone);
        }
        assert_eq!(metrics_without_heads(&metrics), without);
    }

    #[test]
    fn slow_after_is_an_edge_once() {
        assert_eq!(edges(Duration::from_millis(750)), EDGES);
        let edges = edges(Duration::from_secs(1));
        assert_eq!(edges[8..11], [0.75, 1.0, 1.5]);
        assert_eq!(edges.len(), EDGES.len() + 1);
    }

    #[test]
    fn close_codes_are_folded() {
        let folded = [
            (None, "none"),
            (Some(999), "invalid"),
            (Some(1000), "1000"),
            (Some(1015), "1015"),
            (Some(1016), "invalid"),
            (Some(3000), "3xxx"),
            (Some(4999), "4xxx"),
            (Some(5000), "invalid"),
        ];
        for (code, name) in folded {
            assert_eq!(code_name(code), name);
        }
        assert_eq!(HashSet::<String>::from_iter(codes()).len(), 20);
    }

    /// One of everything that can happen with a server.
    fn feed(metrics: &mut Metrics, label: &Label) {
        let opening = Opening {
            host: Some("chat.example.com".to_owned()),
            server_software: Some("nginx \"1.2\"".to_owned()),
            ..Opening::default()
        };
        let missing = Missing {
            request: Some(Unparsed::Cut),
            response: None,
        };
        metrics.heads(label, &opening, missing);
        metrics.opened(label);
        metrics.close_frame(label, Role::Client, Some(1000));
        metrics.close_frame(label, Role::Server, None);
        for script in [
            "0s client close; 1ms server close; 2ms server fin; 3ms client fin",
            "0s client close; 1ms server close; 1001ms server fin; 1002ms client crossing fin",
            "0s client close; 1ms server close; 10001ms client fin",
        ] {
            metrics.ended(label, &judgement(script));
        }
        metrics.slow(label, true);
    }

    fn judgement(script: &str) -> Judgement {
        judge(&after(Role::Client, script), SLOW_AFTER)
    }

    fn metrics() -> Metrics {
        Metrics::new(SLOW_AFTER, "0.0.0").unwrap()
    }

    fn metrics_without_heads(metrics: &Metrics) -> String {
        let exposition = metrics.encode().unwrap();
        exposition
            .lines()
            .filter(|line| !line.contains("heads_unparsed"))
            .collect()
    }

    fn label(role: Role, server: &str) -> Label {
        Label {
            role,
            server: server.to_owned(),
        }
    }
}
