//! As many openings and closings a second as this machine makes: whether an event is lost then, and how much CPU time
//! the daemon takes to tell of them, with and without writing records.

use std::{collections::HashMap, fs, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};

use super::{
    Bench,
    bpf::Empty,
    figures::{Figure, Turns},
    place::{Under, cpu},
    watching::{Watching, sum},
};
use crate::scrape::Sample;

const NAME: &str = "WebSockets that open, say one thing and close";
const RECORDS: &str = "closewatch, records";
const SETTINGS: [&str; 4] = ["nothing", "empty program", "closewatch", RECORDS];
/// For the daemon to take in what the load has left in the ring buffer.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Measured {
    rate: Turns,
    load: Turns,
    daemon: Turns,
    lost: Turns,
    /// Local ends without a record, or that did not count as ended.
    missing: Turns,
}

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let (turns, milliseconds) = bench.size.choose((1, 200), (5, 2000));
    // The kernel ends the oldest beyond that; what they take is not what is measured.
    fs::write("/proc/sys/net/ipv4/tcp_max_tw_buckets", "20000")?;
    let mut measured: HashMap<&str, Measured> = HashMap::new();
    for turn in 0..turns {
        for place in 0..SETTINGS.len() {
            let setting = SETTINGS[(turn + place) % SETTINGS.len()];
            let of_it = measured.entry(setting).or_default();
            of_it.turn(bench, setting, milliseconds)?;
            bench.go_on()?;
        }
    }
    let base = &measured["nothing"];
    let mut figures = Vec::new();
    for setting in SETTINGS {
        let of_it = &measured[setting];
        let rate = Figure::new(NAME, "connections a second", setting, &of_it.rate);
        let load = Figure::new(NAME, "µs of the load's CPU for each", setting, &of_it.load);
        if setting == "nothing" {
            figures.extend([rate, load]);
            continue;
        }
        figures.push(rate.compared("nothing", &base.rate));
        figures.push(load.compared("nothing", &base.load));
        if setting.starts_with("closewatch") {
            let unit = "µs of the daemon's CPU for each";
            let daemon = Figure::new(NAME, unit, setting, &of_it.daemon);
            figures.push(daemon.compared("its load", &of_it.load));
            let losses = [
                ("events lost in a turn", &of_it.lost),
                ("ends that are missing in a turn", &of_it.missing),
            ];
            for (unit, turns) in losses {
                let most = turns.0.iter().copied().fold(0.0, f64::max);
                let figure = Figure::new(NAME, unit, setting, turns);
                figures.push(figure.note(format!("at most {most}")));
            }
        }
    }
    Ok(figures)
}

impl Measured {
    fn turn(&mut self, bench: &Bench, setting: &str, milliseconds: u64) -> Result<()> {
        let records = bench.files.path().join("records");
        let path = records.to_str().context("a path in UTF-8")?;
        let start = |flags: &[&str]| {
            Watching::start(&bench.place, &bench.interrupt, &bench.log(), flags).map(Some)
        };
        let (under, empty, watching) = match setting {
            "empty program" => {
                let empty = Empty::attach(&bench.place.of(Under::Empty))?;
                (Under::Empty, Some(empty), None)
            }
            "closewatch" => (Under::Closewatch, None, start(&[])?),
            RECORDS => (Under::Closewatch, None, start(&["--records", path])?),
            _ => (Under::Nothing, None, None),
        };
        let cgroups = [bench.place.of(under), bench.place.watchers()];
        let used = || Ok::<_, anyhow::Error>([cpu(&cgroups[0])?, cpu(&cgroups[1])?]);
        let before = used()?;
        let done = bench
            .place
            .load(under, &["closings", &milliseconds.to_string()])?;
        let number = |name: &str| done[name].as_f64().context("a load counts");
        let connections = number("connections")?;
        if let Some(mut watching) = watching {
            // Each has two local ends.
            let samples = settle(&watching, 2.0 * connections)?;
            let lost = sum(&samples, "closewatch_events_lost_total");
            let ended = sum(&samples, "closewatch_connections_ended_total");
            watching.daemon.stop()?;
            let mut told = ended;
            if setting == RECORDS {
                told = told.min(fs::read_to_string(&records)?.lines().count() as f64);
                fs::remove_file(&records)?;
            }
            self.lost.push(lost);
            self.missing.push(2.0 * connections - told);
        }
        drop(empty);
        let after = used()?;
        let spent = [0, 1].map(|which: usize| (after[which] - before[which]).as_secs_f64());
        self.rate.push(connections / number("seconds")?);
        self.load.push(spent[0] / connections * 1e6);
        self.daemon.push(spent[1] / connections * 1e6);
        Ok(())
    }
}

/// Waits until the daemon has told of all ends, or tells of no more.
fn settle(watching: &Watching, ends: f64) -> Result<Vec<Sample>> {
    let mut before = -1.0;
    let mut waited = Duration::ZERO;
    loop {
        let samples = watching.samples()?;
        let ended = sum(&samples, "closewatch_connections_ended_total");
        if ended >= ends || ended == before {
            return Ok(samples);
        }
        ensure!(
            waited < PATIENCE,
            "closewatch is still telling of ends after {waited:?}"
        );
        before = ended;
        let pause = Duration::from_millis(500);
        thread::sleep(pause);
        waited += pause;
    }
}
