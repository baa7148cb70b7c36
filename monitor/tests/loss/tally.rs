//! How many records were right, how many say that they do not know, and that none is wrong.

use std::{collections::BTreeMap, fs::OpenOptions, io::Write};

use serde_json::Value;

use crate::{
    daemon::Daemon,
    figures::Figures,
    judge::{Role, Side},
    ledger::Sent,
    tshark::Dissected,
    witness::View,
};

/// Records of one kind of traffic at one rate of loss.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) records: usize,
    missing: Vec<String>,
    exact: usize,
    /// What was received could not be followed to its end, and the record says so.
    nulls: Vec<String>,
    /// Close frames that arrived, and those that the records have.
    closes: usize,
    closes_found: usize,
    /// Close frames that no one sent.
    false_closes: usize,
    wrong_codes: usize,
    /// Records whose own end's Close frame and frames are right.
    egress_exact: usize,
    /// Directions of which tshark says what the peer says.
    dissector_agrees: usize,
    dissector_differs: Vec<String>,
    wrong: Vec<String>,
    /// Of times and durations, in nanoseconds.
    differences: Vec<i64>,
}

impl Tally {
    pub(crate) fn dissector(&mut self, dissected: Option<&Dissected>, sent: &Sent, view: &View) {
        let expected = Dissected {
            frames: sent.frames,
            close: sent.close,
        };
        // What has no frames is not listed.
        if *dissected.unwrap_or(&Dissected::default()) == expected {
            self.dissector_agrees += 1;
        } else {
            self.dissector_differs
                .push(format!("{}: {dissected:?}, not {expected:?}", name(view)));
        }
    }

    pub(crate) fn misses(&self) -> bool {
        !self.missing.is_empty()
    }

    pub(crate) fn missing(&mut self, view: &View) {
        self.missing.push(name(view));
    }

    pub(crate) fn record(&mut self, view: &View, record: &Value, mut figures: Figures) {
        self.records += 1;
        self.differences.append(&mut figures.differences);
        let (mine, other) = match view.role {
            Role::Client => (Role::Client, Role::Server),
            Role::Server => (Role::Server, Role::Client),
        };
        let frames = record["frames_sent"].as_u64();
        let own = &record[format!("{}_close", mine.name())];
        let own_right = code(own) == side(view, mine).close.map(|(_, code)| code);
        self.egress_exact +=
            usize::from(own_right && frames.is_some() && frames == view.frames(mine, i64::MAX));

        let theirs = code(&record[format!("{}_close", other.name())]);
        match (theirs, side(view, other).close) {
            (Some(found), Some((_, sent))) => {
                self.closes += 1;
                self.closes_found += 1;
                self.wrong_codes += usize::from(found != sent);
            }
            (None, Some(_)) => self.closes += 1,
            (Some(_), None) => self.false_closes += 1,
            (None, None) => {}
        }
        if record["frames_received"].is_null() {
            self.nulls.push(name(view));
        } else if figures.errors.is_empty() {
            self.exact += 1;
        }
        self.wrong.append(&mut figures.errors);
    }

    fn add(&mut self, other: &Tally) {
        for (sum, one) in [
            (&mut self.records, other.records),
            (&mut self.exact, other.exact),
            (&mut self.closes, other.closes),
            (&mut self.closes_found, other.closes_found),
            (&mut self.false_closes, other.false_closes),
            (&mut self.wrong_codes, other.wrong_codes),
            (&mut self.egress_exact, other.egress_exact),
            (&mut self.dissector_agrees, other.dissector_agrees),
        ] {
            *sum += one;
        }
        self.missing.extend(other.missing.iter().cloned());
        self.nulls.extend(other.nulls.iter().cloned());
        self.wrong.extend(other.wrong.iter().cloned());
        self.dissector_differs
            .extend(other.dissector_differs.iter().cloned());
        self.differences.extend(&other.differences);
    }

    fn found(&self) -> f64 {
        100.0 * self.closes_found as f64 / self.closes.max(1) as f64
    }
}

fn name(view: &View) -> String {
    format!("{} {}", view.role.name(), view.client_address)
}

/// The code in a record's Close frame, when there is one.
fn code(close: &Value) -> Option<Option<u16>> {
    (!close.is_null()).then(|| close["code"].as_u64().map(|code| code as u16))
}

fn side(view: &View, of: Role) -> Side {
    match of {
        Role::Client => view.client,
        Role::Server => view.server,
    }
}

/// What the daemon says that it could not see.
pub(crate) struct Counters {
    egress: f64,
    ingress: f64,
    others: Vec<String>,
}

impl Counters {
    pub(crate) fn of(daemon: &Daemon) -> Counters {
        let streams = "closewatch_streams_lost_total";
        let mut others = daemon.losses();
        others.retain(|line| !line.starts_with(streams));
        Counters {
            egress: daemon.metric(streams, &["direction=\"sent\""]),
            ingress: daemon.metric(streams, &["direction=\"received\""]),
            others,
        }
    }

