//! The daemon's own loop with more connections than this machine could open: its ring buffer is filled with events that
//! no packet made, as large as real ones and in their order. A million sockets would need tens of gigabytes and
//! processes; the daemon knows of them only what it reads there, so nothing of it is left out or made for this.
//!
//! It would find after a minute that the kernel has no such sockets, and forget them. So this is done before.

use std::{fs, net::Ipv4Addr, os::unix::fs::MetadataExt as _, time::Duration, time::Instant};

use anyhow::{Context as _, Result};
use monitor_ebpf::{
    event::OPENING_FIXED,
    socket::{Direction, Identity, Look, Phase, Socket},
    stream::{Next, Payload, Segment},
};
use zerocopy::IntoBytes as _;

use super::{
    Bench,
    figures::{Figure, Turns},
    place::cpu,
    ring::{Feeder, RINGBUF, map_of},
    start::kibibytes,
    watching::Watching,
};

const OURS: &str = "closewatch";
const REQUEST: &[u8] = b"GET /bench HTTP/1.1\r\nHost: bench.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nUser-Agent: closewatch-bench\r\n\r\n";
/// So many of them close, at most.
const CLOSING: u32 = 100_000;

/// A connection's story, seen by its client: what the kernel side tells of it, one after the other.
struct Story {
    steps: Vec<Socket>,
    cgroup_id: u64,
}

struct Bytes<'a>(&'a [u8]);

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let sizes: &[(u32, u32)] = bench.size.choose(
        &[(2000, 100)],
        &[
            (1000, 10),
            (10_000, 100),
            (100_000, 1000),
            (1_000_000, 10_000),
        ],
    );
    let mut figures = Vec::new();
    for &(connections, servers) in sizes {
        figures.extend(one(bench, connections, servers)?);
        bench.go_on()?;
    }
    Ok(figures)
}

fn one(bench: &Bench, connections: u32, servers: u32) -> Result<Vec<Figure>> {
    let most = servers.to_string();
    let flags = ["--max-servers", &most];
    let watching = Watching::start(&bench.place, &bench.interrupt, &bench.log(), &flags)?;
    let process = watching.daemon.id();
    let cgroup = bench.place.watchers();
    let story = Story::new(fs::metadata(&cgroup)?.ino());
    let ring = map_of(process, RINGBUF)?;
    let resident = || kibibytes(process, "RssAnon:").map(|kib| kib * 1024.0);

    let (memory, used) = (resident()?, cpu(&cgroup)?);
    let opening = Feeder::new(&ring, opening_bytes())?;
    for number in 0..connections {
        opening.put(&mut story.opening(number, servers))?;
    }
    wait_for(bench, &watching, "closewatch_connections", &[], connections)?;
    let opened = (cpu(&cgroup)? - used).as_secs_f64() * 1e6 / f64::from(connections);
    let grown = (resident()? - memory) / f64::from(connections);

    let (mut scrape, mut bytes) = (Turns::default(), 0.0);
    for _ in 0..bench.size.choose(3, 9) {
        let began = Instant::now();
        bytes = watching.exposition()?.len() as f64 / 1e6;
        scrape.push(began.elapsed().as_secs_f64() * 1e3);
    }

    let used = cpu(&cgroup)?;
    let state = Feeder::new(&ring, size_of::<Socket>())?;
    let closing = connections.min(CLOSING);
    for number in 0..closing {
        for step in &story.steps[1..] {
            state.put(story.as_told(*step, number, servers).as_mut_bytes())?;
        }
    }
    wait_for(
        bench,
        &watching,
        "closewatch_connections_ended_total",
        &[("outcome", "clean")],
        closing,
    )?;
    let closed = (cpu(&cgroup)? - used).as_secs_f64() * 1e6 / f64::from(closing);

    let name = format!("{connections} connections to {servers} servers, told of only");
    let once = |unit, value| Figure::once(&name, unit, OURS, value);
    Ok(vec![
        once("bytes of the daemon for a connection", grown),
        once("µs of its CPU for an opening", opened),
        once("µs of its CPU for a closing, of 4 events", closed),
        Figure::new(&name, "ms a scrape", OURS, &scrape),
        once("MB a scrape", bytes),
    ])
}

