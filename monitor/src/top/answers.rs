//! What the daemon's API answers, as far as it is shown.
//!
//! Shapes of our own, not the daemon's: the API is a public promise, and the daemon that is asked may be
//! older or newer than this program. Fields that are not known here are ignored.

use std::{collections::BTreeMap, time::Instant};

use jiff::Timestamp;
use serde::Deserialize;

use super::{hanging::Hanging, text::Text};

/// Everything that was asked for at one time.
#[derive(Clone, Debug)]
pub(super) struct Answers {
    /// When it was here.
    pub(super) at: Instant,
    pub(super) servers: Servers,
    pub(super) hanging: Hanging,
    pub(super) health: Health,
    /// What hangs at the server whose details are shown.
    pub(super) detail: Option<(Key, Hanging)>,
}

/// Which server is meant, and seen from which end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) server: Text,
    pub(super) role: Role,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
pub(super) enum Role {
    Client,
    Server,
}

impl Role {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// `/api/v1/servers`
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Servers {
    pub(super) time: Timestamp,
    pub(super) slow_after_seconds: f64,
    pub(super) edges_seconds: Vec<f64>,
    pub(super) total: u64,
    pub(super) servers: Vec<Server>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Server {
    pub(super) server: Text,
    pub(super) role: Role,
    pub(super) slow: bool,
    pub(super) slow_since: Option<Timestamp>,
    pub(super) live: Live,
    pub(super) awaiting_fin_oldest_seconds: Option<f64>,
    pub(super) half_closed_oldest_seconds: Option<f64>,
    pub(super) ended: u64,
    pub(super) outcomes: BTreeMap<Text, u64>,
    pub(super) slow_closes: u64,
    pub(super) window: Option<Window>,
    pub(super) close_to_fin: CloseToFin,
    pub(super) last_hour: LastHour,
    pub(super) time_wait: TimeWait,
    pub(super) hosts: Vec<Text>,
    pub(super) hosts_more: bool,
    pub(super) software: Option<Text>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Live {
    pub(super) open: u64,
    pub(super) awaiting_close_frame: u64,
    pub(super) awaiting_fin: u64,
    pub(super) half_closed: u64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Window {
    pub(super) seconds: f64,
    pub(super) ended: u64,
    pub(super) slow: u64,
    pub(super) p50_seconds: Option<f64>,
    pub(super) p99_seconds: Option<f64>,
    pub(super) longest_seconds: Option<f64>,
}

/// By who made the first end.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct CloseToFin {
    pub(super) client: Histogram,
    pub(super) server: Histogram,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Histogram {
    /// One for each edge, and one for what is above all.
    pub(super) counts: Vec<u64>,
}

/// The oldest minute first.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct LastHour {
    pub(super) ended: Vec<u64>,
    pub(super) slow: Vec<u64>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct TimeWait {
    pub(super) entered: Holders,
    pub(super) current: Option<u64>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Holders {
    pub(super) client: u64,
    pub(super) server: u64,
    pub(super) both: u64,
    pub(super) none: u64,
}

impl Server {
    pub(super) fn key(&self) -> Key {
        Key {
            server: self.server.clone(),
            role: self.role,
        }
    }

    /// How long the connection that hangs longest did so already when the daemon answered.
    pub(super) fn hangs(&self) -> Option<f64> {
        let both = [
            self.awaiting_fin_oldest_seconds,
            self.half_closed_oldest_seconds,
        ];
        both.into_iter().flatten().reduce(f64::max)
    }

    /// How long it was flagged already at that moment.
    pub(super) fn slow_for(&self, time: Timestamp) -> Option<f64> {
        let since = self.slow_since.filter(|_| self.slow)?;
        Some(time.duration_since(since).as_secs_f64().max(0.0))
    }
}

/// `/api/v1/connections`
#[derive(Debug, Deserialize)]
pub(super) struct Connections {
    pub(super) connections: Vec<Connection>,
    pub(super) next: Option<Text>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Connection {
    pub(super) server: Text,
    pub(super) role: Role,
    pub(super) local: Text,
    pub(super) remote: Text,
    pub(super) phase: Text,
    pub(super) age_seconds: f64,
    pub(super) host: Option<Text>,
    pub(super) path: Option<Text>,
    pub(super) cgroup: Option<Text>,
}

/// `/api/v1/health`
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Health {
    pub(super) version: Text,
    pub(super) uptime_seconds: f64,
    pub(super) probes: Vec<Probe>,
    pub(super) connections: u64,
    pub(super) servers: ServerCount,
    pub(super) records: Option<Records>,
    pub(super) unseen: Vec<Unseen>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Probe {
    pub(super) name: Text,
    pub(super) attached: bool,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct ServerCount {
    pub(super) known: u64,
    pub(super) max: u64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Records {
    pub(super) written: u64,
    pub(super) lost: u64,
}

/// A counter of what could not be seen or told.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Unseen {
    pub(super) metric: Text,
    pub(super) labels: BTreeMap<Text, Text>,
    pub(super) count: u64,
}

impl Health {
    /// The sum of the counters whose name ends like this.
    pub(super) fn unseen(&self, ending: &str) -> u64 {
        let counters = self.unseen.iter();
        counters
            .filter(|counter| counter.metric.as_str().ends_with(ending))
            .map(|counter| counter.count)
            .fold(0, u64::saturating_add)
    }

    pub(super) fn attached(&self) -> usize {
        self.probes.iter().filter(|probe| probe.attached).count()
    }
}

/// A refusal.
#[derive(Debug, Deserialize)]
pub(super) struct Refusal {
    pub(super) error: Reason,
}

#[derive(Debug, Deserialize)]
pub(super) struct Reason {
    pub(super) message: Text,
}
