//! One rate of loss: many connections, and every record against what the packets say.

use std::{
    collections::{BTreeMap, HashMap},
    env,
    path::Path,
    time::Duration,
};

use serde_json::Value;

use crate::{
    capture::Capture,
    compare::{Expectation, compare},
    daemon::{Daemon, read_records},
    judge::Role,
    ledger,
    network::{Network, SERVER},
    peers::{Peer, peer_file, python},
    sandbox::Plays,
    tally::{Counters, Tally},
    tshark::dissect,
    witness::{View, views},
};

pub(crate) const PORT: u16 = 9000;
const SEED: &str = "closewatch";
const SLOW_AFTER: i64 = 1_000_000_000;
/// A sender may lose its CPU between the hook and the device; a retransmission comes 200 ms later.
const TOLERANCE: i64 = 50_000_000;
/// A connection that is unlucky waits for retransmissions again and again.
const PATIENCE: Duration = Duration::from_secs(300);

/// What was found, by kind of traffic.
pub(crate) fn run(network: &Network) -> BTreeMap<String, Tally> {
    let connections = number("CLOSEWATCH_LOSS_CONNECTIONS", 100);
    let concurrent = number("CLOSEWATCH_LOSS_CONCURRENT", 50);
    let sandbox = &network.sandbox;
    let captures = [(0, "10.9.0.2:9"), (1, "10.9.0.1:9")]
        .map(|(end, to)| Capture::start(sandbox, end, network.device, to));
    let files = [0, 1].map(|end: usize| captures[end].file.clone());
    let inside = [0, 1].map(|end: usize| captures[end].pid());
    let daemon = Daemon::start(sandbox, &sandbox.path("records.jsonl"));

    let peer = |namespace, plays, role: &str| {
        let mut command = sandbox.command(python(), namespace, true);
        command.arg(peer_file("crowd.py"));
        command.args([role, SERVER, &PORT.to_string(), SEED]);
        command.args([connections.to_string(), concurrent.to_string()]);
        command.arg(sandbox.path(role));
        Peer::start(sandbox, command, plays)
    };
    let server = peer(1, Plays::Server, "server");
    let client = peer(0, Plays::Client, "client");
    client.finish_within(PATIENCE);
    server.finish_within(PATIENCE);
    sandbox.await_quiet(&inside);
    let packets = captures.map(|capture| capture.finish(sandbox));
    let counters = Counters::of(&daemon);
    let known = daemon.knows();
    let records = daemon.records.clone();
    daemon.stop();

    let ends = [(Role::Client, "client"), (Role::Server, "server")];
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    let sent = ends.map(|(_, name)| ledger::read(&sandbox.path(name)));
    let mut records = Records::read(&records);
    let mut lost = 0;
    for (end, (role, _)) in ends.into_iter().enumerate() {
        let dissected = dissect(&files[end], role == Role::Server);
        let views = views(&packets[end], role);
        assert_eq!(views.len(), connections, "the witness misses connections");
        for view in &views {
            let port = view.client_address.port();
            for (by, sent) in [Role::Client, Role::Server].into_iter().zip(&sent) {
                ledger::check(view, by, &sent[&port]);
            }
            let mine = &sent[end][&port];
            let tally = tallies.entry(mine.kind.clone()).or_default();
            tally.dissector(dissected.get(&port), mine, view);
            let Some(record) = records.take(view) else {
                tally.missing(view);
                continue;
            };
            let expectation = Expectation {
                cgroup: &sandbox.cgroup,
                processes: &sandbox.processes(),
                slow_after: SLOW_AFTER,
                tolerance: TOLERANCE,
                may_be_lost: true,
                adopted_at: None,
            };
            let figures = compare(
                std::slice::from_ref(view),
                std::slice::from_ref(&record),
                &expectation,
            );
            lost += u64::from(record["frames_received"].is_null());
            tally.record(view, &record, figures);
        }
    }
    if tallies.values().any(Tally::misses) {
        eprintln!("  of nobody: {:#?}\n  {known:#?}", records.0);
    }
    counters.settle(lost, &mut tallies);
    tallies
}

/// The daemon's records by role and client address.
struct Records(HashMap<(String, String), Value>);

impl Records {
    fn read(path: &Path) -> Records {
        let mut records = HashMap::new();
        for record in read_records(path) {
            let role = record["role"].as_str().unwrap().to_owned();
            let end = if role == "client" { "local" } else { "remote" };
            let address = record[end].as_str().unwrap().to_owned();
            let before = records.insert((role, address), record);
            assert!(before.is_none(), "two records of one end: {before:?}");
        }
        Records(records)
    }

    fn take(&mut self, view: &View) -> Option<Value> {
        let key = (view.role.name().to_owned(), view.client_address.to_string());
        self.0.remove(&key)
    }
}

fn number(variable: &str, default: usize) -> usize {
    env::var(variable).map_or(default, |text| text.parse().unwrap())
}
