//! What an echo over TLS is slowed down by: servers of several programs under nothing, under closewatch without and with
//! `--tls`, and where it follows TLS of another program only, turn by turn; then, with the kernel's clock on, what each
//! of its programs in their libraries took, and how often.

mod peers;
mod probes;

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

pub(super) use self::peers::install;
use self::{
    peers::{Program, Servers, certify},
    probes::{Probes, Ran},
};
use super::{
    Bench,
    bpf::Clock,
    figures::{Figure, Turns},
    place::Under,
    watching::{Watching, sum},
};
use crate::shell::find;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Setting {
    Nothing,
    /// closewatch without TLS.
    Off,
    /// With that of all processes.
    Auto,
    /// With that of a program which is none of those measured, and which uses the same libraries as some of them.
    Other,
}

/// Of a message's payload, and the words for it.
const SIZES: [(usize, &str); 2] = [(100, "100 B"), (64 << 10, "64 KiB")];
/// Runs of a program below which its time is chance.
const LEAST_RUNS: u64 = 50;
const ROUND_TRIP: &str = "µs a round trip";

/// A program and the place of a size in [`SIZES`].
type Load = (Program, usize);

#[derive(Default)]
struct Measured {
    /// The median round trip's: others that want the CPU make few of them longer, but those much.
    microseconds: Turns,
    rate: Turns,
}

/// With the kernel's clock on.
#[derive(Default)]
struct Counted {
    /// For a round trip.
    calls: Turns,
    bio_writes: Turns,
    /// Of the programs, for a call of `SSL_read` or its kin.
    nanoseconds: Turns,
    /// Wall clock, likewise.
    wall: Turns,
    /// A run of each program.
    each: BTreeMap<String, Turns>,
}

#[derive(Default)]
struct All {
    measured: HashMap<(Load, Setting), Measured>,
    counted: HashMap<Load, Counted>,
    /// Runs of programs where another program was chosen.
    of_others: HashMap<Load, Turns>,
    /// ms, by the file.
    attached: BTreeMap<String, Turns>,
}

/// What ran in a load of so many round trips.
struct Clocked {
    ran: Ran,
    turns: f64,
}

/// A process that has OpenSSL's libraries and does nothing.
struct Idle(Child);

impl Setting {
    const ALL: [Self; 4] = [Self::Nothing, Self::Off, Self::Auto, Self::Other];

    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Off => "closewatch",
            Self::Auto => "closewatch --tls auto",
            Self::Other => "closewatch --tls OTHER",
        }
    }
}

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    certify(bench.files.path())?;
    let turns = bench.size.choose(1, 7);
    let mut all = All::default();
    for turn in 0..turns {
        let mut counted = HashMap::new();
        for place in 0..Setting::ALL.len() {
            bench.go_on()?;
            let setting = Setting::ALL[(turn + place) % Setting::ALL.len()];
            all.turn(bench, setting, &mut counted)?;
        }
        all.count(&counted)?;
    }
    Ok(all.figures())
}

