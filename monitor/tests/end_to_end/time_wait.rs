//! What connections leave behind in the kernel: TIME_WAIT by server, against `ss`, and the CLOSE_WAIT of
//! servers that never close.

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::{
    daemon::{Daemon, http_get},
    peers::{Peer, peer_file, python},
    sandbox::{Plays, Sandbox},
};

const SOCKETS: &str = "closewatch_time_wait_sockets";
const NAMESPACES: &str = "closewatch_time_wait_namespaces";
/// The daemon lists no more often than this, and rests after a listing for ten times its length.
const EVERY: Duration = Duration::from_secs(5);
const REST: u32 = 10;

/// Which end has the TIME_WAIT of a server's connections.
#[derive(Clone, Copy)]
struct Left {
    host: &'static str,
    server: &'static str,
    holder: &'static str,
}

const LEFT: [Left; 4] = [
    Left {
        host: "127.0.0.1",
        server: "127.0.0.1:9000",
        holder: "client",
    },
    Left {
        host: "127.0.0.1",
        server: "127.0.0.1:9001",
        holder: "server",
    },
    Left {
        host: "::1",
        server: "[::1]:9002",
        holder: "server",
    },
    Left {
        host: "mapped",
        server: "127.0.0.1:9003",
        holder: "server",
    },
];

impl Left {
    fn port(&self) -> &'static str {
        self.server.rsplit_once(':').unwrap().1
    }
}

#[test]
#[ignore = "needs root"]
fn time_wait_is_what_ss_counts() {
    let sandbox = Sandbox::new(1);
    let daemon = Daemon::start(&sandbox, &sandbox.path("records.jsonl"));
    let mut peer = leaver(&sandbox, 0, true);
    for left in LEFT {
        tell(&mut peer, &format!("listen {} {}", left.host, left.port()));
        tell(&mut peer, &format!("keep {} {}", left.host, left.port()));
    }
    daemon.await_metric("closewatch_connections_opened_total", &[], 8.0);
    compare(&daemon, &sandbox, Some([0; 4]));

    for left in LEFT {
        let (host, port) = (left.host, left.port());
        tell(
            &mut peer,
            &format!("websocket {host} {port} {} 1000 10000", left.holder),
        );
        // The same small form in the kernel, but not TIME_WAIT: the server still owes its FIN.
        tell(&mut peer, &format!("half {host} {port} 50 40000"));
    }
    compare(&daemon, &sandbox, Some([1000; 4]));

    for left in &LEFT[..3] {
        let (host, port) = (left.host, left.port());
        tell(
            &mut peer,
            &format!("websocket {host} {port} {} 19000 11000", left.holder),
        );
    }
    compare(&daemon, &sandbox, Some([20_000, 20_000, 20_000, 1000]));
    let seconds = daemon.metric("closewatch_time_wait_listing_seconds", &[]);
    eprintln!(
        "61,000 sockets in TIME_WAIT listed in {:.1} ms",
        seconds * 1000.0
    );
    assert!(seconds < 1.0, "{seconds} s");

    // Both ends' process is gone, the namespace is not. What was FIN_WAIT2 moves on, and counts.
    peer.kill();
    compare(&daemon, &sandbox, None);
    daemon.stop();
}

/// Nobody scrapes: what the API says is as of now all the same.
#[test]
#[ignore = "needs root"]
fn time_wait_in_the_api_is_not_that_of_the_question_before() {
    let sandbox = Sandbox::new(1);
    let daemon = Daemon::start(&sandbox, &sandbox.path("records.jsonl"));
    let mut peer = leaver(&sandbox, 0, true);
    tell(&mut peer, "listen 127.0.0.1 9000");
    for (first, all) in [(10_000, 10), (20_000, 20)] {
        let left = format!("websocket 127.0.0.1 9000 client 10 {first}");
        tell(&mut peer, &left);
        thread::sleep(EVERY + Duration::from_secs(1));
        let path = "/api/v1/servers?role=client&server=127.0.0.1:9000";
        let response = http_get(daemon.listen, path);
        let current = format!("\"current\":{all}}}");
        assert!(response.contains(&current), "{response}");
    }
    peer.kill();
    daemon.stop();
}

#[test]
#[ignore = "needs root"]
fn time_wait_of_other_namespaces_counts_where_connections_are_followed() {
    let sandbox = Sandbox::new(3);
    let daemon = Daemon::start(&sandbox, &sandbox.path("records.jsonl"));
    let address = "127.0.0.1 9000";
    for (namespace, followed) in [(0, true), (1, true), (2, false)] {
        let mut peer = leaver(&sandbox, namespace, followed);
        tell(&mut peer, &format!("listen {address}"));
        // On the same address there is other traffic, too; as `ss` does, its entries are counted.
        tell(&mut peer, &format!("plain {address} server 20 10000"));
        tell(&mut peer, &format!("websocket {address} server 10 20000"));
        // Found without its process: by what it left.
        peer.kill();
    }
    daemon.await_metric("closewatch_connections_ended_total", &[], 40.0);
    await_listing(&daemon);
    let server = "server=\"127.0.0.1:9000\"";
    assert_eq!(daemon.metric(SOCKETS, &["role=\"server\"", server]), 60.0);
    assert_eq!(daemon.metric(SOCKETS, &["role=\"client\"", server]), 0.0);
    assert_eq!(daemon.metric(NAMESPACES, &["result=\"listed\""]), 2.0);
    assert_eq!(daemon.metric(NAMESPACES, &["result=\"refused\""]), 0.0);
    assert_eq!(daemon.metric(NAMESPACES, &["result=\"failed\""]), 0.0);
    daemon.stop();
}

