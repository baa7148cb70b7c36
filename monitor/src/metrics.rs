//! Every metric: name, help, labels, buckets. Names and labels are a public promise.
//!
//! In: what happened, under which label. Out: the Prometheus text format 0.0.4. Decides nothing about
//! which servers have a label; makes a server's series at 0 when it first hears of it, and removes
//! them when told.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    mem,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use monitor_ebpf::event::Role;
use prometheus::{
    Gauge, Histogram, HistogramOpts, IntGaugeVec, Opts, Registry, TEXT_FORMAT, TextEncoder,
    core::Collector, proto::Metric,
};
use serde::Serialize;

use self::{
    endpoint::EndpointMetrics,
    keeping::Keeping,
    register::{gauges, register},
    series::{Series, index},
    sight::{BOUND, Sight},
    text::{Copied, Text},
    time_wait::ListingMetrics,
    tls::TlsMetrics,
};
pub(crate) use self::{register::edges, sight::Search};
use crate::{
    heads::{Missing, Opening},
    http::Figures,
    outcome::{Judgement, TimeWait},
    servers::Label,
    time_wait::Listing,
    tracker::Live,
};

mod endpoint;
mod families;
mod keeping;
mod register;
mod series;
mod sight;
mod sink;
mod text;
mod time_wait;
mod tls;

/// The type of what is [`Writing`].
pub(crate) const CONTENT_TYPE: &str = TEXT_FORMAT;

/// Edges in seconds: a loop that has the CPU is within the first ones.
const EVENT_DELAYS: [f64; 10] = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0];

const ROLES: [Role; 2] = [Role::Client, Role::Server];

pub(crate) struct Metrics {
    registry: Registry,
    edges: Arc<[f64]>,
    servers: HashMap<Label, Series>,

    event_delay: Histogram,
    /// What could not be seen.
    pub(crate) sight: Sight,
    /// What could not be kept.
    pub(crate) keeping: Keeping,
    endpoint: EndpointMetrics,
    listing: ListingMetrics,
    /// Where TLS is followed.
    pub(crate) tls: TlsMetrics,
    probe_attached: IntGaugeVec,
}

/// A counter of what could not be seen or told, under its name and labels.
#[derive(Debug, Serialize)]
pub(crate) struct Unseen {
    metric: String,
    labels: BTreeMap<String, String>,
    count: u64,
}

/// All metrics: those of servers as they were, the others as they are when this is written.
#[derive(Debug)]
pub(crate) struct Exposition {
    registry: Registry,
    servers: Copied,
}

/// The text of an exposition, written piece by piece: the whole would be megabytes of fresh memory.
pub(crate) struct Writing {
    /// All that is not of servers, until it was taken.
    first: String,
    servers: Text,
    left: usize,
}

impl Exposition {
    /// The text format.
    pub(crate) fn write(self) -> Result<Writing> {
        let mut first = String::new();
        TextEncoder::new()
            .encode_utf8(&self.registry.gather(), &mut first)
            .context("encode the metrics")?;
        let servers = Text::of(self.servers);
        let left = first.len() + servers.length();
        Ok(Writing {
            first,
            servers,
            left,
        })
    }
}

#[cfg(test)]
impl Exposition {
    /// All of it at once.
    pub(crate) fn text(self) -> String {
        let mut text = Vec::new();
        self.write().unwrap().take(&mut text, usize::MAX);
        String::from_utf8(text).unwrap()
    }
}

impl Writing {
    /// How many bytes were not taken yet.
    pub(crate) fn left(&self) -> usize {
        self.left
    }

    /// Adds what comes next to `piece`, up to about this many bytes: some samples more.
    pub(crate) fn take(&mut self, piece: &mut Vec<u8>, enough: usize) {
        let before = piece.len();
        piece.extend(mem::take(&mut self.first).into_bytes());
        self.servers.take(piece, before.saturating_add(enough));
        self.left -= piece.len() - before;
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
        Ok(Self {
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
            sight: Sight::new(r)?,
            keeping: Keeping::new(r)?,
            endpoint: EndpointMetrics::new(r)?,
            listing: ListingMetrics::new(r)?,
            tls: TlsMetrics::new(r)?,
            probe_attached: gauges(
                r,
                "probe_attached",
                "1 if the probe is attached to the kernel.",
                &["probe"],
            )?,
            edges: edges(slow_after).into(),
            servers: HashMap::new(),
            registry,
        })
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
        self.sight.heads(missing);
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

    /// What is live, by label, which may come more than once; a server that is not among it has nothing live.
    pub(crate) fn live<'a>(
        &mut self,
        live: impl Iterator<Item = (Cow<'a, Label>, Live)>,
        now: Duration,
    ) {
        for series in self.servers.values_mut() {
            series.nothing_live();
        }
        for (label, live) in live {
            self.with(&label, |series| series.live(&live, now));
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
        self.with(label, |series| series.slow = slow);
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

    /// Every counter of what could not be seen or told, as far as it was brought up to date.
    pub(crate) fn unseen(&self) -> Vec<Unseen> {
        let counters = self.sight.counters().into_iter();
        let families = counters
            .chain(self.keeping.counters())
            .chain([&self.tls.unsupported as &dyn Collector])
            .flat_map(|one| one.collect());
        let unseen = families.flat_map(|family| {
            let of_family = family.get_metric().iter();
            let of_family = of_family.filter(|metric| !is_no_loss(metric));
            let of_family = of_family.map(|metric| Unseen {
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

    /// Does something with the series of a server, which begin at 0, and are mostly there.
    fn with(&mut self, label: &Label, change: impl FnOnce(&mut Series)) {
        match self.servers.get_mut(label) {
            Some(series) => change(series),
            None => change(self.servers.entry(label.clone()).or_default()),
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

/// Of a metric that counts what is lost and what is not.
fn is_no_loss(metric: &Metric) -> bool {
    let labels = metric.get_label();
    labels.iter().any(|label| label.value() == BOUND)
}

#[cfg(test)]
mod tests;
