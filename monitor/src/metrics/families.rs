//! The families of the series of servers, in their order: names, help, labels, and where the numbers are.

use std::fmt::Display;

use super::{
    ROLES,
    series::{Histogram, Series},
};
use crate::{
    labels::{codes, outcome_name, outcomes},
    outcome::role_name,
    servers::Label,
    tracker::Phase,
};

/// One metric, with a sample, or a histogram's, for each value of its own label and each server.
pub(super) struct Family {
    /// Without `closewatch_`.
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) help: &'static str,
    /// In the order of their text; one where there is no label but role and server.
    pub(super) values: Vec<Value>,
    pub(super) numbers: Numbers,
}

/// A value of a label that comes before role and server.
pub(super) struct Value {
    /// As text; empty where there is no such label.
    pub(super) label: String,
    /// The place of what it stands for.
    pub(super) at: usize,
    /// Its bit in [`super::text`]'s marks of a row.
    pub(super) bit: u64,
    /// What samples begin with, up to role and server: one, or of a histogram those of [`SUFFIXES`].
    pub(super) opens: Vec<String>,
}

/// Of the names of a histogram's samples.
const SUFFIXES: [&str; 3] = ["_bucket", "_sum", "_count"];

/// Where the numbers of a family are in a server's series; the second argument is [`Value::at`].
#[derive(Clone, Copy)]
pub(super) enum Numbers {
    Integer(fn(&Series, usize) -> u64),
    Seconds(fn(&Series) -> f64),
    Histogram(fn(&Series, usize) -> &Histogram),
    /// None of `other`.
    Slow,
    /// None as long as it was not listed.
    TimeWaitSockets,
    /// By sender, which as a label comes between role and server; none of 0.
    CloseFrames,
    /// 1, with labels of its own; none of most.
    Info,
}

