//! How far the listing of TIME_WAIT reached.

use anyhow::Result;
use prometheus::{Gauge, IntGaugeVec, Opts, Registry};

use super::register::{gauges, register};
use crate::time_wait::Listing;

pub(super) struct ListingMetrics {
    namespaces: IntGaugeVec,
    listing_seconds: Gauge,
}

impl ListingMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self> {
        let metrics = Self {
            namespaces: gauges(
                registry,
                "time_wait_namespaces",
                "Network namespaces with followed connections, by what became of listing their sockets in TIME_WAIT: listed, refused (this process may not enter), failed.",
                &["result"],
            )?,
            listing_seconds: register(
                registry,
                Gauge::with_opts(Opts::new(
                    "closewatch_time_wait_listing_seconds",
                    "How long the latest listing of sockets in TIME_WAIT took.",
                ))?,
            )?,
        };
        metrics.results(0, 0, 0);
        Ok(metrics)
    }

    pub(super) fn set(&self, listing: &Listing) {
        self.results(listing.listed, listing.refused, listing.failed);
        self.listing_seconds.set(listing.took.as_secs_f64());
    }

    fn results(&self, listed: usize, refused: usize, failed: usize) {
        for (result, count) in [("listed", listed), ("refused", refused), ("failed", failed)] {
            let series = self.namespaces.with_label_values(&[result]);
            series.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}
