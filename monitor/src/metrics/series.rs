//! The series of one server, as plain numbers; [`super::text`] makes the text of them.
//!
//! The prometheus crate keeps, copies and sorts each series with its names, and a server has some 90 in
//! each role: with thousands of servers that took a hundred times the memory, and seconds a scrape.

use std::time::Duration;

use monitor_ebpf::event::Role;

use super::register::EDGES;
use crate::{
    labels::{code_index, outcome_index},
    outcome::Outcome,
    tracker::{Live, Phase},
};

/// Every code of [`crate::labels::codes`].
const CODES: usize = 20;
/// Every outcome, and none.
const OUTCOMES: usize = 9;

/// What is counted of one server in one role.
#[derive(Clone, Debug, Default)]
pub(super) struct Series {
    pub(super) opened: u64,
    pub(super) adopted: u64,
    pub(super) ended: [u64; OUTCOMES],
    pub(super) close_handshake: Histogram,
    /// By who made the first end.
    pub(super) close_to_fin: [Histogram; 2],
    /// By sender and code.
    pub(super) close_frames: [[u64; CODES]; 2],
    /// By holder.
    pub(super) time_wait_entered: [u64; 2],
    pub(super) phases: [u64; Phase::ALL.len()],
    pub(super) awaiting_fin_oldest: Duration,
    pub(super) half_closed_oldest: Duration,
    /// None as long as it was not listed.
    pub(super) time_wait_sockets: Option<u64>,
    pub(super) slow: bool,
    /// Host and software.
    pub(super) info: Option<[String; 2]>,
}

/// How many observations lie at or below each edge and above the one before, and beyond the last.
#[derive(Clone, Debug, Default)]
pub(super) struct Histogram {
    pub(super) buckets: [u64; EDGES.len() + 2],
    pub(super) sum: Duration,
}

impl Series {
    pub(super) fn ended(&mut self, outcome: Option<Outcome>) {
        self.ended[outcome_index(outcome)] += 1;
    }

    pub(super) fn close_frame(&mut self, sender: Role, code: Option<u16>) {
        self.close_frames[index(sender)][code_index(code)] += 1;
    }

    pub(super) fn time_wait_entered(&mut self, holder: Role) {
        self.time_wait_entered[index(holder)] += 1;
    }

    /// Before the first [`Self::live`] of a scrape.
    pub(super) fn nothing_live(&mut self) {
        self.phases = Default::default();
        self.awaiting_fin_oldest = Duration::ZERO;
        self.half_closed_oldest = Duration::ZERO;
    }

    /// This is live beside what was told before: `other` stands for many servers.
    pub(super) fn live(&mut self, live: &Live, now: Duration) {
        for (phase, count) in self.phases.iter_mut().zip(live.phases) {
            *phase += count;
        }
        let age = |since: Option<Duration>| {
            since.map_or(Duration::ZERO, |since| now.saturating_sub(since))
        };
        self.awaiting_fin_oldest = self.awaiting_fin_oldest.max(age(live.awaiting_fin_since));
        self.half_closed_oldest = self.half_closed_oldest.max(age(live.half_closed_since));
    }
}

impl Histogram {
    pub(super) fn observe(&mut self, edges: &[f64], duration: Duration) {
        let seconds = duration.as_secs_f64();
        self.buckets[edges.partition_point(|edge| *edge < seconds)] += 1;
        self.sum += duration;
    }
}

/// The place of a role, or of an end, in an array.
pub(super) fn index(role: Role) -> usize {
    match role {
        Role::Client => 0,
        Role::Server => 1,
    }
}
