//! What each run of closewatch's programs takes, against programs that only let packets pass: by the kernel's own clock,
//! which takes most of an empty program's time itself, turn by turn in the same traffic.

use std::{collections::HashMap, os::fd::OwnedFd};

use anyhow::{Context as _, Result};

use super::{
    Bench,
    bpf::{Clock, Empty, Hook, Runs, attached, runs},
    figures::{Figure, Turns},
    load::Traffic,
    place::Under,
    watching::Watching,
};

const COMPARED: [Under; 2] = [Under::Empty, Under::Closewatch];

/// ns a run, in every turn.
#[derive(Default)]
struct Measured {
    egress: Turns,
    ingress: Turns,
    /// Of a packet, which passes both on loopback.
    both: Turns,
    /// ns for a frame, in one of them.
    frame: Turns,
}

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let (turns, milliseconds) = bench.size.choose((3, 60), (25, 200));
    let _empty = Empty::attach(&bench.place.of(Under::Empty))?;
    let watching = Watching::start(&bench.place, &bench.interrupt, &bench.log(), &[])?;
    let programs = |under: Under| -> Result<[OwnedFd; 2]> {
        let cgroup = bench.place.of(under);
        let [egress, ingress] = Hook::BOTH;
        Ok([attached(&cgroup, egress)?, attached(&cgroup, ingress)?])
    };
    let programs = [programs(Under::Empty)?, programs(Under::Closewatch)?];
    let mut measured: HashMap<(usize, usize), Measured> = HashMap::new();

    let clock = Clock::start()?;
    for turn in 0..turns {
        for (kind, traffic) in Traffic::ALL.into_iter().enumerate() {
            for place in 0..COMPARED.len() {
                // Neither is always the first.
                let which = (turn + place) % COMPARED.len();
                let before = now(&programs[which])?;
                let words = ["single", &traffic.word(), &milliseconds.to_string()];
                let done = bench.place.load(COMPARED[which], &words)?;
                let after = now(&programs[which])?;
                let frames = done["frames"]
                    .as_f64()
                    .context("a load counts its frames")?;
                measured
                    .entry((kind, which))
                    .or_default()
                    .note(before, after, frames);
                bench.go_on()?;
            }
        }
    }
    drop(clock);
    watching.saw_the_load()?;

    let mut figures = Vec::new();
    for (kind, traffic) in Traffic::ALL.into_iter().enumerate() {
        let [empty, ours] = [0, 1].map(|which| &measured[&(kind, which)]);
        let columns = [
            ("egress", &ours.egress, &empty.egress),
            ("ingress", &ours.ingress, &empty.ingress),
            ("both", &ours.both, &empty.both),
        ];
        for (hook, ours, empty) in columns {
            let what = format!("{}: {hook}", traffic.name());
            let figure = Figure::new(what, "ns a run", Under::Closewatch.name(), ours);
            figures.push(figure.compared(Under::Empty.name(), empty));
        }
        if let Traffic::Tiny = traffic {
            let what = format!("{}: a frame", traffic.name());
            let under = Under::Closewatch.name();
            figures.push(Figure::new(what, "ns", under, &ours.frame));
        }
    }
    Ok(figures)
}

fn now(programs: &[OwnedFd; 2]) -> Result<[Runs; 2]> {
    Ok([runs(&programs[0])?, runs(&programs[1])?])
}

impl Measured {
    fn note(&mut self, before: [Runs; 2], after: [Runs; 2], frames: f64) {
        let taken = [0, 1].map(|hook: usize| {
            let count = (after[hook].count - before[hook].count) as f64;
            let nanoseconds = (after[hook].nanoseconds - before[hook].nanoseconds) as f64;
            (nanoseconds, nanoseconds / count)
        });
        let [(egress, of_egress), (ingress, of_ingress)] = taken;
        self.egress.push(of_egress);
        self.ingress.push(of_ingress);
        self.both.push(of_egress + of_ingress);
        self.frame.push((egress + ingress) / 2.0 / frames);
    }
}
