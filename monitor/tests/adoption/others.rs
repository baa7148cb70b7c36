//! Everything else that talks over TCP, by the thousand, is not taken for a WebSocket.

use std::{env, fmt::Write, process::Command, thread, time::Duration};

use serde_json::Value;

use crate::{
    daemon::{Daemon, read_records},
    late::Counts,
    peers::{Peer, peer_file, python},
    sandbox::{Plays, Sandbox},
    servers::{HTTP_PORT, HTTPS_PORT, Postgres, nginx, python_server, redis},
    turn,
};

/// Connections that are open at one time.
const ROUND_MAX: usize = 1250;
const GRPC_PORT: u16 = 9013;
const POSTGRES_PORT: u16 = 9014;
const REDIS_PORT: u16 = 9012;

struct Kind {
    name: &'static str,
    port: u16,
    /// Of 100 connections.
    share: usize,
}

const fn kind(name: &'static str, port: u16, share: usize) -> Kind {
    Kind { name, port, share }
}

const KINDS: [Kind; 10] = [
    kind("http", HTTP_PORT, 23),
    kind("https", HTTPS_PORT, 14),
    kind("redis", REDIS_PORT, 12),
    kind("grpc", GRPC_PORT, 2),
    kind("postgres", POSTGRES_PORT, 4),
    kind("prefixed", 9020, 18),
    kind("small", 9021, 15),
    kind("tiny", 9022, 4),
    kind("large", 9023, 4),
    kind("files", 9024, 4),
];

/// What passed, and what was made of it.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    connections: usize,
    packets: u64,
    bytes: u64,
    rejected: f64,
    adopted: f64,
}

#[test]
#[ignore = "needs root"]
fn nothing_else_is_adopted() {
    let _turn = turn();
    let connections = number("CLOSEWATCH_ADOPTION_CONNECTIONS", 1000);
    let turns = number("CLOSEWATCH_ADOPTION_TURNS", 40);
    let sandbox = Sandbox::new(1);
    count_packets(&sandbox);
    let servers = servers(&sandbox);
    let inside = servers[0].pid();
    let _postgres = Postgres::start(&sandbox, POSTGRES_PORT);

    let rounds = connections.div_ceil(ROUND_MAX);
    let mut tallies = [Tally::default(); KINDS.len()];
    let mut problems = Vec::new();
    for round in 0..rounds {
        let in_round = connections / rounds + usize::from(round < connections % rounds);
        problems.extend(run(&sandbox, inside, round, in_round, turns, &mut tallies));
    }
    print(&tallies);
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// One start of the daemon over so many connections. Returns what is wrong.
fn run(
    sandbox: &Sandbox,
    inside: u32,
    round: usize,
    connections: usize,
    turns: usize,
    tallies: &mut [Tally],
) -> Vec<String> {
    let mut counts = KINDS.map(|kind| (connections * kind.share / 100).max(1));
    counts[0] += connections.saturating_sub(counts.iter().sum());
    let mut clients: Vec<Peer> = KINDS
        .iter()
        .zip(&counts)
        .map(|(kind, count)| client(sandbox, kind, *count, turns, round))
        .collect();
    for client in &clients {
        client.await_line("open");
    }
    thread::sleep(Duration::from_millis(100));
    let daemon = Daemon::start(sandbox, &sandbox.path(&format!("records-{round}.jsonl")));
    let mut before = Counts::of(&daemon);
    let at_first = before.candidates;
    let open: usize = counts.iter().sum();
    let mut problems = Vec::new();
    if before.candidates < 2.0 * open as f64 {
        problems.push(format!("{open} connections are open, but {before:?}"));
    }
    for (index, client) in clients.iter_mut().enumerate() {
        let passed = packets(sandbox, &KINDS[index]);
        client.tell("go on");
        for _ in 0..turns {
            client.await_line("turn");
        }
        let now = Counts::of(&daemon);
        let (packets, bytes) = packets(sandbox, &KINDS[index]);
        let tally = &mut tallies[index];
        tally.connections += counts[index];
        tally.packets += packets - passed.0;
        tally.bytes += bytes - passed.1;
        tally.rejected += now.rejected - before.rejected;
        tally.adopted += now.adopted - before.adopted;
        before = now;
    }
    for client in &mut clients {
        client.tell("close");
    }
    clients.into_iter().for_each(Peer::finish);
    sandbox.await_quiet(&[inside]);
    thread::sleep(Duration::from_millis(200));
    let now = Counts::of(&daemon);
    // Each end is judged, or ended before it could be; those that began later are among them.
    let watched = 2.0 * open as f64 + now.candidates - at_first;
    if now.rejected + now.undecided != watched {
        problems.push(format!(
            "of {watched} candidates some are counted nowhere: {now:?}"
        ));
    }
    if now.adopted > 0.0 || now.opened > 0.0 {
        problems.push(format!("round {round}: {now:?}"));
    }
    if !now.losses.is_empty() {
        eprintln!("nothing_else_is_adopted: {:?}", now.losses);
    }
    let records = daemon.records.clone();
    daemon.stop();
    let records: Vec<Value> = read_records(&records);
    problems.extend(
        records
            .iter()
            .map(|record| format!("a record of no WebSocket: {record}")),
    );
    problems
}

fn servers(sandbox: &Sandbox) -> Vec<Peer> {
    let mut servers = vec![nginx(sandbox), redis(sandbox, REDIS_PORT)];
    let port = GRPC_PORT.to_string();
    servers.push(python_server(sandbox, "grpc_peer.py", &["server", &port]));
    for kind in &KINDS[5..] {
        let port = kind.port.to_string();
        servers.push(python_server(sandbox, "noise.py", &[kind.name, &port]));
    }
    servers
}

fn client(sandbox: &Sandbox, kind: &Kind, count: usize, turns: usize, round: usize) -> Peer {
    let mut command = sandbox.command(python(), 0, true);
    match kind.name {
        "grpc" => command.arg(peer_file("grpc_peer.py")).arg("client"),
        name => command.arg(peer_file("steady.py")).arg(name),
    };
    command.args([kind.port, count as u16, turns as u16].map(|number| number.to_string()));
    command.arg(format!("round-{round}"));
    Peer::start(sandbox, command, Plays::Client)
}

fn nft(sandbox: &Sandbox, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("ip")
        .args(["netns", "exec", sandbox.namespace(0), "nft"])
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "nft {arguments:?}: {said}");
    output.stdout
}

