//! A daemon under attack, and what its books must say afterwards.

use std::{
    collections::HashMap,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    attacker::Attacker,
    connection::{Ending, host},
    daemon::{Daemon, read_records},
    sandbox::{Sandbox, ip},
};

pub(crate) const EVENTS_LOST: &str = "closewatch_events_lost_total";
pub(crate) const SOCKETS_LOST: &str = "closewatch_sockets_lost_total";

// Fields are dropped in this order.
pub(crate) struct Scene {
    pub(crate) daemon: Daemon,
    pub(crate) sandbox: Sandbox,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self::of(Sandbox::new(1))
    }

    pub(crate) fn of(sandbox: Sandbox) -> Self {
        Self::give_addresses(&sandbox);
        let daemon = Daemon::start(&sandbox, &sandbox.path("records.jsonl"));
        Self { daemon, sandbox }
    }

    /// The namespace has all of 127.0.0.0/8, and of fd00::/64.
    pub(crate) fn give_addresses(sandbox: &Sandbox) {
        let namespace = ["-n", sandbox.namespace(0)];
        let route = ["-6", "route", "add", "local", "fd00::/64", "dev", "lo"];
        ip(&[&namespace[..], &route].concat());
    }

    pub(crate) fn attacker(&self, port: u16) -> Attacker {
        Attacker::start(&self.sandbox, port)
    }

    /// The sum of a metric over all its series, or those with a label.
    pub(crate) fn count(&self, name: &str, labels: &[&str]) -> u64 {
        self.daemon.metric(name, labels) as u64
    }

    /// Waits until the daemon has read all that the kernel told it.
    pub(crate) fn await_records(&self, records: u64) {
        let told = || {
            let lost = self.count(EVENTS_LOST, &["ring_full_at_end"]);
            self.count("closewatch_records_written_total", &[]) + lost
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        while told() < records {
            assert!(
                Instant::now() < deadline,
                "{} of {records} told: {:?}",
                told(),
                self.daemon.losses()
            );
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until the daemon has nothing more to read.
    pub(crate) fn await_rest(&self) {
        let told = || {
            let written = self.count("closewatch_records_written_total", &[]);
            (written, self.uncertain())
        };
        let mut before = told();
        loop {
            thread::sleep(Duration::from_secs(1));
            let now = told();
            if now == before {
                return;
            }
            before = now;
        }
    }

    /// Ends that were not told, or not seen: of a connection that was dropped, or of a socket for which the kernel had
    /// no memory. One that was not told may have been found by listing the kernel's sockets: then it has its record
    /// all the same; or what was known of its connection was dropped, and it is here twice.
    pub(crate) fn uncertain(&self) -> u64 {
        self.count(EVENTS_LOST, &["ring_full_at_end"])
            + self.count("closewatch_connections_swept_total", &[])
            + self.count(SOCKETS_LOST, &[])
    }

    pub(crate) fn records(&self) -> Vec<Value> {
        read_records(&self.daemon.records)
    }
}

/// Every record of the program's connections says what its number wants, and no two are of the same end.
/// `named`: none lacks the heads.
pub(crate) fn check_records(records: &[Value], named: bool) {
    let mut ends: HashMap<(&str, &str, &str), u32> = HashMap::new();
    for record in records {
        let text = |field: &str| record[field].as_str().unwrap();
        *ends
            .entry((text("role"), text("local"), text("opened_at")))
            .or_default() += 1;
        let path = record["path"].as_str();
        assert!(path.is_some() || !named, "no path: {record}");
        if let Some(path) = path {
            let number = path[1..].parse().unwrap();
            assert_eq!(record["host"], host(number), "{record}");
            assert_eq!(record["outcome"], Ending::of(number).outcome(), "{record}");
        }
        assert!(record["outcome"].is_string(), "{record}");
        assert_eq!(record["slow"], false, "{record}");
    }
    let twice: Vec<_> = ends.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "more than one record: {twice:?}");
}
