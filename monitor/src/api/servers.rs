//! `/api/v1/servers`: what each server does.

use std::{cmp::Reverse, collections::VecDeque, time::Duration};

use serde::{Serialize, Serializer};

use crate::{
    clock::{Utc, UtcOffset, seconds},
    history::{Buckets, History, Holders, MINUTE, MINUTES},
    labels::{outcome_name, outcomes},
    outcome::role_name,
    servers::{Evidence, Label, WINDOW},
    tracker::{Live, Phase},
};

/// Every server at one moment, out of the loop.
#[derive(Debug)]
pub(crate) struct ServersNow {
    pub(crate) now: Duration,
    pub(crate) offset: UtcOffset,
    pub(crate) slow_after: Duration,
    pub(crate) edges: Vec<f64>,
    pub(crate) rows: Vec<Row>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) label: Label,
    pub(crate) history: History,
    pub(crate) live: Live,
    /// None for `other`.
    pub(crate) evidence: Option<Evidence>,
    /// Entries in TIME_WAIT in this kernel; none when that is not known.
    pub(crate) time_wait: Option<u64>,
}

#[derive(Serialize)]
pub(crate) struct Servers<'a> {
    time: Utc,
    slow_after_seconds: f64,
    /// Upper edges of the buckets; each server has one count for each, and one for what is longer.
    edges_seconds: &'a [f64],
    /// Servers that fit the question, of which `servers` holds the worst.
    total: usize,
    servers: Vec<Server<'a>>,
}

#[derive(Serialize)]
struct Server<'a> {
    server: &'a str,
    role: &'static str,
    slow: bool,
    slow_since: Option<Utc>,
    live: Phases,
    awaiting_fin_oldest_seconds: Option<f64>,
    half_closed_oldest_seconds: Option<f64>,
    ended: u64,
    outcomes: Outcomes<'a>,
    slow_closes: u64,
    window: Option<Window>,
    close_to_fin: CloseToFin<'a>,
    last_hour: LastHour,
    time_wait: TimeWait,
    hosts: &'a VecDeque<String>,
    hosts_more: bool,
    software: Option<&'a str>,
}

/// How many live connections are in each phase.
struct Phases([u64; Phase::ALL.len()]);

/// How many ended connections had each outcome.
struct Outcomes<'a>(&'a [u64]);

#[derive(Serialize)]
struct Window {
    seconds: f64,
    ended: u64,
    slow: u64,
    p50_seconds: Option<f64>,
    p99_seconds: Option<f64>,
    longest_seconds: Option<f64>,
}

/// By who made the first end.
#[derive(Serialize)]
struct CloseToFin<'a> {
    client: Histogram<'a>,
    server: Histogram<'a>,
}

#[derive(Serialize)]
struct Histogram<'a> {
    counts: &'a [u64],
    sum_seconds: f64,
}

/// One number a minute, the oldest first; the last minute has not passed yet.
#[derive(Serialize)]
struct LastHour {
    step_seconds: f64,
    ended: Vec<u64>,
    slow: Vec<u64>,
}

#[derive(Serialize)]
struct TimeWait {
    entered: Holders,
    /// In this kernel now; null when that is not known.
    current: Option<u64>,
}

impl<'a> Servers<'a> {
    /// The worst servers first, `limit` at most.
    pub(crate) fn new(of: &'a ServersNow, limit: usize) -> Self {
        let mut rows: Vec<&Row> = of.rows.iter().collect();
        rows.sort_by_key(|row| {
            let window = row.evidence.map_or(0, |evidence| evidence.slow);
            let awaits_since = row.live.awaiting_fin_since.unwrap_or(Duration::MAX);
            (
                Reverse(row.history.slow_since.is_some()),
                awaits_since,
                Reverse((window, row.history.slow_closes, row.history.ended())),
                &row.label.server,
                row.label.role,
            )
        });
        Self {
            time: of.offset.utc(of.now),
            // Digit by digit the edge that it is.
            slow_after_seconds: of.slow_after.as_secs_f64(),
            edges_seconds: &of.edges,
            total: rows.len(),
            servers: rows
                .into_iter()
                .take(limit)
                .map(|row| Server::new(row, of))
                .collect(),
        }
    }
}

