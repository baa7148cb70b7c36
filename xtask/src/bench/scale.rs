//! How what closewatch takes grows with the connections that are open: memory of the kernel and of the daemon, a packet
//! of one of them, a scrape.
//!
//! Both ends of each connection are on this host and followed, so there are two local ends for each.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{
    Bench,
    bpf::{Clock, Empty, Hook, attached, runs},
    figures::{Figure, Turns},
    place::{Load, Under},
    slab,
    start::kibibytes,
    watching::{Watching, sum},
};

/// A process may be limited to 20,000 descriptors, of which each connection takes two.
const OF_A_PROCESS: u32 = 4000;
/// The kernel gives memory of sockets back some moments after they ended, the daemon what it took in behind them.
const SETTLING: Duration = Duration::from_millis(1500);
const OURS: &str = "closewatch";

/// What was measured while so many connections were open.
#[derive(Default)]
struct Measured {
    kernel_bytes: f64,
    daemon_bytes: f64,
    nanoseconds: Turns,
    scrape: Turns,
}

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let sizes: &[u32] = bench.size.choose(&[500], &[1000, 10_000, 100_000]);
    let mut figures = Vec::new();
    for &size in sizes {
        let empty = Empty::attach(&bench.place.of(Under::Empty))?;
        let base = open(bench, Under::Empty, size, None)?;
        drop(empty);
        thread::sleep(SETTLING);
        let mut watching = Watching::start(&bench.place, &bench.interrupt, &bench.log(), &[])?;
        thread::sleep(SETTLING);
        let ours = open(bench, Under::Closewatch, size, Some(&watching))?;
        if figures.is_empty() {
            let maps = slab::maps(watching.daemon.id())? / f64::from(1 << 20);
            let name = "maps in the kernel, whatever is open";
            figures.push(Figure::once(name, "MiB", OURS, maps));
        }
        watching.daemon.stop()?;
        let name = format!("{size} open connections");
        let kernel = ours.kernel_bytes - base.kernel_bytes;
        let unit = "bytes of the kernel for a local end";
        figures.push(Figure::once(&name, unit, OURS, kernel));
        let unit = "bytes of the daemon for a local end";
        figures.push(Figure::once(&name, unit, OURS, ours.daemon_bytes));
        let packet = Figure::new(&name, "ns a packet, both hooks", OURS, &ours.nanoseconds);
        figures.push(packet.compared(Under::Empty.name(), &base.nanoseconds));
        figures.push(Figure::new(&name, "ms a scrape", OURS, &ours.scrape));
    }
    Ok(figures)
}

fn open(bench: &Bench, under: Under, size: u32, watching: Option<&Watching>) -> Result<Measured> {
    let (turns, milliseconds) = bench.size.choose((3, 60), (15, 200));
    let daemon = || match watching {
        Some(watching) => kibibytes(watching.daemon.id(), "RssAnon:").map(|kib| kib * 1024.0),
        None => Ok(0.0),
    };
    let before = (slab::in_use()?, daemon()?);
    let mut loads = Vec::new();
    for first in (0..size).step_by(OF_A_PROCESS as usize) {
        let number = loads.len().to_string();
        let connections = OF_A_PROCESS.min(size - first).to_string();
        let mut load = bench.place.begin(under, &["hold", &number, &connections])?;
        load.answer()?;
        loads.push(load);
        bench.go_on()?;
    }
    thread::sleep(SETTLING);
    let after = (slab::in_use()?, daemon()?);
    let ends = f64::from(2 * size);
    let mut measured = Measured {
        kernel_bytes: (after.0 - before.0) / ends,
        daemon_bytes: (after.1 - before.1) / ends,
        ..Measured::default()
    };
    if let Some(watching) = watching {
        wait_for(bench, watching, ends)?;
        for _ in 0..turns {
            let began = Instant::now();
            watching.exposition()?;
            measured.scrape.push(began.elapsed().as_secs_f64() * 1e3);
        }
    }
    measured.nanoseconds = talk(bench, under, &mut loads, turns, milliseconds)?;
    for load in loads {
        load.end()?;
    }
    Ok(measured)
}

/// What was told while the ring buffer was full, the daemon finds when it compares, once a minute.
fn wait_for(bench: &Bench, watching: &Watching, ends: f64) -> Result<()> {
    let mut followed = 0.0;
    let all = bench.interrupt.wait(Duration::from_secs(80), || {
        followed = sum(&watching.samples()?, "closewatch_connections");
        if followed < ends {
            thread::sleep(Duration::from_secs(1));
        }
        Ok((followed >= ends).then_some(()))
    })?;
    all.with_context(|| format!("closewatch follows {followed} of {ends} ends"))
}

/// One process after the other, over all of its connections.
fn talk(
    bench: &Bench,
    under: Under,
    loads: &mut [Load],
    turns: usize,
    milliseconds: u64,
) -> Result<Turns> {
    let cgroup = bench.place.of(under);
    let programs = [
        attached(&cgroup, Hook::Egress)?,
        attached(&cgroup, Hook::Ingress)?,
    ];
    let _clock = Clock::start()?;
    let mut nanoseconds = Turns::default();
    for turn in 0..turns {
        bench.go_on()?;
        let before = [runs(&programs[0])?, runs(&programs[1])?];
        let which = turn % loads.len();
        let load = loads.get_mut(which).context("there is one")?;
        load.ask(&milliseconds.to_string())?;
        let after = [runs(&programs[0])?, runs(&programs[1])?];
        let of_a_run = [0, 1].map(|hook: usize| {
            let nanoseconds = after[hook].nanoseconds - before[hook].nanoseconds;
            nanoseconds as f64 / (after[hook].count - before[hook].count) as f64
        });
        nanoseconds.push(of_a_run[0] + of_a_run[1]);
    }
    Ok(nanoseconds)
}
