//! The order in which live connections are listed: by phase, then the longest in it first.
//!
//! Kept up to date with every event, so that a page of 100,000 connections costs no more than one of
//! a hundred.

use std::{
    collections::BTreeSet,
    ops::Bound::{Excluded, Included, Unbounded},
    time::Duration,
};

use super::{Key, Phase};

/// One connection's place in the order; no two share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) phase: Phase,
    /// Since boot; when the opening was not seen, when the connection was first heard of.
    pub(crate) since: Duration,
    pub(crate) key: Key,
}

#[derive(Default)]
pub(super) struct Order(BTreeSet<Place>);

impl Order {
    /// A connection comes, goes on or goes.
    pub(super) fn moved(&mut self, from: Option<Place>, to: Option<Place>) {
        if from != to
            && let Some(from) = from
        {
            self.0.remove(&from);
        }
        self.0.extend(to);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn list(
        &self,
        phase: Option<Phase>,
        behind: Option<Place>,
    ) -> impl Iterator<Item = Place> {
        let first = phase.map(|phase| Place {
            phase,
            since: Duration::ZERO,
            key: (0, None),
        });
        let from = match (first, behind) {
            (Some(first), Some(behind)) if behind < first => Included(first),
            (_, Some(behind)) => Excluded(behind),
            (Some(first), None) => Included(first),
            (None, None) => Unbounded,
        };
        self.0
            .range((from, Unbounded))
            .copied()
            .take_while(move |place| phase.is_none_or(|phase| place.phase == phase))
    }
}