impl<'a> Server<'a> {
    fn new(row: &'a Row, of: &ServersNow) -> Self {
        let Row {
            label,
            history,
            live,
            evidence,
            time_wait,
        } = row;
        let age = |since: Duration| seconds(of.now.saturating_sub(since));
        let hour = history.last_hour(of.now);
        Self {
            server: &label.server,
            role: role_name(label.role),
            slow: history.slow_since.is_some(),
            slow_since: history.slow_since.map(|since| of.offset.utc(since)),
            live: Phases(live.phases),
            awaiting_fin_oldest_seconds: live.awaiting_fin_since.map(age),
            half_closed_oldest_seconds: live.half_closed_since.map(age),
            ended: history.ended(),
            outcomes: Outcomes(&history.outcomes),
            slow_closes: history.slow_closes,
            window: evidence.map(|evidence| Window {
                seconds: seconds(WINDOW),
                ended: evidence.ended,
                slow: evidence.slow,
                p50_seconds: evidence.waits.p50.map(seconds),
                p99_seconds: evidence.waits.p99.map(seconds),
                longest_seconds: evidence.waits.longest.map(seconds),
            }),
            close_to_fin: CloseToFin {
                client: Histogram::new(&history.ended_by_client),
                server: Histogram::new(&history.ended_by_server),
            },
            last_hour: LastHour {
                step_seconds: seconds(MINUTE),
                ended: Vec::from_iter(hour.map(|minute| minute.ended)),
                slow: Vec::from_iter(hour.map(|minute| minute.slow)),
            },
            time_wait: TimeWait {
                entered: history.time_wait,
                current: *time_wait,
            },
            hosts: &history.hosts,
            hosts_more: history.hosts_more,
            software: history.software.as_deref(),
        }
    }
}

impl<'a> Histogram<'a> {
    fn new(buckets: &'a Buckets) -> Self {
        Self {
            counts: &buckets.counts,
            sum_seconds: seconds(buckets.sum),
        }
    }
}

impl Serialize for Phases {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let names = Phase::ALL.map(Phase::name);
        serializer.collect_map(names.into_iter().zip(self.0))
    }
}

impl Serialize for Outcomes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(outcomes().map(outcome_name).zip(self.0))
    }
}

const _: () = assert!(MINUTES == 60, "the README says an hour");

