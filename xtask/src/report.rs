//! What the demo's servers did, as `/metrics` and the records tell it; and whether that is true.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::scrape::Sample;

/// Connections to each server.
pub(crate) const CONNECTIONS: usize = 10;

/// How a server of the demo closes, and what must be seen of it.
pub(crate) struct Behaviour {
    pub(crate) name: &'static str,
    does: &'static str,
    outcome: &'static str,
    time_wait: &'static str,
    slow: bool,
}

pub(crate) const BEHAVIOURS: [Behaviour; 3] = [
    Behaviour {
        name: "clean",
        does: "closes TCP at once",
        outcome: "clean",
        time_wait: "server",
        slow: false,
    },
    Behaviour {
        name: "late",
        does: "closes TCP 1.5 s late",
        outcome: "slow_server",
        time_wait: "server",
        slow: true,
    },
    Behaviour {
        name: "never",
        does: "never closes TCP",
        outcome: "client_gave_up",
        time_wait: "client",
        slow: true,
    },
];

pub(crate) struct Report<'a> {
    servers: Vec<Server<'a>>,
}

/// One server and what was seen of it, from both ends: each is a local end here.
struct Server<'a> {
    behaviour: &'static Behaviour,
    address: &'a str,
    samples: Vec<&'a Sample>,
    records: Vec<(Value, &'a str)>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(addresses: &'a [String], samples: &'a [Sample], records: &'a str) -> Self {
        let parsed = |line: &'a str| Some((serde_json::from_str::<Value>(line).ok()?, line));
        let server = |(behaviour, address): (_, &'a String)| Server {
            behaviour,
            address,
            samples: samples
                .iter()
                .filter(|sample| sample.label("server") == address)
                .collect(),
            records: records
                .lines()
                .filter_map(parsed)
                .filter(|(record, _)| record["server"] == **address)
                .collect(),
        };
        Self {
            servers: BEHAVIOURS.iter().zip(addresses).map(server).collect(),
        }
    }

    /// Whether `/metrics` has all that it must have in the end.
    pub(crate) fn counted(&self) -> bool {
        self.servers
            .iter()
            .all(|server| server.wrong_metrics().is_empty())
    }

    pub(crate) fn problems(&self) -> Vec<String> {
        let problems =
            |server: &Server<'_>| [server.wrong_metrics(), server.wrong_records()].concat();
        self.servers.iter().flat_map(problems).collect()
    }

    pub(crate) fn print(&self) {
        println!();
        println!(
            "{:<16} {:<22} {:>11}  {:<18} {:<24} {:<13} slow",
            "server",
            "what it does",
            "connections",
            "outcomes",
            "close to FIN p50 / max",
            "TIME_WAIT"
        );
        for server in &self.servers {
            let outcomes = server.counts("closewatch_connections_ended_total", "server", "outcome");
            let (p50, max) = server.close_to_fin();
            println!(
                "{:<16} {:<22} {:>11}  {:<18} {:<24} {:<13} {}",
                server.address,
                server.behaviour.does,
                outcomes.values().sum::<usize>(),
                listed(&outcomes),
                format!("{} / {}", seconds(p50), seconds(max)),
                listed(&server.counts("closewatch_time_wait_entered_total", "server", "holder")),
                if server.slow("server") { "YES" } else { "no" },
            );
        }
        println!("\nWhy:");
        for server in &self.servers {
            println!("  {} {}", server.address, server.why());
        }
        println!("\nThe lines of /metrics that this rests on, as the servers' ends saw it:");
        for sample in self.servers.iter().flat_map(Server::evidence) {
            println!("  {}", sample.line);
        }
        println!("\nOne record of each slow server, as the client's end saw it:");
        for line in self.servers.iter().filter_map(Server::example) {
            println!("  {line}");
        }
        println!();
    }
}

