//! Answers as a daemon gives them, for tests.

use std::time::Instant;

use serde_json::{Value, json};

use super::{
    answers::{Answers, Connections},
    hanging::Hanging,
};

/// What the tests say of a server; the rest is as quiet as can be.
pub(super) struct Sample {
    pub(super) server: &'static str,
    pub(super) role: &'static str,
    pub(super) host: &'static str,
    pub(super) slow: bool,
    pub(super) ended: u64,
    pub(super) slow_closes: u64,
    pub(super) hangs: Option<f64>,
}

pub(super) const QUIET: Sample = Sample {
    server: "192.0.2.1:80",
    role: "server",
    host: "chat.example.com",
    slow: false,
    ended: 0,
    slow_closes: 0,
    hangs: None,
};

impl Sample {
    fn encoded(&self) -> Value {
        let mut by_client = vec![0; 20];
        by_client[12] = self.slow_closes;
        let mut by_server = vec![0; 20];
        by_server[0] = self.ended - self.slow_closes;
        let minutes = |last: u64| {
            let mut minutes = vec![0; 60];
            minutes[59] = last;
            minutes
        };
        let late = |seconds: f64| (self.slow_closes > 0).then_some(seconds);
        json!({
            "server": self.server, "role": self.role, "slow": self.slow,
            "slow_since": self.slow.then_some("2026-11-22T21:26:35.104000000Z"),
            "live": {
                "open": 2, "awaiting_close_frame": 0, "half_closed": 0,
                "awaiting_fin": u64::from(self.hangs.is_some()),
            },
            "awaiting_fin_oldest_seconds": self.hangs, "half_closed_oldest_seconds": null,
            "ended": self.ended,
            "outcomes": {"clean": self.ended - self.slow_closes, "client_gave_up": self.slow_closes, "abnormal": 0},
            "slow_closes": self.slow_closes,
            "window": {
                "seconds": 300.0, "ended": self.ended, "slow": self.slow_closes,
                "p50_seconds": late(4.0), "p99_seconds": null, "longest_seconds": late(4.01),
            },
            "close_to_fin": {
                "client": {"counts": by_client, "sum_seconds": 4.0},
                "server": {"counts": by_server, "sum_seconds": 0.0},
            },
            "last_hour": {"step_seconds": 60.0, "ended": minutes(self.ended), "slow": minutes(self.slow_closes)},
            "time_wait": {
                "entered": {"client": self.slow_closes, "server": self.ended - self.slow_closes, "both": 0, "none": 0},
                "current": null,
            },
            "hosts": [self.host], "hosts_more": false, "software": "Python/3.11 websockets/15.0",
            "of_a_later_version": {"is": ["ignored"]},
        })
    }
}

/// What a daemon says at one time of these servers, each with one connection that hangs if it has any.
pub(super) fn answers(samples: &[Sample], at: Instant) -> Answers {
    let edges = [
        0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.5, 4.0, 7.5, 12.0, 18.0,
        25.0, 45.0, 90.0,
    ];
    let servers = json!({
        "time": "2026-11-22T21:29:40.000000000Z", "slow_after_seconds": 1.0, "edges_seconds": edges,
        "total": samples.len(),
        "servers": samples.iter().map(Sample::encoded).collect::<Vec<_>>(),
    });
    let connections = samples.iter().filter_map(|sample| {
        let age = sample.hangs?;
        // Both ends of a server tell of the same connection.
        let same = |other: &Sample| other.server == sample.server;
        let client = format!("198.51.100.7:{}", 50_000 + samples.iter().position(same)?);
        let (local, remote) = match sample.role {
            "server" => (sample.server.to_owned(), client),
            _ => (client, sample.server.to_owned()),
        };
        Some(json!({
            "server": sample.server, "role": sample.role, "local": local, "remote": remote,
            "phase": "awaiting_fin", "age_seconds": age, "host": sample.host, "path": "/live",
            "cgroup": "/system.slice/chat.service",
        }))
    });
    let connections = json!({"connections": connections.collect::<Vec<_>>(), "next": null});
    let connections: Connections = serde_json::from_value(connections).unwrap();
    let health = json!({
        "time": "2026-11-22T21:29:40.000000000Z", "version": "0.1.0", "uptime_seconds": 185.0,
        "probes": [{"name": "observe_egress", "attached": true}, {"name": "observe_ingress", "attached": true}],
        "connections": 14, "servers": {"known": samples.len(), "max": 1000},
        "records": {"written": 20, "lost": 0},
        "unseen": [
            {"metric": "closewatch_events_lost_total", "labels": {"reason": "ring_full"}, "count": 0},
            {"metric": "closewatch_servers_folded_total", "labels": {}, "count": 0},
        ],
    });
    Answers {
        at,
        servers: serde_json::from_value(servers).unwrap(),
        hanging: Hanging::new(vec![connections], 1.0),
        health: serde_json::from_value(health).unwrap(),
        detail: None,
    }
}

/// A clean server, one that is late, one that never closes, and the same seen by its clients.
pub(super) fn busy(at: Instant) -> Answers {
    let hangs = Sample {
        server: "192.0.2.1:9003",
        slow: true,
        ended: 10,
        slow_closes: 10,
        hangs: Some(12.3),
        host: "hangs.example.com",
        ..QUIET
    };
    answers(
        &[
            Sample {
                role: "client",
                hangs: Some(12.2),
                ..hangs
            },
            hangs,
            Sample {
                server: "192.0.2.1:9002",
                slow: true,
                ended: 1234,
                slow_closes: 617,
                host: "late.example.com",
                ..QUIET
            },
            Sample {
                server: "[2001:db8::1:2:3:4]:9001",
                ended: 20,
                ..QUIET
            },
        ],
        at,
    )
}
