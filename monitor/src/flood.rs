//! What the daemon's books cost, and that they balance, however many servers there are.
//!
//! Drives tracker, servers and metrics as the daemon does, with events made up here. The measurements
//! are ignored by a plain `cargo test`:
//!
//! ```text
//! cargo test --release -p monitor --bins -- --ignored --nocapture --test-threads 1 flood
//! ```

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use monitor_ebpf::event::{Role, Snapshot};
use proptest::{collection::vec, prelude::*};

use crate::{
    heads::{Missing, Opening},
    metrics::Metrics,
    outcome::judge,
    servers::Servers,
    timeline::timeline,
    tracker::{News, Server, Tracker},
};

const SLOW_AFTER: Duration = Duration::from_secs(1);
const TTL: Duration = Duration::from_secs(3600);

/// The state that the daemon keeps of connections, without its probes and files.
struct Books {
    tracker: Tracker,
    servers: Servers,
    metrics: Metrics,
}

impl Books {
    fn new(max_servers: usize) -> Self {
        Self {
            tracker: Tracker::default(),
            servers: Servers::new(max_servers, TTL, SLOW_AFTER),
            metrics: Metrics::new(SLOW_AFTER, "0.0.0").unwrap(),
        }
    }

    fn learn(&mut self, snapshot: Snapshot, now: Duration) {
        let server = Server::of(&snapshot);
        let label = self.servers.admit(server, now);
        let opening = Opening {
            host: Some(server.address.to_string()),
            ..Opening::default()
        };
        for news in self.tracker.observe(snapshot, None, now) {
            match news {
                News::Opened => {
                    let missing = Missing {
                        request: None,
                        response: None,
                    };
                    self.metrics.heads(&label, &opening, missing);
                    self.metrics.opened(&label);
                }
                News::Adopted => self.metrics.adopted(&label),
                News::CloseFrame { sender, code } => self.metrics.close_frame(&label, sender, code),
                News::Ended(connection) => {
                    let judgement = judge(&connection.snapshot, SLOW_AFTER);
                    let label = self.servers.admit(server, now);
                    self.servers.ended(server, &judgement, now);
                    self.metrics.ended(&label, &judgement);
                }
            }
        }
    }

    fn tick(&mut self, now: Duration) {
        let live = self.tracker.live();
        self.servers.review(&live, now);
        for label in self.servers.expire(&live, now) {
            self.metrics.forget(&label);
        }
    }

    /// What a scrape does on the loop.
    fn prepare(&mut self, now: Duration) {
        let live = self.tracker.live_servers();
        let live = live.map(|(server, live)| (self.servers.label(server), live));
        self.metrics.live(live, now);
        for (label, slow) in self.servers.flags_by_label() {
            self.metrics.slow(label, slow);
        }
        self.metrics.sight.folded(self.servers.folded());
    }

    fn scrape(&mut self, now: Duration) -> String {
        self.prepare(now);
        self.metrics.exposition().text()
    }
}

/// A connection between a client and a server that no other has.
fn connection(number: u64, role: Role, script: &str) -> Vec<Snapshot> {
    let server = SocketAddr::new(address(number), 8765);
    let client = SocketAddr::from(([198, 51, 100, 1], 40_000));
    let mut steps = timeline(role, script);
    for snapshot in &mut steps {
        snapshot.cookie = number * 2 + u64::from(role == Role::Server);
        (snapshot.local, snapshot.remote) = match role {
            Role::Client => (client, server),
            Role::Server => (server, client),
        };
    }
    steps
}

fn address(number: u64) -> IpAddr {
    Ipv4Addr::from_bits(0x0a00_0000 + number as u32).into()
}

const SLOW: &str = "0ms upgrade; 40ms client close 1000; 41ms server close 1000; 3041ms server fin; 3042ms client fin; 3043ms gone";
const SCRIPTS: [&str; 5] = [
    SLOW,
    "0ms upgrade; 40ms client close 4001; 41ms server close; 10041ms client fin; 10042ms server fin; 10043ms gone",
    "0ms upgrade; 40ms client fin; 41ms server rst; 42ms gone",
    "0ms upgrade; 40ms server close 1001",
    "0ms upgrade; 40ms client fin",
];

/// The sums of the samples by metric, over all servers, in billionths: whole numbers, which add up.
fn sums(exposition: &str) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    let is_of_a_server = |line: &&str| !line.starts_with('#') && line.contains("server=");
    for line in exposition.lines().filter(is_of_a_server) {
        let (name, rest) = line.split_once('{').unwrap();
        let (_, value) = rest.rsplit_once(' ').unwrap();
        *sums.entry(name.to_owned()).or_default() +=
            (value.parse::<f64>().unwrap() * 1e9).round() as u64;
    }
    sums
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// However few servers have series of their own, all of them and `other` add up to the same.
    #[test]
    fn totals_are_right_however_many_servers_fold(
        connections in vec((0..12_u64, any::<bool>(), 0..SCRIPTS.len()), 0..40),
        max_servers in 1..14_usize,
    ) {
        let mut folding = Books::new(max_servers);
        let mut whole = Books::new(usize::MAX);
        let now = Duration::from_secs(60);
        for (cookie, (number, is_client, script)) in connections.iter().enumerate() {
            let role = if *is_client { Role::Client } else { Role::Server };
            for mut snapshot in connection(*number, role, SCRIPTS[*script]) {
                snapshot.cookie = cookie as u64;
                for books in [&mut folding, &mut whole] {
                    books.learn(snapshot.clone(), now);
                }
            }
        }
        let [folded, truth] = [&mut folding, &mut whole].map(|books| sums(&books.scrape(now)));
        for name in truth.keys().filter(|name| !AGES_AND_FLAGS.iter().any(|other| name.contains(other))) {
            prop_assert_eq!(folded.get(name), truth.get(name), "{}", name);
        }
        let opened = truth.get("closewatch_connections_opened_total").copied().unwrap_or_default();
        prop_assert_eq!(opened, connections.len() as u64 * 1_000_000_000);
    }
}

