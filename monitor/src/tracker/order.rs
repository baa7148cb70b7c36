//! The order in which live connections are listed: by phase, then the longest in it first.
//!
//! Kept up to date with every event, so that a page of 100,000 connections costs no more than one of
//! a hundred.

use std::{
    collections::BTreeSet,
    ops::Bound::{Excluded, Included, Unbounded},
    time::Duration,
};

use super::{
    Key, Phase,
    packed::{PackedKey, nanoseconds},
};

/// One connection's place in the order; no two share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) phase: Phase,
    /// Since boot; when the opening was not seen, when the connection was first heard of.
    pub(crate) since: Duration,
    pub(crate) key: Key,
}

#[derive(Default)]
pub(super) struct Order(BTreeSet<PackedPlace>);

/// A [`Place`] in half the bytes, in the same order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct PackedPlace {
    /// The phase's number in the upper two bits, and the nanoseconds since boot: they suffice for 146 years.
    phase_and_since: u64,
    key: PackedKey,
}

const SINCE_BITS: u32 = 62;

impl From<Place> for PackedPlace {
    fn from(place: Place) -> Self {
        let since = nanoseconds(place.since).min((1 << SINCE_BITS) - 1);
        Self {
            phase_and_since: (place.phase as u64) << SINCE_BITS | since,
            key: place.key.into(),
        }
    }
}

impl From<PackedPlace> for Place {
    fn from(packed: PackedPlace) -> Self {
        let since = packed.phase_and_since & ((1 << SINCE_BITS) - 1);
        Self {
            phase: Phase::ALL[(packed.phase_and_since >> SINCE_BITS) as usize],
            since: Duration::from_nanos(since),
            key: packed.key.into(),
        }
    }
}

impl Order {
    /// A connection comes, goes on or goes.
    pub(super) fn moved(&mut self, from: Option<Place>, to: Option<Place>) {
        if from == to {
            return;
        }
        if let Some(from) = from {
            self.0.remove(&from.into());
        }
        self.0.extend(to.map(PackedPlace::from));
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn list(
        &self,
        phase: Option<Phase>,
        behind: Option<Place>,
    ) -> impl Iterator<Item = Place> {
        let first = phase.map(|phase| {
            PackedPlace::from(Place {
                phase,
                since: Duration::ZERO,
                key: (0, None),
            })
        });
        let behind = behind.map(PackedPlace::from);
        let from = match (first, behind) {
            (Some(first), Some(behind)) if behind < first => Included(first),
            (_, Some(behind)) => Excluded(behind),
            (Some(first), None) => Included(first),
            (None, None) => Unbounded,
        };
        self.0
            .range((from, Unbounded))
            .map(|packed| Place::from(*packed))
            .take_while(move |place| phase.is_none_or(|phase| place.phase == phase))
    }
}