impl Server<'_> {
    fn wrong_metrics(&self) -> Vec<String> {
        let expected = self.behaviour;
        let mut wrong = Vec::new();
        for role in ["client", "server"] {
            let mut check = |name, label, value| {
                let counts = self.counts(name, role, label);
                if counts != BTreeMap::from([(value, CONNECTIONS)]) {
                    wrong.push(format!(
                        "{name}{{role=\"{role}\",server=\"{}\"}}: {CONNECTIONS} {value} expected, found: {}",
                        self.address,
                        listed(&counts)
                    ));
                }
            };
            check(
                "closewatch_connections_ended_total",
                "outcome",
                expected.outcome,
            );
            check(
                "closewatch_time_wait_entered_total",
                "holder",
                expected.time_wait,
            );
            if self.slow(role) != expected.slow {
                wrong.push(format!(
                    "as seen by the {role}s, slow is {} for {}",
                    self.slow(role),
                    self.address
                ));
            }
        }
        wrong
    }

    fn wrong_records(&self) -> Vec<String> {
        let right = |(record, _): &&(Value, &str)| {
            record["outcome"] == self.behaviour.outcome && record["slow"] == self.behaviour.slow
        };
        let found = self.records.iter().filter(right).count();
        let expected = 2 * CONNECTIONS;
        if found == expected && self.records.len() == expected {
            return Vec::new();
        }
        vec![format!(
            "of {} records about {}, {found} are right; expected {expected}",
            self.records.len(),
            self.address
        )]
    }

    /// The values that are not 0 of a counter, by one of its labels.
    fn counts(&self, name: &str, role: &str, label: &str) -> BTreeMap<&str, usize> {
        let samples = self
            .samples
            .iter()
            .filter(|sample| sample.is(name, &[("role", role)]) && sample.value > 0.0);
        samples
            .map(|sample| (sample.label(label), sample.value as usize))
            .collect()
    }

    fn slow(&self, role: &str) -> bool {
        let mut samples = self.samples.iter();
        samples.any(|sample| {
            sample.is("closewatch_server_slow", &[("role", role)]) && sample.value == 1.0
        })
    }

    /// Median and maximum, from the records of the server's end.
    fn close_to_fin(&self) -> (f64, f64) {
        let records = self
            .records
            .iter()
            .filter(|(record, _)| record["role"] == "server");
        let mut times: Vec<_> = records
            .filter_map(|(record, _)| record["close_to_fin_seconds"].as_f64())
            .collect();
        times.sort_by(f64::total_cmp);
        let at = |index: usize| times.get(index).copied().unwrap_or(f64::NAN);
        (
            at(times.len() / 2),
            times.last().copied().unwrap_or(f64::NAN),
        )
    }

    fn why(&self) -> String {
        let (p50, max) = self.close_to_fin();
        match self.behaviour.name {
            "clean" => format!(
                "is not slow: its FIN came at most {} after the second Close frame.",
                seconds(max)
            ),
            "late" => format!(
                "is slow: both Close frames had passed, and its FIN came {} later.",
                seconds(p50)
            ),
            _ => format!(
                "is slow: both Close frames had passed, and no FIN came until the clients gave up after {}: \
                 their patience, not its delay.",
                seconds(p50)
            ),
        }
    }

    fn evidence(&self) -> impl Iterator<Item = &&Sample> {
        let wanted = [
            "closewatch_connections_ended_total",
            "closewatch_close_to_fin_seconds_sum",
            "closewatch_close_to_fin_seconds_count",
            "closewatch_time_wait_entered_total",
            "closewatch_server_slow",
        ];
        let flag = "closewatch_server_slow";
        let server = [("role", "server")];
        let shown = move |sample: &&&Sample| {
            wanted.iter().any(|name| sample.is(name, &server))
                && (sample.value > 0.0 || sample.is(flag, &server))
        };
        self.samples.iter().filter(shown)
    }

    fn example(&self) -> Option<&str> {
        let mut records = self.records.iter();
        let (_, line) =
            records.find(|(record, _)| record["slow"] == true && record["role"] == "client")?;
        Some(line)
    }
}

fn listed(counts: &BTreeMap<&str, usize>) -> String {
    let counts: Vec<_> = counts
        .iter()
        .map(|(what, count)| format!("{count} {what}"))
        .collect();
    if counts.is_empty() {
        "none".to_owned()
    } else {
        counts.join(", ")
    }
}

fn seconds(value: f64) -> String {
    if value < 0.1 {
        format!("{:.2} ms", value * 1000.0)
    } else {
        format!("{value:.2} s")
    }
}
