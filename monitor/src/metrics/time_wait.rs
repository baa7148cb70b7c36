//! The metrics of what is listed: TIME_WAIT now, and how far the listing reached.

use anyhow::Result;
use prometheus::{Gauge, IntGaugeVec, Opts, Registry};

use super::{
    names,
    register::{gauges, register},
};
use crate::{servers::Label, time_wait::Listing};

pub(super) struct TimeWaitMetrics {
    sockets: IntGaugeVec,
    namespaces: IntGaugeVec,
    listing_seconds: Gauge,
}

impl TimeWaitMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self> {
        let metrics = Self {
            sockets: gauges(
                registry,
                "time_wait_sockets",
                "Sockets of connections with the server that are in TIME_WAIT in this kernel now, at most 5 s old: held by the server with role=\"server\", by clients with role=\"client\".",
                &["role", "server"],
            )?,
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

    pub(super) fn set(&mut self, sockets: impl Iterator<Item = (Label, u64)>, listing: &Listing) {
        // No figure at all is better than one that is too low without a sign of it.
        if listing.listed == 0 && listing.refused + listing.failed > 0 {
            self.sockets.reset();
        } else {
            for (label, count) in sockets {
                let series = self.sockets.with_label_values(&names(&label));
                series.set(i64::try_from(count).unwrap_or(i64::MAX));
            }
        }
        self.results(listing.listed, listing.refused, listing.failed);
        self.listing_seconds.set(listing.took.as_secs_f64());
    }

    pub(super) fn forget(&mut self, names: [&str; 2]) {
        // A series that never was is no error here.
        let _ = self.sockets.remove_label_values(&names);
    }

    fn results(&self, listed: usize, refused: usize, failed: usize) {
        for (result, count) in [("listed", listed), ("refused", refused), ("failed", failed)] {
            let series = self.namespaces.with_label_values(&[result]);
            series.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}