fn wait_for(
    bench: &Bench,
    watching: &Watching,
    metric: &str,
    labels: &[(&str, &str)],
    count: u32,
) -> Result<()> {
    let mut there = 0.0;
    let all = bench.interrupt.wait(Duration::from_secs(50), || {
        let samples = watching.samples()?;
        let of_it = samples.iter().filter(|sample| sample.is(metric, labels));
        there = of_it.map(|sample| sample.value).sum();
        Ok((there >= f64::from(count)).then_some(()))
    })?;
    all.with_context(|| format!("{metric} {labels:?} is {there}, not {count}"))
}

impl Story {
    fn new(cgroup_id: u64) -> Self {
        let now_ns = now_ns();
        let mut socket = Socket::default();
        let head = Segment {
            sequence: 5000,
            acknowledges: 900,
            length: 129,
            now_ns,
            ..Segment::default()
        };
        socket.begin(Phase::Response, Direction::Ingress, &head);
        socket.stream(Direction::Ingress).skip(&head);
        socket.open(Direction::Ingress, &head, true, 900);
        let mut steps = vec![socket];
        let close = [0x88, 2, 0x03, 0xe8];
        let masked_close = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8];
        let segments = [
            (Direction::Egress, 900, 5129, &masked_close[..], false),
            (Direction::Ingress, 5129, 908, &close[..], false),
            (Direction::Ingress, 5133, 908, &[][..], true),
        ];
        for (number, (direction, sequence, acknowledges, bytes, fin)) in (1..).zip(segments) {
            let segment = Segment {
                sequence,
                acknowledges,
                length: bytes.len() as u32,
                awaited: sequence,
                fin,
                now_ns: now_ns + number * 1_000_000,
                ..Segment::default()
            };
            if socket.arrive(direction, &segment) == Look::AtFrames {
                let stream = socket.stream(direction);
                while stream.turn(&segment, &Bytes(bytes)) == Next::Turn {}
            }
            socket.weigh_close_frames();
            steps.push(socket);
        }
        socket.end(now_ns + 5_000_000);
        steps.push(socket);
        Self { steps, cgroup_id }
    }

    fn as_told(&self, mut step: Socket, number: u32, servers: u32) -> Socket {
        let address = |first: u32| {
            let mut address = [0; 16];
            address[..4].copy_from_slice(&Ipv4Addr::from(first).octets());
            address
        };
        step.identity = Identity {
            cookie: (1 << 40) + u64::from(number),
            cgroup_id: self.cgroup_id,
            local_address: address(0x0a00_0000 + number),
            remote_address: address(0xac10_0000 + number % servers),
            local_port: 40_000,
            remote_port: 443,
            ..Identity::default()
        };
        step.note_taken(now_ns());
        step
    }

    fn opening(&self, number: u32, servers: u32) -> Vec<u8> {
        let socket = self.as_told(self.steps[0], number, servers);
        let mut event = socket.as_bytes().to_vec();
        // The lengths of the two heads; the response's is that of an empty one.
        event.extend(0u32.to_ne_bytes());
        event.extend((REQUEST.len() as u32).to_ne_bytes());
        event.resize(OPENING_FIXED, 0);
        event.extend(REQUEST);
        event.resize(opening_bytes(), 0);
        event
    }
}

/// Whole words.
fn opening_bytes() -> usize {
    (OPENING_FIXED + REQUEST.len()).next_multiple_of(8)
}

impl Payload for Bytes<'_> {
    fn load(&self, offset: u32, into: &mut [u8]) -> bool {
        let from = offset as usize;
        let bytes = self.0.get(from..from + into.len());
        if let Some(bytes) = bytes {
            into.copy_from_slice(bytes);
        }
        bytes.is_some()
    }

    fn now_ns(&self) -> u64 {
        now_ns()
    }
}

/// Since boot, as the kernel side tells it.
fn now_ns() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` outlives the call, which writes to it.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
