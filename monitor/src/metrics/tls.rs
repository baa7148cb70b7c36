//! Where TLS is followed, and where it cannot be.

use anyhow::Result;
use prometheus::{IntCounterVec, IntGauge, Registry};

use super::register::{counters, gauge, raise};
use crate::tls::{Figures, Unsupported};

pub(crate) struct TlsMetrics {
    libraries: IntGauge,
    processes: IntGauge,
    pub(super) unsupported: IntCounterVec,
}

impl TlsMetrics {
    pub(super) fn new(r: &Registry) -> Result<Self> {
        let metrics = Self {
            libraries: gauge(
                r,
                "tls_libraries",
                "Libraries and programs at whose TLS functions the kernel has probes.",
            )?,
            processes: gauge(
                r,
                "tls_processes",
                "Processes that run one of them and are followed.",
            )?,
            unsupported: counters(
                r,
                "tls_files_unsupported_total",
                "Files with TLS that is not followed: a function is lacking (symbols), the kernel does not take the probes (refused), or the file cannot be read (unreadable).",
                &["reason"],
            )?,
        };
        for why in Unsupported::ALL {
            metrics.unsupported.with_label_values(&[why.name()]);
        }
        Ok(metrics)
    }

    /// What the thread found that follows TLS.
    pub(crate) fn set(&self, figures: &Figures) {
        self.libraries.set(figures.libraries().cast_signed());
        self.processes.set(figures.processes().cast_signed());
        for why in Unsupported::ALL {
            let series = self.unsupported.with_label_values(&[why.name()]);
            raise(&series, figures.not_followed(why));
        }
    }
}
