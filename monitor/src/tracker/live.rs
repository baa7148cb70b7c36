//! The live connections by server, kept up to date with every event: asking costs as much as there are
//! servers, however many connections each has.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    time::Duration,
};

use monitor_ebpf::event::Snapshot;

use super::{Key, Live, Phase, Server};
use crate::outcome;

/// What a live connection counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    server: Server,
    phase: Phase,
    /// Since when, for the phases of which the oldest is told.
    since: Option<Duration>,
}

impl Standing {
    /// None when the connection has ended.
    pub(super) fn of(snapshot: &Snapshot) -> Option<Self> {
        let phase = Phase::of(snapshot);
        let since = match phase {
            Phase::Open | Phase::AwaitingCloseFrame => None,
            Phase::AwaitingFin => outcome::complete(snapshot),
            Phase::HalfClosed => first_end(snapshot),
        };
        snapshot.ended.is_none().then(|| Self {
            server: Server::of(snapshot),
            phase,
            since,
        })
    }
}

/// The first FIN or RST of either end.
fn first_end(snapshot: &Snapshot) -> Option<Duration> {
    let (sent, received) = (&snapshot.sent, &snapshot.received);
    let ends = [sent.fin, sent.rst, received.fin, received.rst];
    ends.into_iter().flatten().min()
}

#[derive(Default)]
pub(super) struct ByServer(HashMap<Server, OfServer>);

#[derive(Default)]
struct OfServer {
    phases: [u64; Phase::ALL.len()],
    awaiting_fin: BTreeSet<(Duration, Key)>,
    half_closed: BTreeSet<(Duration, Key)>,
}

impl ByServer {
    /// A connection comes, goes on or goes.
    pub(super) fn moved(&mut self, key: Key, from: Option<Standing>, to: Option<Standing>) {
        if from == to {
            return;
        }
        if let Some(to) = to {
            self.0.entry(to.server).or_default().add(key, to);
        }
        if let Some(from) = from
            && let Entry::Occupied(mut entry) = self.0.entry(from.server)
            && entry.get_mut().remove(key, from)
        {
            entry.remove();
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Server, Live)> {
        let servers = self.0.iter();
        servers.map(|(server, of_server)| (*server, of_server.live()))
    }
}

impl OfServer {
    fn add(&mut self, key: Key, standing: Standing) {
        self.phases[standing.phase as usize] += 1;
        let since = standing.since.map(|since| (since, key));
        if let Some(order) = self.order(standing.phase) {
            order.extend(since);
        }
    }

    /// Returns whether none is left.
    fn remove(&mut self, key: Key, standing: Standing) -> bool {
        self.phases[standing.phase as usize] -= 1;
        if let (Some(order), Some(since)) = (self.order(standing.phase), standing.since) {
            order.remove(&(since, key));
        }
        self.phases.iter().all(|count| *count == 0)
    }

    fn order(&mut self, phase: Phase) -> Option<&mut BTreeSet<(Duration, Key)>> {
        match phase {
            Phase::Open | Phase::AwaitingCloseFrame => None,
            Phase::AwaitingFin => Some(&mut self.awaiting_fin),
            Phase::HalfClosed => Some(&mut self.half_closed),
        }
    }

    fn live(&self) -> Live {
        let oldest = |order: &BTreeSet<(Duration, Key)>| order.first().map(|(since, _)| *since);
        Live {
            phases: self.phases,
            awaiting_fin_since: oldest(&self.awaiting_fin),
            half_closed_since: oldest(&self.half_closed),
        }
    }
}