#[test]
#[ignore = "needs root"]
fn namespace_that_may_not_be_entered_is_counted_and_told_once() {
    let sandbox = Sandbox::new(1);
    let daemon = Daemon::start_confined(&sandbox);
    let mut peer = leaver(&sandbox, 0, true);
    tell(&mut peer, "listen 127.0.0.1 9000");
    tell(&mut peer, "websocket 127.0.0.1 9000 server 3 10000");
    daemon.await_metric("closewatch_connections_ended_total", &[], 6.0);
    for _ in 0..2 {
        await_listing(&daemon);
        assert_eq!(daemon.metric(NAMESPACES, &["result=\"refused\""]), 1.0);
    }
    assert!(
        !daemon.metrics().contains("closewatch_time_wait_sockets{"),
        "no figure is not 0"
    );
    // What entered TIME_WAIT is known all the same.
    let entered = "closewatch_time_wait_entered_total";
    assert_eq!(
        daemon.metric(entered, &["role=\"server\"", "holder=\"server\""]),
        3.0
    );
    let log = daemon.stop();
    let told = log
        .iter()
        .filter(|line| line.contains("TIME_WAIT is not counted"))
        .count();
    assert_eq!(told, 1, "{log:#?}");
}

#[test]
#[ignore = "needs root"]
fn server_that_never_closes_is_seen_as_half_closed() {
    let sandbox = Sandbox::new(1);
    let daemon = Daemon::start(&sandbox, &sandbox.path("records.jsonl"));
    let mut peer = leaver(&sandbox, 0, true);
    tell(&mut peer, "listen 127.0.0.1 9000");
    let leaking = Instant::now();
    tell(&mut peer, "leak 127.0.0.1 9000");
    let leaked = Instant::now();
    tell(&mut peer, "leak 127.0.0.1 9000");
    let labels = ["role=\"server\"", "server=\"127.0.0.1:9000\""];
    let half_closed = [labels[0], labels[1], "phase=\"half_closed\""];
    daemon.await_metric("closewatch_connections", &half_closed, 2.0);
    thread::sleep(Duration::from_secs(1));
    let oldest = "closewatch_half_closed_oldest_seconds";
    let at_least = leaked.elapsed();
    let age = daemon.metric(oldest, &labels);
    let at_most = leaking.elapsed();
    assert!(
        (at_least.as_secs_f64()..=at_most.as_secs_f64()).contains(&age),
        "{age} s"
    );
    // The client's end is in FIN_WAIT2, which outlives its socket: nothing that goes on.
    assert_eq!(daemon.metric(oldest, &["role=\"client\""]), 0.0);

    peer.kill();
    let ended = [labels[0], labels[1], "outcome=\"client_early\""];
    daemon.await_metric("closewatch_connections_ended_total", &ended, 2.0);
    assert_eq!(daemon.metric("closewatch_connections", &half_closed), 0.0);
    assert_eq!(daemon.metric(oldest, &labels), 0.0);
    daemon.stop();
}

/// The figures of a server: those of its own end, and those of its clients' ends.
type Figures = [[usize; 2]; 4];

/// Both must count the same of either end, and that many of the holders'.
fn compare(daemon: &Daemon, sandbox: &Sandbox, expected: Option<[usize; 4]>) {
    await_listing(daemon);
    let before = ss(sandbox);
    let metrics: Figures = LEFT.map(|left| {
        ["server", "client"].map(|role| {
            let labels = [
                format!("role=\"{role}\""),
                format!("server=\"{}\"", left.server),
            ];
            daemon.metric(SOCKETS, &[&labels[0], &labels[1]]) as usize
        })
    });
    let after = ss(sandbox);
    assert_eq!(
        (metrics, metrics),
        (before, after),
        "{SOCKETS}, and ss before and after"
    );
    if let Some(expected) = expected {
        let holder = |left: Left| usize::from(left.holder == "client");
        let held = [0, 1, 2, 3].map(|index| metrics[index][holder(LEFT[index])]);
        assert_eq!(held, expected);
    }
}

/// The next scrape lists anew.
fn await_listing(daemon: &Daemon) {
    let took = daemon.metric("closewatch_time_wait_listing_seconds", &[]);
    let rest = REST * Duration::from_secs_f64(took);
    thread::sleep(EVERY.max(rest) + Duration::from_millis(100));
}

/// What `ss -tan state time-wait` shows with each server as the local address, and as the peer's.
fn ss(sandbox: &Sandbox) -> Figures {
    let output = Command::new("ip")
        .args([
            "netns",
            "exec",
            sandbox.namespace(0),
            "ss",
            "-Htan",
            "state",
            "time-wait",
        ])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout)
        .unwrap()
        .replace("[::ffff:127.0.0.1]", "127.0.0.1");
    let entries: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    LEFT.map(|left| {
        [2, 3].map(|at| {
            entries
                .iter()
                .filter(|entry| entry[at] == left.server)
                .count()
        })
    })
}

fn leaver(sandbox: &Sandbox, namespace: usize, followed: bool) -> Peer {
    let mut command = sandbox.command(python(), namespace, followed);
    command.arg(peer_file("leave.py"));
    Peer::start(sandbox, command, Plays::Both)
}

fn tell(peer: &mut Peer, what: &str) {
    peer.tell(what);
    peer.await_line("done");
}
