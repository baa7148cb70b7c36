//! The bounded words of labels.

use monitor_ebpf::{event::Lost, socket::Direction};

use crate::outcome::Outcome;

pub(crate) fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Egress => "sent",
        Direction::Ingress => "received",
    }
}

pub(crate) fn lost_name(why: Lost) -> &'static str {
    match why {
        Lost::Gap => "gap",
        Lost::InvalidFrame => "invalid_frame",
        Lost::Budget => "budget",
        Lost::Unreadable => "unreadable",
        Lost::Busy => "busy",
        Lost::Unseen => "unseen",
        Lost::Refused => "refused",
    }
}

/// The outcome as a label value.
pub(crate) fn outcome_name(outcome: Option<Outcome>) -> &'static str {
    outcome.map_or(Outcome::UNKNOWN, Outcome::name)
}

/// Every outcome, and that of a connection whose outcome could not be seen.
pub(crate) fn outcomes() -> impl Iterator<Item = Option<Outcome>> {
    Outcome::ALL.into_iter().map(Some).chain([None])
}

/// The place of an outcome in [`outcomes`].
pub(crate) fn outcome_index(outcome: Option<Outcome>) -> usize {
    outcome.map_or(Outcome::ALL.len(), |outcome| outcome as usize)
}

/// The status code as a label value (RFC 6455 section 7.4.2 tells the ranges).
pub(crate) fn code_name(code: Option<u16>) -> String {
    match code {
        None => "none".to_owned(),
        Some(code @ 1000..=1015) => code.to_string(),
        Some(3000..=3999) => "3xxx".to_owned(),
        Some(4000..=4999) => "4xxx".to_owned(),
        Some(_) => "invalid".to_owned(),
    }
}

/// The place of a code's name in [`codes`].
pub(crate) fn code_index(code: Option<u16>) -> usize {
    match code {
        Some(code @ 1000..=1015) => usize::from(code - 1000),
        None => 16,
        Some(3000..=3999) => 17,
        Some(4000..=4999) => 18,
        Some(_) => 19,
    }
}

/// Every value of [`code_name`].
pub(crate) fn codes() -> impl Iterator<Item = String> {
    (1000..=1015)
        .map(Some)
        .chain([None, Some(3000), Some(4000), Some(0)])
        .map(code_name)
}
