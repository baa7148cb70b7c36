//! `/api/v1/health`: the daemon itself, and what it could not see.

use serde::Serialize;

use crate::{clock::Utc, metrics::Unseen};

#[derive(Debug, Serialize)]
pub(crate) struct Health {
    pub(crate) time: Utc,
    pub(crate) version: &'static str,
    pub(crate) started_at: Utc,
    pub(crate) uptime_seconds: f64,
    pub(crate) slow_after_seconds: f64,
    pub(crate) probes: Vec<Probe>,
    /// Connections that are live now.
    pub(crate) connections: u64,
    pub(crate) servers: ServerCount,
    /// Null without `--records`.
    pub(crate) records: Option<Records>,
    /// Every counter of what could not be seen or told, those at 0 too.
    pub(crate) unseen: Vec<Unseen>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Probe {
    pub(crate) name: &'static str,
    pub(crate) attached: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct ServerCount {
    /// Servers with figures of their own.
    pub(crate) known: usize,
    /// `--max-servers`.
    pub(crate) max: usize,
}

#[derive(Debug, Serialize)]
pub(crate) struct Records {
    pub(crate) written: u64,
    pub(crate) lost: u64,
    /// Those that are still to be written.
    pub(crate) waiting: u64,
}
