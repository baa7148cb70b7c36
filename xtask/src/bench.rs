//! `cargo xtask bench`: what closewatch costs, against programs that only let packets pass and against what people use
//! today. Programs and not timed tests: nothing here fails because it took long.
//!
//! Everything that is compared is compared in the same run, turn by turn, so that a noisy machine does not decide.

mod bpf;
mod closings;
mod figures;
mod flood;
mod helpers;
mod load;
mod machine;
mod path;
mod place;
mod programs;
mod ring;
mod scale;
mod slab;
mod start;
mod tls;
mod watchers;
mod watching;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, ValueEnum};
use serde_json::json;

pub(crate) use self::load::{Options as LoadOptions, load};
use self::{machine::Machine, place::Place};
use crate::{
    daemon,
    interrupt::Interrupt,
    setup,
    shell::{as_root, run},
};

#[derive(Args)]
pub(crate) struct Options {
    /// What to measure; all of it when none is named
    parts: Vec<Part>,
    #[arg(long, value_enum, default_value_t = Size::Full)]
    size: Size,
    /// Also write the figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Everything is built: only measure. Needs root
    #[arg(long, hide = true)]
    prepared: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Nanoseconds a run of the programs that packets pass
    Programs,
    /// The floor of them: nanoseconds of each thing that they ask the kernel for
    Helpers,
    /// What an echo is slowed down by, and its CPU time, under closewatch and other tools
    Path,
    /// What an echo over TLS is slowed down by, with and without probes in the servers' libraries
    Tls,
    /// What it takes to tell of openings and closings, as many as this machine makes
    Closings,
    /// How soon the daemon watches, how large it is, and what it does when nothing happens
    Start,
    /// How memory, each packet and a scrape grow with the connections that are open
    Scale,
    /// The same of the daemon alone, with up to a million connections that it is only told of
    Flood,
}

#[derive(Clone, Copy, ValueEnum)]
enum Size {
    /// Some seconds, which only show that it works
    Smallest,
    /// Some minutes
    Full,
}

/// What every part needs.
struct Bench {
    size: Size,
    interrupt: Interrupt,
    place: Place,
    /// For logs and records of daemons.
    files: tempfile::TempDir,
}

impl Part {
    fn measure(self, bench: &Bench) -> Result<Vec<figures::Figure>> {
        match self {
            Self::Programs => programs::measure(bench),
            Self::Helpers => helpers::measure(bench),
            Self::Path => path::measure(bench),
            Self::Tls => tls::measure(bench),
            Self::Closings => closings::measure(bench),
            Self::Start => start::measure(bench),
            Self::Scale => scale::measure(bench),
            Self::Flood => flood::measure(bench),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Programs => "programs",
            Self::Helpers => "helpers",
            Self::Path => "path",
            Self::Tls => "tls",
            Self::Closings => "closings",
            Self::Start => "start",
            Self::Scale => "scale",
            Self::Flood => "flood",
        }
    }
}

impl Size {
    fn choose<T>(self, smallest: T, full: T) -> T {
        match self {
            Self::Smallest => smallest,
            Self::Full => full,
        }
    }

    fn name(self) -> &'static str {
        self.choose("smallest", "full")
    }
}

impl Bench {
    fn log(&self) -> PathBuf {
        self.files.path().join("log")
    }

    /// Called between turns, so that Ctrl-C leaves nothing behind.
    fn go_on(&self) -> Result<()> {
        if self.interrupt.came() {
            bail!("interrupted");
        }
        Ok(())
    }
}

pub(crate) fn bench(options: &Options) -> Result<()> {
    if options.prepared {
        return measure(options);
    }
    setup::setup()?;
    daemon::build()?;
    if options.parts.is_empty() || options.parts.contains(&Part::Tls) {
        tls::install()?;
    }
    run(&mut measuring(options)?)
}

/// The smallest size of all parts, once everything is built.
pub(crate) fn smallest() -> Result<Command> {
    measuring(&Options {
        parts: vec![],
        size: Size::Smallest,
        json: None,
        prepared: true,
    })
}

/// The half of the command that needs root.
fn measuring(options: &Options) -> Result<Command> {
    // By way of the process: a build meanwhile may have put another file in the place of ours.
    let mut measuring = as_root(format!("/proc/{}/exe", std::process::id()))?;
    measuring.args(["bench", "--prepared", "--size", options.size.name()]);
    if let Some(json) = &options.json {
        measuring.arg("--json").arg(std::path::absolute(json)?);
    }
    measuring.args(options.parts.iter().map(|part| part.name()));
    Ok(measuring)
}

fn measure(options: &Options) -> Result<()> {
    let machine = Machine::look();
    println!("{}", machine.line());
    let bench = Bench {
        size: options.size,
        interrupt: Interrupt::catch()?,
        place: Place::create()?,
        files: tempfile::tempdir()?,
    };
    let mut figures = Vec::new();
    let mut failed = Vec::new();
    for part in Part::value_variants() {
        if !options.parts.is_empty() && !options.parts.contains(part) {
            continue;
        }
        println!("{} …", part.name());
        // One that fails does not take the others' figures along.
        match part.measure(&bench) {
            Ok(measured) => figures.extend(measured),
            Err(error) => {
                eprintln!("error: measure {}: {error:#}", part.name());
                failed.push(part.name());
            }
        }
        if bench.interrupt.came() {
            break;
        }
    }
    drop(bench);

    println!("\n{}\n{}", machine.line(), figures::table(&figures));
    if let Some(json) = &options.json {
        write(json, &machine, options.size, &figures)?;
    }
    ensure!(failed.is_empty(), "not measured: {}", failed.join(", "));
    Ok(())
}

fn write(file: &Path, machine: &Machine, size: Size, figures: &[figures::Figure]) -> Result<()> {
    let all = json!({
        "size": size.name(), "machine": machine.json(), "figures": figures::json(figures),
    });
    fs::write(file, format!("{all:#}\n")).with_context(|| format!("write {}", file.display()))
}
