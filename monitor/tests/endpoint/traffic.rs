//! WebSockets that open and close while the endpoint is troubled, and what must be said of them.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    daemon::read_records,
    peers::{Peer, peer_file, python},
    sandbox::Plays,
    world::World,
};

/// An event that is taken in so much later than the machine makes any thread wait is late, in seconds.
const LATE: f64 = 0.05;

/// Clean closes at a pace, in the background.
pub(crate) struct Traffic {
    peer: Peer,
    connections: usize,
    before: Delays,
    yardstick: Yardstick,
}

/// How late the loop took events in: counts by upper edge, as the metric has them.
#[derive(Clone, Debug)]
pub(crate) struct Delays(Vec<(f64, f64)>);

impl Traffic {
    pub(crate) fn start(world: &World, metrics: &str, pace: usize, seconds: usize) -> Traffic {
        let connections = pace * seconds;
        let mut command = world.sandbox.command(python(), 0, true);
        command.arg(peer_file("paced.py"));
        command.args([pace.to_string(), connections.to_string()]);
        Traffic {
            peer: Peer::start(&world.sandbox, command, Plays::Both),
            connections,
            before: Delays::of(metrics),
            yardstick: Yardstick::start(),
        }
    }

    /// Waits for its end. Every one of them must have ended, been counted and recorded as what it was, in
    /// time. `metrics` reads them.
    pub(crate) fn settle(self, world: &World, what: &str, metrics: impl Fn() -> String) {
        self.peer.await_line_within("done", Duration::from_secs(60));
        // An end is told once its cause has had the time to come.
        thread::sleep(Duration::from_millis(500));
        let text = metrics();
        let ends = 2 * self.connections;
        let clean = "closewatch_connections_ended_total{outcome=\"clean\",";
        assert_eq!(sum(&text, clean), ends as f64, "{what}");
        assert_eq!(
            sum(&text, "closewatch_connections_ended_total"),
            ends as f64
        );
        assert_eq!(
            sum(&text, "closewatch_connections_opened_total"),
            ends as f64
        );
        for lost in [
            "events_lost",
            "sockets_lost",
            "streams_lost",
            "heads_unparsed",
        ] {
            assert_eq!(
                sum(&text, &format!("closewatch_{lost}_total")),
                0.0,
                "{what}: {lost}"
            );
        }
        let records = read_records(&world.daemon.records);
        assert_eq!(records.len(), ends, "{what}");
        assert!(records.iter().all(|record| record["outcome"] == "clean"));
        fs::write(&world.daemon.records, "").unwrap();
        let delays = Delays::of(&text).since(&self.before);
        let (p50, p99) = (delays.quantile(0.5), delays.quantile(0.99));
        let machine = self.yardstick.p99();
        eprintln!(
            "{what}: events taken in within {p50} s (p50), {p99} s (p99); any thread wakes within {machine:.4} s (p99)"
        );
        let in_time = delays.share_within(LATE + 2.0 * machine);
        assert!(
            in_time >= 0.99,
            "{what}: the loop takes events in late: {delays:?}"
        );
    }
}

/// How late a thread of this test wakes that only sleeps: what the machine does to everyone.
struct Yardstick {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<f64>>,
}

impl Yardstick {
    fn start() -> Yardstick {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut late = Vec::new();
            let pause = Duration::from_millis(2);
            while !stopped.load(Relaxed) {
                let began = Instant::now();
                thread::sleep(pause);
                late.push((began.elapsed() - pause).as_secs_f64());
            }
            late
        });
        Yardstick { stop, thread }
    }

    fn p99(self) -> f64 {
        self.stop.store(true, Relaxed);
        let mut late = self.thread.join().unwrap();
        late.sort_by(f64::total_cmp);
        late[late.len() * 99 / 100]
    }
}

impl Delays {
    fn of(metrics: &str) -> Delays {
        let lines = metrics.lines();
        let buckets = lines.filter_map(|line| {
            let rest = line.strip_prefix("closewatch_event_delay_seconds_bucket{le=\"")?;
            let (edge, count) = rest.split_once("\"} ")?;
            Some((edge.parse().ok()?, count.parse().ok()?))
        });
        Delays(buckets.collect())
    }

    fn since(&self, before: &Delays) -> Delays {
        let pairs = self.0.iter().zip(&before.0);
        Delays(
            pairs
                .map(|((edge, now), (_, then))| (*edge, now - then))
                .collect(),
        )
    }

    /// How many were at most this late, by the edge above.
    fn share_within(&self, seconds: f64) -> f64 {
        let all = self.0.last().map_or(0.0, |(_, count)| *count);
        let above = self.0.iter().find(|(edge, _)| *edge >= seconds);
        above.map_or(1.0, |(_, count)| count / all)
    }

    /// The upper edge of the bucket with this quantile.
    fn quantile(&self, share: f64) -> f64 {
        let all = self.0.last().map_or(0.0, |(_, count)| *count);
        assert!(all > 0.0, "no event at all");
        let reached = |(_, count): &&(f64, f64)| *count >= share * all;
        self.0
            .iter()
            .find(reached)
            .map_or(f64::INFINITY, |(edge, _)| *edge)
    }
}

/// The sum of the samples that begin with this.
pub(crate) fn sum(metrics: &str, name: &str) -> f64 {
    let lines = metrics.lines().filter(|line| line.starts_with(name));
    lines
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum()
}

/// Descriptors that a process has open.
pub(crate) fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Memory of a process that is its own and in use, in MiB.
pub(crate) fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    let kilobytes = line.unwrap().split_whitespace().nth(1).unwrap();
    kilobytes.parse::<u64>().unwrap() / 1024
}
