//! What the daemon is when nothing happens: how soon it watches, how large it is, how often it wakes up.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{
    Bench,
    figures::{Figure, Turns},
    place::{Under, cpu, within},
    watching::Watching,
};
use crate::daemon;

const UNDER: &str = "closewatch";
/// For what it does once, right after the start.
const SETTLING: Duration = Duration::from_secs(2);

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let (starts, idle) = bench.size.choose((3, 1), (15, 10));
    let (mut attached, mut spent) = (Turns::default(), Turns::default());
    for _ in 0..starts {
        let before = cpu(&bench.place.watchers())?;
        attached.push(start(bench)?.as_secs_f64() * 1e3);
        let after = cpu(&bench.place.watchers())?;
        spent.push((after - before).as_secs_f64() * 1e3);
        bench.go_on()?;
    }
    let size = daemon::binary().metadata()?.len() as f64 / 1e6;

    let mut watching = Watching::start(&bench.place, &bench.interrupt, &bench.log(), &[])?;
    thread::sleep(SETTLING);
    let id = watching.daemon.id();
    let (mut wake_ups, mut busy) = (Turns::default(), Turns::default());
    for _ in 0..3 {
        let (before, switches) = (cpu(&bench.place.watchers())?, switches(id)?);
        thread::sleep(Duration::from_secs(idle));
        let (after, switched) = (cpu(&bench.place.watchers())?, self::switches(id)?);
        wake_ups.push((switched - switches) as f64 / idle as f64);
        busy.push((after - before).as_secs_f64() * 1e6 / idle as f64);
        bench.go_on()?;
    }
    let memory = |field| kibibytes(id, field).map(|kib| kib / 1024.0);
    let figure = |what, unit, turns| Figure::new(what, unit, UNDER, turns);
    let figures = vec![
        figure("process start to probes attached", "ms", &attached),
        figure("the same, CPU time", "ms", &spent),
        Figure::once("the program's file", "MB", UNDER, size),
        figure("idle: wake-ups of all threads", "a second", &wake_ups),
        figure("idle: CPU time", "µs a second", &busy),
        Figure::once("idle: resident", "MiB", UNDER, memory("VmRSS:")?),
        Figure::once(
            "idle: resident, without what files give back",
            "MiB",
            UNDER,
            memory("RssAnon:")?,
        ),
    ];
    watching.daemon.stop()?;
    Ok(figures)
}

/// From the moment that the process is asked for to the line in its log.
fn start(bench: &Bench) -> Result<Duration> {
    let closewatch = daemon::binary();
    let closewatch = closewatch.to_str().context("a path in UTF-8")?;
    let began = Instant::now();
    let mut process = within(&bench.place.watchers(), closewatch)
        .args(["run", "--listen", "127.0.0.1:0", "--cgroup"])
        .arg(bench.place.of(Under::Closewatch))
        .args(["--log-format", "json"])
        .env("CLOSEWATCH_LOG", "info")
        .stderr(Stdio::piped())
        .spawn()
        .context("start closewatch")?;
    let attached = attached(&mut process).map(|()| began.elapsed());
    process.kill()?;
    process.wait()?;
    attached
}

fn attached(process: &mut Child) -> Result<()> {
    let log = process.stderr.take().context("its log is ours")?;
    let mut said = String::new();
    for line in BufReader::new(log).lines() {
        let line = line?;
        if line.contains("probes attached") {
            return Ok(());
        }
        said += &line;
        said += "\n";
    }
    bail!("closewatch ended before its probes were attached:\n{said}")
}

/// How often its threads slept and woke up.
fn switches(id: u32) -> Result<u64> {
    let mut switches = 0;
    for thread in fs::read_dir(format!("/proc/{id}/task"))? {
        let facts = fs::read_to_string(thread?.path().join("status"))?;
        let waited = facts
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        switches += waited
            .context("the kernel counts them")?
            .trim()
            .parse::<u64>()?;
    }
    Ok(switches)
}

pub(super) fn kibibytes(id: u32, field: &str) -> Result<f64> {
    let facts = fs::read_to_string(format!("/proc/{id}/status"))?;
    let size = facts.lines().find_map(|line| line.strip_prefix(field));
    let size = size.with_context(|| format!("the kernel does not say {field}"))?;
    Ok(size.trim().trim_end_matches(" kB").parse()?)
}