/// Counts every packet of a kind once, as it leaves its end.
fn count_packets(sandbox: &Sandbox) {
    nft(sandbox, &["add table inet passed"]);
    nft(
        sandbox,
        &["add chain inet passed out { type filter hook output priority 0 ; }"],
    );
    for Kind { name, port, .. } in &KINDS {
        nft(sandbox, &[&format!("add counter inet passed {name}")]);
        for end in ["sport", "dport"] {
            let rule = format!("add rule inet passed out tcp {end} {port} counter name {name}");
            nft(sandbox, &[&rule]);
        }
    }
}

/// How many packets and bytes have passed.
fn packets(sandbox: &Sandbox, kind: &Kind) -> (u64, u64) {
    let listed = nft(
        sandbox,
        &["-j", "list", "counter", "inet", "passed", kind.name],
    );
    let listed: Value = serde_json::from_slice(&listed).unwrap();
    let counters = listed["nftables"].as_array().unwrap();
    let counter = counters.iter().find_map(|entry| entry.get("counter"));
    let value = |name| counter.unwrap()[name].as_u64().unwrap();
    (value("packets"), value("bytes"))
}

fn print(tallies: &[Tally]) {
    let mut table = String::new();
    writeln!(
        table,
        "{:<10} {:>11} {:>11} {:>9} {:>9} {:>8}",
        "", "connections", "packets", "MB", "rejected", "adopted"
    )
    .unwrap();
    let names = KINDS.iter().map(|kind| kind.name);
    let mut sum = Tally::default();
    for tally in tallies {
        sum.connections += tally.connections;
        sum.packets += tally.packets;
        sum.bytes += tally.bytes;
        sum.rejected += tally.rejected;
        sum.adopted += tally.adopted;
    }
    let rows = names.zip(tallies).chain([("all", &sum)]);
    for (name, tally) in rows {
        writeln!(
            table,
            "{name:<10} {:>11} {:>11} {:>9.1} {:>9} {:>8}",
            tally.connections,
            tally.packets,
            tally.bytes as f64 / 1e6,
            tally.rejected,
            tally.adopted
        )
        .unwrap();
    }
    eprintln!("nothing_else_is_adopted, rejected by 2 ends of a connection:\n{table}");
}

fn number(variable: &str, default: usize) -> usize {
    env::var(variable).map_or(default, |text| text.parse().unwrap())
}