impl All {
    fn turn(
        &mut self,
        bench: &Bench,
        setting: Setting,
        counted: &mut HashMap<Load, Clocked>,
    ) -> Result<()> {
        let openssl = find("openssl").context("openssl is installed")?;
        let under = match setting {
            Setting::Nothing => Under::Nothing,
            Setting::Off | Setting::Auto | Setting::Other => Under::Closewatch,
        };
        let servers = Servers::start(bench, under)?;
        let idle = Idle::start(&openssl)?;
        let follow = match setting {
            Setting::Nothing => None,
            Setting::Off => Some("off"),
            Setting::Auto => Some("auto"),
            Setting::Other => Some(openssl.to_str().context("a path in UTF-8")?),
        };
        let start = |follow| {
            let flags = ["--tls", follow];
            Watching::start(&bench.place, &bench.interrupt, &bench.log(), &flags)
        };
        let watching = follow.map(start).transpose()?;
        let probes = match &watching {
            Some(watching) => Probes::of(watching.daemon.id())?,
            None => Probes::none(),
        };
        let milliseconds = bench.size.choose(50, 300);
        for (program, size) in tried() {
            bench.go_on()?;
            let (bytes, _) = SIZES[size];
            let done = probes.undisturbed(bench, || servers.load(program, bytes, milliseconds))?;
            let (turns, seconds) = (number(&done, "turns")?, number(&done, "seconds")?);
            let measured = self.measured.entry(((program, size), setting)).or_default();
            measured
                .microseconds
                .push(number(&done, "median_seconds")? * 1e6);
            measured.rate.push(turns / seconds);
        }
        if let Some(mut watching) = watching {
            if matches!(setting, Setting::Auto | Setting::Other) {
                let ran = clocked(bench, &servers, &probes, milliseconds)?;
                if setting == Setting::Auto {
                    self.note_attached(&watching.daemon.log());
                    counted.extend(ran);
                } else {
                    for (which, Clocked { ran, turns }) in ran {
                        let of_it = self.of_others.entry(which).or_default();
                        of_it.push(ran.runs() as f64 / turns);
                    }
                }
            }
            saw_the_load(&watching, setting)?;
            watching.daemon.stop()?;
            wait_for_the_end(bench)?;
        }
        drop(idle);
        Ok(())
    }

    /// Once all of a turn is measured.
    fn count(&mut self, counted: &HashMap<Load, Clocked>) -> Result<()> {
        for (&(program, size), Clocked { ran, turns }) in counted {
            let last = |setting| {
                let measured = self.measured.get(&((program, size), setting));
                let turns = measured.and_then(|measured| measured.microseconds.0.last());
                turns.copied().context("all settings were measured")
            };
            let slower = last(Setting::Auto)? - last(Setting::Off)?;
            let calls = ran.calls() as f64 / turns;
            let counted = self.counted.entry((program, size)).or_default();
            counted.calls.push(calls);
            counted.bio_writes.push(ran.bio_writes() as f64 / turns);
            let nanoseconds = ran.nanoseconds() as f64 / ran.calls() as f64;
            counted.nanoseconds.push(nanoseconds);
            counted.wall.push(slower / calls);
            for (name, nanoseconds) in ran.each(LEAST_RUNS) {
                let each = counted.each.entry(name.to_owned()).or_default();
                each.push(nanoseconds);
            }
        }
        Ok(())
    }

    /// The files of what is measured; other processes of this machine have theirs.
    fn note_attached(&mut self, log: &str) {
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        for line in lines {
            let fields = &line["fields"];
            // The log has so wide a number as text.
            let milliseconds = fields["milliseconds"].as_str().map(str::parse);
            let (Some(file), Some(Ok(milliseconds))) = (fields["file"].as_str(), milliseconds)
            else {
                continue;
            };
            let name = Path::new(file).file_name().unwrap_or_default();
            let name = name.to_string_lossy().into_owned();
            if ["libssl", "libcrypto", "node"]
                .iter()
                .any(|of| name.starts_with(of))
            {
                self.attached.entry(name).or_default().push(milliseconds);
            }
        }
    }

    fn figures(&self) -> Vec<Figure> {
        let mut figures = Vec::new();
        for program in Program::ALL {
            if let Some(lacks) = program.lacks() {
                figures.push(Figure::missing(
                    program.name(),
                    ROUND_TRIP,
                    "any",
                    lacks.to_owned(),
                ));
            }
        }
        for (program, size) in tried() {
            let name = name(program, size);
            let base = &self.measured[&((program, size), Setting::Nothing)];
            for setting in Setting::ALL {
                let measured = &self.measured[&((program, size), setting)];
                let under = setting.name();
                let of_one = Figure::new(&name, ROUND_TRIP, under, &measured.microseconds);
                let rate = Figure::new(&name, "round trips a second", under, &measured.rate);
                if setting == Setting::Nothing {
                    figures.extend([of_one, rate]);
                    continue;
                }
                let nothing = Setting::Nothing.name();
                figures.push(of_one.compared(nothing, &base.microseconds));
                figures.push(rate.compared(nothing, &base.rate));
            }
            let under = Setting::Auto.name();
            let counted = &self.counted[&(program, size)];
            let of_it = [
                ("calls of SSL_read, SSL_write a round trip", &counted.calls),
                ("calls of BIO_write a round trip", &counted.bio_writes),
                ("µs of wall clock a call, above closewatch", &counted.wall),
                ("ns of BPF programs a call", &counted.nanoseconds),
            ];
            figures.extend(of_it.map(|(unit, turns)| Figure::new(&name, unit, under, turns)));
            for (of_it, turns) in &counted.each {
                let name = format!("{name}: {of_it}");
                figures.push(Figure::new(name, "ns a run", under, turns));
            }
            let runs = &self.of_others[&(program, size)];
            let unit = "runs of probes a round trip";
            figures.push(Figure::new(&name, unit, Setting::Other.name(), runs));
        }
        for (file, turns) in &self.attached {
            let name = format!("placing the probes in {file}");
            figures.push(Figure::new(name, "ms", Setting::Auto.name(), turns));
        }
        figures
    }
}

