//! What must be told of each end.

use serde_json::Value;

use super::{Cases, IN_BETWEEN};
use crate::{
    compare::{Expectation, compare},
    judge::Role,
    scene::{Observed, RAW_PORT},
    verdict::TOLERANCE,
    witness::View,
};

const SLOW_AFTER: i64 = 1_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// One record, and right.
    Told,
    /// One record, which may say that it does not know what came in.
    MayBeLost,
    /// One record, which may say that it does not know what went out.
    MayBeUnsent,
    /// Nothing, or one that is right.
    MayBeHidden,
    /// Nothing: the socket has no session.
    Nothing,
}

/// Every end as its rule says, and no record beside. What was opened before `since` was open when the daemon started.
pub(super) fn settle(test: &str, observed: &Observed, since: Option<i64>, cases: &[&Cases]) {
    let mut errors = Vec::new();
    let [mut hidden, mut told, mut lost] = [0; 3];
    let mut left: Vec<&Value> = observed.records.iter().collect();
    let processes = observed.sandbox.processes();
    let mut differences = Vec::new();
    for view in &observed.views {
        let (what, rule) = rule(view, cases);
        let index = left.iter().position(|record| {
            record["role"] == view.role.name()
                && record["local"] == view.local().to_string()
                && record["remote"] == view.remote().to_string()
        });
        let mut complain = |error: String| {
            let (role, port) = (view.role.name(), view.server_address.port());
            errors.push(format!("{what} ({port}, {role}'s end): {error}"));
        };
        let Some(index) = index else {
            hidden += 1;
            if rule != Rule::Nothing && rule != Rule::MayBeHidden {
                complain("no record".to_owned());
            }
            continue;
        };
        let record = left.remove(index).clone();
        if rule == Rule::Nothing {
            complain(format!("told of nobody: {record}"));
            continue;
        }
        told += 1;
        lost += usize::from(record["outcome"].is_null());
        if rule == Rule::MayBeUnsent && is_unsent(&record, view) {
            continue;
        }
        let expectation = Expectation {
            cgroup: &observed.sandbox.cgroup,
            processes: &processes,
            slow_after: SLOW_AFTER,
            tolerance: TOLERANCE,
            may_be_lost: rule == Rule::MayBeLost,
            adopted_at: since.filter(|since| view.opened_at < *since),
        };
        let figures = compare(std::slice::from_ref(view), &[record], &expectation);
        figures.errors.into_iter().for_each(complain);
        differences.extend(figures.differences);
    }
    for record in &left {
        errors.push(format!("nothing captured explains {record}"));
    }
    let largest = differences.iter().max().copied().unwrap_or(0) / 1000;
    eprintln!(
        "{test}: {} ends, {told} told, of which {lost} with an unknown outcome, {hidden} without a record; times {largest} µs off at most",
        observed.views.len()
    );
    let count: usize = cases.iter().map(|cases| cases.views()).sum();
    assert_eq!(observed.views.len(), count, "the witness finds every one");
    let text = errors.join("\n");
    assert!(
        errors.is_empty(),
        "{test}: {} errors:\n{text}",
        errors.len()
    );
}

impl Cases {
    /// What is passed on are two connections.
    fn views(&self) -> usize {
        let views = self.all.iter();
        views
            .map(|(_, case)| case.connections * if case.between.is_some() { 4 } else { 2 })
            .sum()
    }
}

fn rule(view: &View, cases: &[&Cases]) -> (&'static str, Rule) {
    let port = view.server_address.port();
    let is_in_between = port >= RAW_PORT + IN_BETWEEN;
    let own = if is_in_between {
        port - IN_BETWEEN
    } else {
        port
    };
    let mut all = cases.iter().flat_map(|cases| &cases.all);
    let (_, case) = all.find(|(port, _)| *port == own).unwrap();
    let is_client = view.role == Role::Client;
    // The client's end of the one connection, and the server's end of the other.
    let has_session = case.between.is_none() || is_in_between == is_client;
    if !view.tls {
        (case.what, Rule::Told)
    } else if has_session {
        (case.what, case.rules[usize::from(is_client)])
    } else {
        (case.what, Rule::Nothing)
    }
}

/// The record says that it is not known what this end sent, and nothing of its Close frame.
fn is_unsent(record: &Value, view: &View) -> bool {
    let close = format!("{}_close", view.role.name());
    let unknown = ["frames_sent", "outcome", "initiator", "slow", &close];
    unknown.iter().all(|field| record[*field].is_null())
}