/// What does not add up: of two servers in one, the older counts; `other` has neither flag nor host.
const AGES_AND_FLAGS: [&str; 3] = ["oldest_seconds", "server_slow", "server_info"];

/// Every server once, in one role and then the other: all of its connections end, and some are left.
fn flood(books: &mut Books, servers: impl Iterator<Item = u64>) {
    let (client, server) = (
        connection(0, Role::Client, SLOW),
        connection(0, Role::Server, SLOW),
    );
    for number in servers {
        let now = Duration::from_secs(10 + number / 1000);
        let address = SocketAddr::new(address(number), 8765);
        for steps in [&client, &server] {
            for snapshot in steps {
                let mut snapshot = snapshot.clone();
                snapshot.cookie = number * 2 + u64::from(snapshot.role == Role::Server);
                match snapshot.role {
                    Role::Client => snapshot.remote = address,
                    Role::Server => snapshot.local = address,
                }
                books.learn(snapshot, now);
            }
        }
        if number % 1000 == 0 {
            books.tick(now);
        }
    }
}

#[test]
fn series_are_bounded_by_max_servers() {
    let mut books = Books::new(50);
    flood(&mut books, 0..500);
    let bounded = series(&books.scrape(Duration::from_secs(20)));
    flood(&mut books, 500..5000);
    assert_eq!(series(&books.scrape(Duration::from_secs(20))), bounded);
    assert_eq!(books.servers.folded(), 2 * 4950);
    assert!(books.tracker.live().is_empty());
}

#[test]
fn series_go_with_servers_that_fell_silent() {
    let mut books = Books::new(50);
    let before = series(&books.scrape(Duration::ZERO));
    flood(&mut books, 0..50);
    assert!(series(&books.scrape(Duration::from_secs(20))) > before);
    books.tick(Duration::from_secs(20) + TTL);
    assert_eq!(series(&books.scrape(Duration::from_secs(20) + TTL)), before);
}

#[test]
#[ignore = "a measurement"]
fn flood_of_a_million_servers() {
    let mut books = Books::new(1000);
    let mut sizes = Vec::new();
    for million in 0..10 {
        let began = Instant::now();
        flood(&mut books, million * 100_000..(million + 1) * 100_000);
        let took = began.elapsed();
        let began = Instant::now();
        let text = books.scrape(Duration::from_secs(2000));
        eprintln!(
            "{:>9} servers, both roles: {:.1} µs an event; {} series, {:.1} MB in {:.0} ms; resident {} MB",
            (million + 1) * 100_000,
            took.as_secs_f64() * 1e6 / 100_000.0 / 12.0,
            series(&text),
            text.len() as f64 / 1e6,
            began.elapsed().as_secs_f64() * 1e3,
            resident_bytes() / 1_000_000,
        );
        drop(text);
        sizes.push(resident_bytes());
    }
    let grown = sizes[9].saturating_sub(sizes[1]);
    assert!(
        grown < 16_000_000,
        "{grown} bytes more after the last 800,000 servers"
    );
}

#[test]
#[ignore = "a measurement"]
fn flood_cost_of_a_scrape() {
    for servers in [10, 1000, 10_000] {
        let mut books = Books::new(servers);
        flood(&mut books, 0..servers as u64);
        let now = Duration::from_secs(60);
        let text = books.scrape(now);
        let (series, bytes) = (series(&text), text.len());
        drop(text);
        let scrapes = if servers > 1000 { 20 } else { 100 };
        let mut on_loop = Vec::new();
        let mut total = Vec::new();
        for _ in 0..scrapes {
            let began = Instant::now();
            books.prepare(now);
            let exposition = books.metrics.exposition();
            on_loop.push(began.elapsed());
            let mut writing = exposition.write().unwrap();
            let mut piece = Vec::new();
            while writing.left() > 0 {
                piece.clear();
                writing.take(&mut piece, 64 * 1024);
            }
            total.push(began.elapsed());
        }
        let tick = Instant::now();
        books.tick(now);
        let tick = tick.elapsed();
        eprintln!(
            "{servers:>6} servers, both roles: {series} series, {:.2} MB; scrape p50 {:.1} ms, p99 {:.1} ms, \
             of which on the loop {:.1} and {:.1} ms; tick {:.1} ms; resident {} MB, at most {} MB",
            bytes as f64 / 1e6,
            milliseconds(&mut total, 50),
            milliseconds(&mut total, 99),
            milliseconds(&mut on_loop, 50),
            milliseconds(&mut on_loop, 99),
            tick.as_secs_f64() * 1e3,
            resident_bytes() / 1_000_000,
            status_bytes("VmHWM:") / 1_000_000,
        );
    }
}

fn series(exposition: &str) -> usize {
    exposition
        .lines()
        .filter(|line| !line.starts_with('#'))
        .count()
}

fn milliseconds(times: &mut [Duration], percent: usize) -> f64 {
    times.sort_unstable();
    let rank = (times.len() * percent).div_ceil(100);
    times[rank - 1].as_secs_f64() * 1e3
}

fn resident_bytes() -> u64 {
    status_bytes("VmRSS:")
}

fn status_bytes(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .unwrap();
    line.split_whitespace()
        .next()
        .unwrap()
        .parse::<u64>()
        .unwrap()
        * 1024
}