impl Idle {
    fn start(openssl: &Path) -> Result<Self> {
        let mut idle = Command::new(openssl);
        // It reads what it shall digest.
        idle.arg("sha256").stdin(Stdio::piped());
        let idle = idle.stdout(Stdio::null()).spawn();
        Ok(Self(idle.context("start openssl")?))
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        // Both fail when it has ended, which is what is wanted.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// All programs that are there, with messages of all sizes.
fn tried() -> impl Iterator<Item = Load> {
    let there = Program::ALL.into_iter().filter(|it| it.lacks().is_none());
    there.flat_map(|program| (0..SIZES.len()).map(move |size| (program, size)))
}

fn name(program: Program, size: usize) -> String {
    format!("wss echo, {}: {}", SIZES[size].1, program.name())
}

/// What ran in each load, and its round trips.
fn clocked(
    bench: &Bench,
    servers: &Servers,
    probes: &Probes,
    milliseconds: u64,
) -> Result<Vec<(Load, Clocked)>> {
    let _clock = Clock::start()?;
    let mut all = Vec::new();
    for (program, size) in tried() {
        bench.go_on()?;
        let before = probes.runs()?;
        let done = servers.load(program, SIZES[size].0, milliseconds)?;
        let ran = probes.since(&before)?;
        let turns = number(&done, "all_turns")?;
        all.push(((program, size), Clocked { ran, turns }));
    }
    Ok(all)
}

fn number(done: &Value, name: &str) -> Result<f64> {
    done[name].as_f64().context("a load counts its turns")
}

/// A daemon that ended leaves a child behind for as long as the kernel takes to remove its probes.
fn wait_for_the_end(bench: &Bench) -> Result<()> {
    let processes = bench.place.watchers().join("cgroup.procs");
    let ended = bench.interrupt.wait(Duration::from_secs(60), || {
        Ok(fs::read_to_string(&processes)?.is_empty().then_some(()))
    })?;
    ended.context("the kernel did not remove closewatch's probes within a minute")
}

/// That the load was followed, where it should be, and that the other program was.
fn saw_the_load(watching: &Watching, setting: Setting) -> Result<()> {
    let samples = watching.samples()?;
    match setting {
        Setting::Nothing => {}
        Setting::Off => {
            let hidden = sum(&samples, "closewatch_tls_connections_total");
            ensure!(hidden > 0.0, "closewatch saw no TLS of the load");
        }
        Setting::Auto => {
            let opened = sum(&samples, "closewatch_connections_opened_total");
            // Each was loaded twice, with and without the clock.
            let ends = tried().map(|(program, _)| 2 * program.followed_ends());
            let expected = f64::from(ends.sum::<u32>());
            ensure!(
                opened >= expected,
                "closewatch saw {opened} ends of WebSockets of the load, and not {expected}"
            );
        }
        Setting::Other => {
            let followed = sum(&samples, "closewatch_tls_processes");
            ensure!(
                followed > 0.0,
                "closewatch did not follow the TLS of openssl"
            );
        }
    }
    Ok(())
}
