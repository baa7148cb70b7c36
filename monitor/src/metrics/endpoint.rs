//! How the endpoint itself is doing.

use anyhow::Result;
use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Registry};

use super::register::{counters, gauges, raise, register};
use crate::http::Figures;

pub(super) struct EndpointMetrics {
    connections: IntGauge,
    dropped: IntCounterVec,
    refused: IntCounterVec,
    /// Without a series where there is nothing to tell.
    web_config_valid: IntGaugeVec,
    certificate_expires: IntGaugeVec,
}

impl EndpointMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self> {
        let connections = IntGauge::new(
            "closewatch_http_connections",
            "Connections to this endpoint.",
        )?;
        Ok(Self {
            connections: register(registry, connections)?,
            dropped: counters(
                registry,
                "http_connections_dropped_total",
                "Connections to this endpoint that the daemon ended.",
                &["reason"],
            )?,
            refused: counters(
                registry,
                "http_requests_refused_total",
                "Requests to this endpoint that were not answered.",
                &["reason"],
            )?,
            web_config_valid: gauges(
                registry,
                "web_config_valid",
                "1 while the file of --web-config is in force as it is.",
                &[],
            )?,
            certificate_expires: gauges(
                registry,
                "web_certificate_expiry_timestamp_seconds",
                "When the certificate of this endpoint expires, in seconds since 1970.",
                &[],
            )?,
        })
    }

    pub(super) fn set(&self, figures: &Figures) {
        self.connections.set(figures.connections as i64);
        for (reason, count) in &figures.dropped {
            raise(&self.dropped.with_label_values(&[reason]), *count);
        }
        for (reason, count) in &figures.refused {
            raise(&self.refused.with_label_values(&[reason]), *count);
        }
        tell(
            &self.web_config_valid,
            figures.web_config_valid.map(i64::from),
        );
        tell(&self.certificate_expires, figures.certificate_expires);
    }
}

fn tell(gauge: &IntGaugeVec, value: Option<i64>) {
    match value {
        Some(value) => gauge.with_label_values::<&str>(&[]).set(value),
        None => gauge.reset(),
    }
}