#[cfg(test)]
mod tests {
    use monitor_ebpf::event::Role;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        heads::Opening, history::Histories, outcome::judge, servers::Waits, timeline::after,
    };

    const SLOW_AFTER: Duration = Duration::from_secs(1);

    #[test]
    fn slow_server_in_full() {
        let label = Label {
            role: Role::Client,
            server: "192.0.2.1:80".to_owned(),
        };
        let mut histories = Histories::new(vec![1.0, 4.0]);
        let opening = Opening {
            host: Some("<b>\"chat\"</b>".to_owned()),
            server_software: Some("nginx".to_owned()),
            ..Opening::default()
        };
        histories.seen(&label, Some(&opening));
        let script = "0s upgrade; 1s client close; 1s server close; 4s client fin; 5s gone";
        let judgement = judge(&after(Role::Client, script), SLOW_AFTER);
        histories.ended(&label, &judgement, Duration::from_secs(50));
        histories.flipped(&label, true, Duration::from_secs(60));
        let mut row = row(&histories);
        row.live.phases = [3, 0, 2, 1];
        row.live.awaiting_fin_since = Some(Duration::from_secs(58));
        row.live.half_closed_since = Some(Duration::from_secs(70));
        row.time_wait = Some(7);
        row.evidence = Some(Evidence {
            ended: 1,
            slow: 1,
            waits: Waits {
                p50: Some(Duration::from_secs(2)),
                p99: Some(Duration::from_secs(3)),
                longest: Some(Duration::from_secs(3)),
            },
            awaiting_fin: None,
        });
        let mut hour = vec![0; 60];
        hour[58] = 1;

        let servers = encoded(vec![row], 9);
        assert_eq!(servers["time"], "1970-01-01T00:01:10.500000000Z");
        assert_eq!(servers["slow_after_seconds"], 1.0);
        assert_eq!(servers["edges_seconds"], json!([1.0, 4.0]));
        let expected = json!({
            "server": "192.0.2.1:80",
            "role": "client",
            "slow": true,
            "slow_since": "1970-01-01T00:01:00.000000000Z",
            "live": {"open": 3, "awaiting_close_frame": 0, "awaiting_fin": 2, "half_closed": 1},
            "awaiting_fin_oldest_seconds": 12.5,
            "half_closed_oldest_seconds": 0.5,
            "ended": 1,
            "outcomes": {
                "clean": 0, "slow_server": 0, "client_gave_up": 1, "client_early": 0,
                "unanswered_by_server": 0, "unanswered_by_client": 0, "server_early": 0,
                "abnormal": 0, "unknown": 0,
            },
            "slow_closes": 1,
            "window": {
                "seconds": 300.0, "ended": 1, "slow": 1,
                "p50_seconds": 2.0, "p99_seconds": 3.0, "longest_seconds": 3.0,
            },
            "close_to_fin": {
                "client": {"counts": [0, 1, 0], "sum_seconds": 3.0},
                "server": {"counts": [0, 0, 0], "sum_seconds": 0.0},
            },
            "last_hour": {"step_seconds": 60.0, "ended": hour, "slow": hour},
            "time_wait": {
                "entered": {"client": 1, "server": 0, "both": 0, "none": 0},
                "current": 7,
            },
            "hosts": ["<b>\"chat\"</b>"],
            "hosts_more": false,
            "software": "nginx",
        });
        assert_eq!(servers["servers"], json!([expected]));
    }

    #[test]
    fn the_worst_come_first_and_the_rest_is_counted() {
        let named = |server: &str, slow: bool, awaits: Option<u64>| {
            let label = Label {
                role: Role::Server,
                server: server.to_owned(),
            };
            let mut histories = Histories::new(vec![1.0]);
            histories.seen(&label, None);
            histories.flipped(&label, slow, Duration::from_secs(1));
            let mut row = row(&histories);
            row.live.awaiting_fin_since = awaits.map(Duration::from_secs);
            row
        };
        let rows = vec![
            named("192.0.2.1:1", false, None),
            named("192.0.2.1:2", true, None),
            named("192.0.2.1:3", true, Some(20)),
            named("192.0.2.1:4", true, Some(10)),
            named("192.0.2.1:5", false, Some(1)),
        ];
        let servers = encoded(rows, 4);
        let order: Vec<_> = servers["servers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|server| server["server"].as_str().unwrap())
            .collect();
        let expected = ["192.0.2.1:4", "192.0.2.1:3", "192.0.2.1:2", "192.0.2.1:5"];
        assert_eq!(order, expected);
        assert_eq!(servers["total"], 5);
    }

    fn row(histories: &Histories) -> Row {
        let (label, history) = histories.iter().next().unwrap();
        Row {
            label: label.clone(),
            history: history.clone(),
            live: Live::default(),
            evidence: None,
            time_wait: None,
        }
    }

    fn encoded(rows: Vec<Row>, limit: usize) -> Value {
        let now = ServersNow {
            now: Duration::from_millis(70_500),
            offset: UtcOffset::between(Duration::ZERO, Duration::ZERO),
            slow_after: SLOW_AFTER,
            edges: vec![1.0, 4.0],
            rows,
        };
        serde_json::to_value(Servers::new(&now, limit)).unwrap()
    }
}
