//! Makes metrics of one prefix and registers them.

use std::time::Duration;

use anyhow::{Context, Result};
use prometheus::{
    IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, core::Collector,
};

/// Histogram edges in seconds, between the timers of clients in the wild (1, 2, 5, 10, 30 s) rather
/// than on them. slow-after is merged in.
pub(super) const EDGES: [f64; 18] = [
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.5, 2.5, 4.0, 7.5, 12.0, 18.0, 25.0,
    45.0, 90.0,
];

/// Brings a counter up to an absolute value that someone else keeps.
pub(super) fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

/// Upper edges of the histograms, in seconds.
pub(crate) fn edges(slow_after: Duration) -> Vec<f64> {
    let mut edges = EDGES.to_vec();
    edges.push(slow_after.as_secs_f64());
    edges.sort_by(f64::total_cmp);
    edges.dedup();
    edges
}

pub(super) fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter> {
    register(
        registry,
        IntCounter::new(format!("closewatch_{name}"), help)?,
    )
}

pub(super) fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec> {
    register(
        registry,
        IntCounterVec::new(Opts::new(format!("closewatch_{name}"), help), labels)?,
    )
}

pub(super) fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge> {
    register(registry, IntGauge::new(format!("closewatch_{name}"), help)?)
}

pub(super) fn gauges(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntGaugeVec> {
    register(
        registry,
        IntGaugeVec::new(Opts::new(format!("closewatch_{name}"), help), labels)?,
    )
}

pub(super) fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> Result<C> {
    registry
        .register(Box::new(collector.clone()))
        .context("register a metric")?;
    Ok(collector)
}