    /// `lost` records say that what they received could not be followed.
    pub(crate) fn settle(&self, lost: u64, tallies: &mut BTreeMap<String, Tally>) {
        let mut all = Tally::default();
        tallies.values().for_each(|tally| all.add(tally));
        if self.egress != 0.0 || self.ingress != lost as f64 {
            all.wrong.push(format!(
                "counted as lost: {} sent, {} received; null: {lost} received",
                self.egress, self.ingress
            ));
        }
        all.wrong.extend(self.others.iter().cloned());
        tallies.insert("all".to_owned(), all);
    }
}

/// All rates of one test.
pub(crate) struct Report {
    test: &'static str,
    /// tshark's word is to be the peers', in every direction.
    dissects: bool,
    rates: Vec<(u32, BTreeMap<String, Tally>)>,
}

impl Report {
    pub(crate) fn new(test: &'static str, dissects: bool) -> Report {
        Report {
            test,
            dissects,
            rates: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, lost: u32, tallies: BTreeMap<String, Tally>) {
        eprintln!(
            "\n{}, {lost} % lost\n{:<8} {:>7} {:>7} {:>5} {:>5} {:>8} {:>11} {:>8} {:>6} {:>6} {:>7} {:>7} {:>6}",
            self.test,
            "kind",
            "records",
            "exact",
            "null",
            "WRONG",
            "missing",
            "closes",
            "found",
            "false",
            "code",
            "egress",
            "tshark",
            "µs off"
        );
        for (kind, tally) in &tallies {
            let mut differences = tally.differences.clone();
            differences.sort_unstable();
            let median = differences.get(differences.len() / 2).copied().unwrap_or(0);
            eprintln!(
                "{kind:<8} {:>7} {:>7} {:>5} {:>5} {:>8} {:>5}/{:>5} {:>7.2}% {:>6} {:>6} {:>7} {:>7} {:>6}",
                tally.records,
                tally.exact,
                tally.nulls.len(),
                tally.wrong.len(),
                tally.missing.len(),
                tally.closes_found,
                tally.closes,
                tally.found(),
                tally.false_closes,
                tally.wrong_codes,
                tally.egress_exact,
                tally.dissector_agrees,
                median / 1000,
            );
        }
        let all = &tallies["all"];
        for (what, names) in [
            ("wrong", &all.wrong),
            ("missing", &all.missing),
            ("null", &all.nulls),
            ("tshark", &all.dissector_differs),
        ] {
            for name in names.iter().take(20) {
                eprintln!("  {what}: {name}");
            }
        }
        self.write(lost, &tallies);
        self.rates.push((lost, tallies));
    }

    /// Appends the figures to the file that `CLOSEWATCH_FIGURES` names.
    fn write(&self, lost: u32, tallies: &BTreeMap<String, Tally>) {
        let Some(path) = std::env::var_os("CLOSEWATCH_FIGURES") else {
            return;
        };
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        for (kind, tally) in tallies {
            let line = serde_json::json!({
                "test": self.test,
                "lost_percent": lost,
                "kind": kind,
                "records": tally.records,
                "exact": tally.exact,
                "null": tally.nulls.len(),
                "wrong": tally.wrong.len(),
                "missing": tally.missing.len(),
                "closes": tally.closes,
                "closes_found": tally.closes_found,
                "false_closes": tally.false_closes,
                "wrong_codes": tally.wrong_codes,
                "egress_exact": tally.egress_exact,
                "dissector_agrees": tally.dissector_agrees,
            });
            writeln!(file, "{line}").unwrap();
        }
    }

    /// Panics when anything is not as it is promised to be.
    pub(crate) fn settle(self) {
        let mut broken = Vec::new();
        for (lost, tallies) in &self.rates {
            let all = &tallies["all"];
            // Of few Close frames, one may be missing.
            let least = match lost {
                0 => 100.0,
                1 => 99.9,
                2..=5 => 99.0,
                _ => 0.0,
            };
            let may_miss = (all.closes as f64 * (100.0 - least) / 100.0).max(if *lost == 0 {
                0.0
            } else {
                1.0
            });
            for (kept, promise) in [
                (all.wrong.is_empty(), "no record is wrong"),
                (all.missing.is_empty(), "no record is missing"),
                (
                    all.dissector_differs.is_empty() || !self.dissects,
                    "tshark says the same",
                ),
                (all.false_closes == 0, "no Close frame is invented"),
                (all.wrong_codes == 0, "no code is wrong"),
                (all.egress_exact == all.records, "what was sent is known"),
                (
                    (all.closes - all.closes_found) as f64 <= may_miss,
                    "Close frames are found",
                ),
            ] {
                if !kept {
                    broken.push(format!("{lost} %: {promise}"));
                }
            }
        }
        assert!(broken.is_empty(), "{}: {broken:#?}", self.test);
    }
}