pub(super) fn families() -> Vec<Family> {
    let family = |name, kind, help, mut values: Vec<Value>, numbers| {
        let suffixes: &[&str] = match numbers {
            Numbers::Histogram(_) => &SUFFIXES,
            Numbers::Integer(_)
            | Numbers::Seconds(_)
            | Numbers::Slow
            | Numbers::TimeWaitSockets
            | Numbers::CloseFrames
            | Numbers::Info => &[""],
        };
        for value in &mut values {
            let label = &value.label;
            let opens = suffixes.iter();
            value.opens = opens
                .map(|suffix| format!("closewatch_{name}{suffix}{{{label}"))
                .collect();
        }
        Family {
            name,
            kind,
            help,
            values,
            numbers,
        }
    };
    let of_ends = |label| values(label, ROLES.map(role_name).into_iter());
    let mut families = vec![
        family(
            "awaiting_fin_oldest_seconds",
            "gauge",
            "How long the connection that awaits the first FIN for longest does so already; 0 when none does.",
            no_more(),
            Numbers::Seconds(|series| series.awaiting_fin_oldest.as_secs_f64()),
        ),
        family(
            "close_frames_total",
            "counter",
            "First Close frames by sender and status code (1000 to 1015, 3xxx, 4xxx, none, invalid).",
            values("code", codes()),
            Numbers::CloseFrames,
        ),
        family(
            "close_handshake_seconds",
            "histogram",
            "From the first Close frame to the second.",
            no_more(),
            Numbers::Histogram(|series, _| &series.close_handshake),
        ),
        family(
            "close_to_fin_seconds",
            "histogram",
            "From the second Close frame to the first FIN or RST, by the end that sent it. With first_end=\"client\" it is the client's patience: a lower bound of the server's delay.",
            of_ends("first_end"),
            Numbers::Histogram(|series, end| &series.close_to_fin[end]),
        ),
        family(
            "connections",
            "gauge",
            "Live WebSocket connections by phase: open, awaiting_close_frame (one Close frame), awaiting_fin (closing handshake complete, no FIN), half_closed (a FIN, the socket still there).",
            values("phase", Phase::ALL.map(Phase::name).into_iter()),
            Numbers::Integer(|series, phase| series.phases[phase]),
        ),
        family(
            "connections_adopted_total",
            "counter",
            "WebSocket connections found by their frames, because their opening was not seen: most were open before closewatch started.",
            no_more(),
            Numbers::Integer(|series, _| series.adopted),
        ),
        family(
            "connections_ended_total",
            "counter",
            "WebSocket connections whose socket is gone, by outcome.",
            values("outcome", outcomes().map(outcome_name)),
            Numbers::Integer(|series, outcome| series.ended[outcome]),
        ),
        family(
            "connections_opened_total",
            "counter",
            "WebSocket openings (HTTP 101) seen.",
            no_more(),
            Numbers::Integer(|series, _| series.opened),
        ),
        family(
            "half_closed_oldest_seconds",
            "gauge",
            "How long ago the first FIN or RST came, of the connection of which that is longest and whose socket is still there; 0 when there is none. With role=\"server\" and growing: a CLOSE_WAIT leak.",
            no_more(),
            Numbers::Seconds(|series| series.half_closed_oldest.as_secs_f64()),
        ),
        family(
            "server_info",
            "gauge",
            "1, with the Host and the Server header of the first opening to a server that clients on this host connect to.",
            no_more(),
            Numbers::Info,
        ),
        family(
            "server_slow",
            "gauge",
            "1 while the server is flagged: 3 or more ended connections in 5 minutes and a tenth of them slow closes, or one that awaits the FIN for longer than 10 s and slow-after; lowered when for 5 minutes none did and less than a twentieth were slow.",
            no_more(),
            Numbers::Slow,
        ),
        family(
            "time_wait_entered_total",
            "counter",
            "Ended connections by the end that took TIME_WAIT: it sent the first FIN, and no RST passed before the second; both ends when their FINs crossed.",
            of_ends("holder"),
            Numbers::Integer(|series, holder| series.time_wait_entered[holder]),
        ),
        family(
            "time_wait_sockets",
            "gauge",
            "Sockets of connections with the server that are in TIME_WAIT in this kernel now, at most 5 s old: held by the server with role=\"server\", by clients with role=\"client\".",
            no_more(),
            Numbers::TimeWaitSockets,
        ),
    ];
    let values = families.iter_mut().flat_map(|family| &mut family.values);
    for (value, place) in values.zip(0..u64::BITS) {
        value.bit = 1 << place;
    }
    families
}

impl Numbers {
    /// Whether a server has something else to say here than 0, or than nothing where it says nothing of 0.
    pub(super) fn tells(self, label: &Label, series: &Series, at: usize) -> bool {
        match self {
            Self::Integer(number) => number(series, at) != 0,
            Self::Seconds(number) => number(series) != 0.0,
            Self::Histogram(of) => of(series, at).buckets.iter().any(|count| *count != 0),
            Self::Slow => series.slow || label.is_other(),
            Self::TimeWaitSockets => series.time_wait_sockets != Some(0),
            Self::CloseFrames => series.close_frames.iter().any(|codes| codes[at] != 0),
            Self::Info => series.info.is_some(),
        }
    }

    /// Whether 0 is said.
    pub(super) fn has_zeros(self) -> bool {
        !matches!(self, Self::CloseFrames | Self::Info)
    }
}

fn values(label: &str, values: impl Iterator<Item = impl Display>) -> Vec<Value> {
    let values = values.zip(0..).map(|(value, at)| Value {
        label: format!("{label}=\"{value}\","),
        at,
        bit: 0,
        opens: Vec::new(),
    });
    let mut values: Vec<Value> = values.collect();
    values.sort_unstable_by(|a, b| a.label.cmp(&b.label));
    values
}

/// For a family that has no label but role and server.
fn no_more() -> Vec<Value> {
    vec![Value {
        label: String::new(),
        at: 0,
        bit: 0,
        opens: Vec::new(),
    }]
}
