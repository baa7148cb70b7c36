//! Which ends must have a record, and whether it is right.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    compare::{Expectation, TOLERANCE, compare},
    figures::Figures,
    judge::Role,
    late::Observed,
    witness::View,
};

const SLOW_AFTER: i64 = 1_000_000_000;
/// As where loss is tested: a sender may lose its CPU between the hook and the device.
const LOSSY_TOLERANCE: i64 = 50_000_000;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Expect {
    /// The daemon saw its opening.
    Opened,
    /// Both directions show frames to a daemon that came later.
    Adopted,
    /// What passes is less than that, or some of it passed before. A record there is must be right.
    Maybe(&'static str),
    /// A direction shows nothing.
    Never(&'static str),
}

/// What was found of the ends of one kind.
#[derive(Debug, Default)]
struct Row {
    ends: usize,
    adopted: usize,
}

/// `expect` says what is to be made of a view: its kind, and since when the daemon followed it.
pub(crate) fn settle(
    test: &str,
    observed: &Observed,
    lossy: bool,
    expect: impl Fn(&View) -> (String, Expect, i64),
) {
    let mut figures = Figures::default();
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    let mut left: Vec<&Value> = observed.records.iter().collect();
    for view in &observed.views {
        let (kind, expect, since) = expect(view);
        let name = format!("{kind}: {} {}", view.role.name(), view.local());
        let note = match expect {
            Expect::Opened => "opened later",
            Expect::Adopted => "both directions show frames",
            Expect::Maybe(why) | Expect::Never(why) => why,
        };
        let row = rows.entry(format!("{kind} ({note})")).or_default();
        row.ends += 1;
        let Some(index) = left.iter().position(|record| is_of(record, view)) else {
            if matches!(expect, Expect::Opened | Expect::Adopted) {
                figures.expected += 1;
                let [client, server] =
                    [Role::Client, Role::Server].map(|by| later_frames(view, by, since));
                figures.errors.push(format!(
                    "{name}: no record; frames since the daemon's start: client {client}, server {server}"
                ));
            }
            continue;
        };
        let record = left.remove(index);
        row.adopted += usize::from(record["adopted"] == true);
        let adopted = !matches!(expect, Expect::Opened);
        let expectation = Expectation {
            cgroup: &observed.cgroup,
            processes: &observed.processes,
            slow_after: SLOW_AFTER,
            tolerance: if lossy { LOSSY_TOLERANCE } else { TOLERANCE },
            may_be_lost: lossy,
            adopted_at: adopted.then_some(since),
        };
        let found = compare(
            std::slice::from_ref(view),
            std::slice::from_ref(record),
            &expectation,
        );
        figures.expected += 1;
        figures.right += found.right;
        figures.differences.extend(found.differences);
        let errors = found.errors.into_iter();
        figures
            .errors
            .extend(errors.map(|error| format!("{name}: {error}")));
        if let Expect::Never(why) = expect {
            figures
                .errors
                .push(format!("{name}: {why}, but there is {record}"));
        }
    }
    figures.errors.extend(
        left.iter()
            .map(|record| format!("nothing captured explains {record}")),
    );
    print(test, &rows);
    eprintln!("{test}: {:?}", observed.counts);
    figures.settle(test);
}

fn is_of(record: &Value, view: &View) -> bool {
    record["role"] == view.role.name()
        && record["local"] == view.local().to_string()
        && record["remote"] == view.remote().to_string()
}

fn later_frames(view: &View, by: Role, since: i64) -> String {
    match view.frames(by, i64::MAX).zip(view.frames(by, since)) {
        Some((all, before)) => (all - before).to_string(),
        None => "broken".to_owned(),
    }
}

fn print(test: &str, rows: &BTreeMap<String, Row>) {
    let ends: usize = rows.values().map(|row| row.ends).sum();
    let adopted: usize = rows.values().map(|row| row.adopted).sum();
    eprintln!("{test}: {adopted} of {ends} ends adopted");
    for (kind, row) in rows {
        if row.adopted < row.ends {
            eprintln!("    {} of {}: {kind}", row.adopted, row.ends);
        }
    }
}
