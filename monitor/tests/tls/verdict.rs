//! What became of every end: judged rightly, wrongly, or not seen.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    compare::{Expectation, compare},
    programs::Server,
    scene::Observed,
    witness::View,
};

const SLOW_AFTER: i64 = 1_000_000_000;
/// TLS takes its time between the application's bytes and the packet.
pub(crate) const TOLERANCE: i64 = 5_000_000;

/// The ends of one program.
#[derive(Debug, Default)]
struct Row {
    ends: usize,
    right: usize,
    unseen: usize,
    wrong: usize,
    /// Of every compared time, in nanoseconds.
    differences: Vec<i64>,
}

/// Every end in plaintext has its record. Over TLS each has one where the daemon follows it, and none else. What was
/// opened before `since` was open when the daemon started.
pub(crate) fn settle(test: &str, observed: &Observed, tolerance: i64, since: i64) {
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    let mut errors = Vec::new();
    let mut left: Vec<&Value> = observed.records.iter().collect();
    let processes = observed.sandbox.processes();
    for view in &observed.views {
        let row = rows.entry(kind(view)).or_default();
        row.ends += 1;
        let Some(index) = left.iter().position(|record| is_of(record, view)) else {
            row.unseen += 1;
            continue;
        };
        let record = left.remove(index).clone();
        let expectation = Expectation {
            cgroup: &observed.sandbox.cgroup,
            processes: &processes,
            slow_after: SLOW_AFTER,
            tolerance,
            may_be_lost: false,
            adopted_at: (view.opened_at < since).then_some(since),
        };
        let mut figures = compare(std::slice::from_ref(view), &[record], &expectation);
        row.right += figures.right;
        row.differences.append(&mut figures.differences);
        row.wrong += figures.errors.len();
        errors.append(&mut figures.errors);
    }
    errors.extend(
        left.iter()
            .map(|record| format!("nothing captured explains {record}")),
    );
    for (kind, row) in &mut rows {
        row.differences.sort_unstable();
        let [median, largest] = [
            row.differences.len() / 2,
            row.differences.len().saturating_sub(1),
        ]
        .map(|index| row.differences.get(index).copied().unwrap_or(0) / 1000);
        eprintln!(
            "{test}: {kind}: {} ends, {} right, {} wrong, {} without a record; times {median} µs off in the median, {largest} µs at most",
            row.ends, row.right, row.wrong, row.unseen,
        );
        let hidden = kind.starts_with("TLS") && !observed.follows_tls;
        let expected = if hidden { row.ends } else { 0 };
        if row.unseen != expected {
            errors.push(format!(
                "{kind}: {} ends without a record, not {expected}",
                row.unseen
            ));
        }
    }
    let count = errors.len();
    errors.truncate(12);
    assert!(count == 0, "{test}: {count} errors:\n{}", errors.join("\n"));
}

fn is_of(record: &Value, view: &View) -> bool {
    record["role"] == view.role.name()
        && record["local"] == view.local().to_string()
        && record["remote"] == view.remote().to_string()
}

/// The program that holds the end, as far as the packets tell, and over what.
fn kind(view: &View) -> String {
    let layer = if view.tls { "TLS" } else { "plaintext" };
    let server = Server::of_port(view.server_address.port()).map_or("raw", Server::name);
    let client = view.user_agent.value.as_deref().unwrap_or("ws");
    match view.role.name() {
        "server" => format!("{layer}, server {server}"),
        _ => format!("{layer}, client {client}"),
    }
}
