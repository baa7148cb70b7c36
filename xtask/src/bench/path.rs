//! What watching costs the traffic as a whole, with the kernel's clock off: messages of an echo on all CPUs, and the CPU
//! time of them, of the kernel's part in them and of what watches, turn by turn under one thing after the other.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context as _, Result};

use super::{
    Bench,
    figures::{Figure, Turns},
    place::cpu,
    watchers::Watcher,
};

const KINDS: [(&str, bool); 2] = [
    ("WebSocket echo, 100 B", true),
    ("plain TCP echo, 100 B", false),
];

#[derive(Default)]
struct Measured {
    rate: Turns,
    cpu: Turns,
    watcher: Turns,
}

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let (turns, milliseconds) = bench.size.choose((1, 100), (8, 1000));
    let mut measured: HashMap<(bool, &str), Measured> = HashMap::new();
    let mut refused: HashMap<&str, String> = HashMap::new();
    for turn in 0..turns {
        for place in 0..Watcher::ALL.len() {
            let watcher = Watcher::ALL[(turn + place) % Watcher::ALL.len()];
            bench.go_on()?;
            let watch = match watcher.start(bench) {
                Ok(watch) => watch,
                Err(error) if watcher.may_be_missing() => {
                    refused.insert(watcher.name(), format!("{error:#}"));
                    continue;
                }
                Err(error) => return Err(error),
            };
            for (_, websocket) in KINDS {
                let of_it = measured.entry((websocket, watcher.name())).or_default();
                of_it.turn(bench, watcher, websocket, milliseconds)?;
            }
            watch.stop()?;
        }
    }
    let mut figures = Vec::new();
    for (name, websocket) in KINDS {
        let base = &measured[&(websocket, Watcher::Nothing.name())];
        for watcher in Watcher::ALL {
            let under = watcher.name();
            let Some(of_it) = measured.get(&(websocket, under)) else {
                let why = refused.get(under).cloned().unwrap_or_default();
                figures.push(Figure::missing(name, "round trips a second", under, why));
                continue;
            };
            let rate = Figure::new(name, "round trips a second", under, &of_it.rate);
            let cpu = Figure::new(name, "CPU s for 10⁶ messages", under, &of_it.cpu);
            if watcher == Watcher::Nothing {
                figures.extend([rate, cpu]);
                continue;
            }
            figures.push(rate.compared(Watcher::Nothing.name(), &base.rate));
            figures.push(cpu.compared(Watcher::Nothing.name(), &base.cpu));
            if watcher != Watcher::Empty {
                let unit = "CPU s for 10⁶ messages, of its own process";
                figures.push(Figure::new(name, unit, under, &of_it.watcher));
            }
        }
    }
    Ok(figures)
}

impl Measured {
    fn turn(
        &mut self,
        bench: &Bench,
        watcher: Watcher,
        websocket: bool,
        milliseconds: u64,
    ) -> Result<()> {
        let cgroups = [bench.place.of(watcher.load()), bench.place.watchers()];
        let used = || Ok::<_, anyhow::Error>([cpu(&cgroups[0])?, cpu(&cgroups[1])?]);
        let before = used()?;
        let milliseconds = milliseconds.to_string();
        let mut words = vec!["pairs", &milliseconds];
        if websocket {
            words.push("--websocket");
        }
        let done = bench.place.load(watcher.load(), &words)?;
        let after = used()?;
        let number = |name: &str| done[name].as_f64().context("a load counts its turns");
        let messages = 2.0 * number("turns")?;
        let spent = [0, 1].map(|which: usize| {
            let spent: Duration = after[which] - before[which];
            spent.as_secs_f64() / messages * 1e6
        });
        self.rate.push(number("turns")? / number("seconds")?);
        self.cpu.push(spent[0] + spent[1]);
        self.watcher.push(spent[1]);
        Ok(())
    }
}
