//! Turns kernel events into live connections and ended ones.
//!
//! In: the state of a socket, at least once whenever it changed, and the time. Out: what was learnt
//! from it ([`News`]), each fact once. Reads no clock, does no I/O, judges nothing.
//!
//! Two CPUs may each tell a state that misses the newest change of the direction the other handles,
//! so states are merged: a fact once known is not unlearned, but for a Close frame or a FIN that proves to be none (`tracker/merge.rs`).
//!
//! The RST of a local abort (`close` with unread data, SO_LINGER 0) leaves after TCP_CLOSE. A
//! connection that ended without a FIN of both ends and without an RST of either is therefore held for
//! [`GRACE`], and given out when that RST is seen or the time is up. Up without one: Linux goes on
//! without the socket (FIN_WAIT2), or a timeout, or a silent death.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use monitor_ebpf::event::{Role, Side, Snapshot};

pub(crate) use self::order::Place;
use self::{
    ended::Remembered,
    live::{ByServer, Standing},
    merge::{has_cause, merge, refuse},
    openings::Openings,
    order::Order,
    packed::Connections,
};
use crate::{heads::Opening, outcome};

mod ended;
mod live;
mod merge;
mod openings;
mod order;
mod packed;
mod resume;

/// How long the RST of a local abort is waited for; it follows TCP_CLOSE within microseconds.
pub(crate) const GRACE: Duration = Duration::from_millis(100);

/// The end that plays the server, seen from the local end: the key of all figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Server {
    /// The role of the local end, not of this one.
    pub(crate) role: Role,
    pub(crate) address: SocketAddr,
}

impl Server {
    pub(crate) fn of(snapshot: &Snapshot) -> Self {
        let address = match snapshot.role {
            Role::Client => snapshot.remote,
            Role::Server => snapshot.local,
        };
        Self {
            role: snapshot.role,
            address,
        }
    }
}

/// Where a live connection is on its way to the end. It never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// No Close frame, no FIN.
    Open,
    /// One Close frame, no FIN.
    AwaitingCloseFrame,
    /// Both Close frames, no FIN: the server's turn to close TCP.
    AwaitingFin,
    /// A FIN (or RST) was seen, the socket is still there: on a server, the CLOSE_WAIT leak.
    HalfClosed,
}

impl Phase {
    pub(crate) const ALL: [Self; 4] = [
        Self::Open,
        Self::AwaitingCloseFrame,
        Self::AwaitingFin,
        Self::HalfClosed,
    ];

    /// The word for labels.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::AwaitingCloseFrame => "awaiting_close_frame",
            Self::AwaitingFin => "awaiting_fin",
            Self::HalfClosed => "half_closed",
        }
    }

    fn of(snapshot: &Snapshot) -> Self {
        let (sent, received) = (&snapshot.sent, &snapshot.received);
        if [sent.fin, sent.rst, received.fin, received.rst]
            .iter()
            .any(Option::is_some)
        {
            return Self::HalfClosed;
        }
        match (sent.close, received.close) {
            (None, None) => Self::Open,
            (Some(_), None) | (None, Some(_)) => Self::AwaitingCloseFrame,
            (Some(_), Some(_)) => Self::AwaitingFin,
        }
    }

    /// Since when a socket is in this phase; none when its opening was not seen.
    fn since(self, snapshot: &Snapshot) -> Option<Duration> {
        let sides = [&snapshot.sent, &snapshot.received];
        match self {
            Self::Open => snapshot.opened,
            Self::AwaitingCloseFrame => sides.iter().find_map(|side| side.close).map(|c| c.at),
            Self::AwaitingFin => outcome::complete(snapshot),
            Self::HalfClosed => sides
                .iter()
                .flat_map(|side| [side.fin, side.rst])
                .flatten()
                .min(),
        }
    }
}

/// One connection, as far as its local end knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Connection {
    pub(crate) snapshot: Snapshot,
    /// From the heads of the opening handshake; none when they were never told.
    pub(crate) opening: Option<Arc<Opening>>,
}

/// A fact that was not known before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    Opened,
    /// A WebSocket was found whose opening was not seen.
    Adopted,
    /// An end sent its first Close frame; no code when its body was shorter than two bytes.
    CloseFrame {
        sender: Role,
        code: Option<u16>,
    },
    /// The connection is over and forgotten here.
    Ended(Box<Connection>),
}

/// The live connections of one server at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Live {
    /// How many are in each phase, in the order of [`Phase::ALL`].
    pub(crate) phases: [u64; Phase::ALL.len()],
    /// Since when the one that has awaited a FIN longest awaits it.
    pub(crate) awaiting_fin_since: Option<Duration>,
    /// Since when the one that has been half-closed longest is so: its first FIN or RST.
    pub(crate) half_closed_since: Option<Duration>,
}

impl Live {
    /// Takes the connections of another server in.
    pub(crate) fn add(&mut self, other: &Self) {
        for (phase, count) in self.phases.iter_mut().zip(other.phases) {
            *phase += count;
        }
        let oldest = |one: Option<Duration>, other| one.into_iter().chain(other).min();
        self.awaiting_fin_since = oldest(self.awaiting_fin_since, other.awaiting_fin_since);
        self.half_closed_since = oldest(self.half_closed_since, other.half_closed_since);
    }
}

/// One connection: its socket's cookie, and when it opened. A socket that is taken apart and connected
/// again keeps its cookie.
pub(crate) type Key = (u64, Option<Duration>);

/// The key of the connection that this is a state of.
pub(crate) fn key(snapshot: &Snapshot) -> Key {
    (snapshot.cookie, snapshot.opened)
}

/// Every connection between its opening and its record.
#[derive(Default)]
pub(crate) struct Tracker {
    connections: Connections,
    openings: Openings,
    live: ByServer,
    order: Order,
    /// Ended connections whose end has no cause yet, by the time at which the wait is over.
    held: VecDeque<(Duration, Key)>,
    recently_ended: Remembered,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Tracked {
    connection: Connection,
    first_seen: Duration,
}

impl Tracker {
    /// Takes in the state of a socket, with what its heads said if this is its opening.
    pub(crate) fn observe(
        &mut self,
        snapshot: Snapshot,
        opening: Option<Opening>,
        now: Duration,
    ) -> Vec<News> {
        let key = key(&snapshot);
        if self.recently_ended.contains(key) {
            return Vec::new();
        }
        let known = self.connections.get(key);
        let is_new = known.is_none();
        let mut tracked = known.unwrap_or_else(|| Tracked::unknown(&snapshot));
        let place = tracked.place(key);
        let connection = &mut tracked.connection;
        let had_ended = connection.snapshot.ended.is_some();
        let before = Standing::of(&connection.snapshot).filter(|_| !is_new);
        let mut news = Vec::new();
        if is_new && snapshot.opened.is_none() {
            news.push(News::Adopted);
        }
        news.extend(merge(&mut connection.snapshot, snapshot));
        if connection.opening.is_none() {
            connection.opening = opening.map(|opening| self.openings.share(opening));
        }
        let after = Standing::of(&connection.snapshot);
        let ended = connection.snapshot.ended.is_some();
        let explained = has_cause(&connection.snapshot);
        self.live.moved(key, before, after);
        self.order
            .moved(place.filter(|_| !is_new), tracked.place(key));
        self.connections.put(key, tracked);

        if ended {
            if explained {
                let ended = self.give_out(key);
                news.extend(ended.map(|connection| News::Ended(Box::new(connection))));
            } else if !had_ended {
                self.held.push_back((now + GRACE, key));
            }
        }
        news
    }

    /// When [`Tracker::expire`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.held.front().map(|(until, _)| *until)
    }

    /// Whether a connection has ended and waits to be given out.
    pub(crate) fn is_held(&self, key: Key) -> bool {
        self.connections.has_ended(key)
    }

    /// Gives out the ended connections whose end has shown no cause in time.
    pub(crate) fn expire(&mut self, now: Duration) -> Vec<Connection> {
        let due = self.held.partition_point(|(until, _)| *until <= now);
        let due: Vec<Key> = self.held.drain(..due).map(|(_, key)| key).collect();
        due.into_iter()
            .filter_map(|key| self.give_out(key))
            .collect()
    }

    /// Whether to remember all that ends from now on: while a list of sockets, some of which end meanwhile, is still to be
    /// taken in. One that is forgotten would come to life again.
    pub(crate) fn remember_all(&mut self, all: bool) {
        self.recently_ended.remember_all(all);
    }

    /// Whether there are connections that [`Tracker::sweep`] would drop.
    pub(crate) fn lacks(&self, listed: &HashSet<Key>, began: Duration) -> bool {
        let mut known = self.connections.live_before(began);
        known.any(|key| !listed.contains(&key))
    }

    /// Drops the connections that ended unseen: those not among the listed sockets although they
    /// were known before the listing began. Returns which. Nothing is known of their end, so
    /// nothing is told about it.
    pub(crate) fn sweep(&mut self, listed: &HashSet<Key>, began: Duration) -> Vec<Key> {
        let known = self.connections.live_before(began);
        let swept: Vec<Key> = known.filter(|key| !listed.contains(key)).collect();
        for key in &swept {
            if let Some(tracked) = self.connections.remove(*key) {
                let standing = Standing::of(&tracked.connection.snapshot);
                self.live.moved(*key, standing, None);
                self.order.moved(tracked.place(*key), None);
            }
        }
        swept
    }

    /// Forgets a connection of which what was told may be another's. Whether it was known.
    pub(crate) fn withdraw(&mut self, key: Key) -> bool {
        let Some(tracked) = self.connections.remove(key) else {
            return false;
        };
        let standing = Standing::of(&tracked.connection.snapshot);
        self.live.moved(key, standing, None);
        self.order.moved(tracked.place(key), None);
        self.recently_ended.insert(key);
        true
    }

    /// The live connections, by server.
    pub(crate) fn live(&self) -> HashMap<Server, Live> {
        self.live_servers().collect()
    }

    /// The same, one server after the other.
    pub(crate) fn live_servers(&self) -> impl Iterator<Item = (Server, Live)> {
        self.live.iter()
    }

    /// The cgroup of every connection that is not yet given out.
    pub(crate) fn cgroups(&self) -> impl Iterator<Item = u64> {
        self.connections.cgroups()
    }

    /// How many connections are live.
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// The live connections by phase, the longest in it first: of one phase or of all, from behind a
    /// place on. One that moves on while they are being listed is listed again rather than missed.
    pub(crate) fn list(
        &self,
        phase: Option<Phase>,
        behind: Option<Place>,
    ) -> impl Iterator<Item = (Place, Connection)> {
        self.order.list(phase, behind).filter_map(|place| {
            let tracked = self.connections.get(place.key)?;
            Some((place, tracked.connection))
        })
    }

    fn give_out(&mut self, key: Key) -> Option<Connection> {
        let mut connection = self.connections.remove(key)?.connection;
        self.recently_ended.insert(key);
        let snapshot = &mut connection.snapshot;
        refuse(&mut snapshot.received);
        Some(connection)
    }
}

impl Tracked {
    /// A socket of which nothing is known yet but what never changes.
    fn unknown(snapshot: &Snapshot) -> Self {
        let unknown = Snapshot {
            opened: None,
            ended: None,
            sent: Side::default(),
            received: Side::default(),
            rtt: None,
            closer: None,
            ..snapshot.clone()
        };
        Self {
            first_seen: snapshot.taken,
            connection: Connection {
                snapshot: unknown,
                opening: None,
            },
        }
    }
}

impl Tracked {
    /// Where it is listed; none when it has ended.
    fn place(&self, key: Key) -> Option<Place> {
        let snapshot = &self.connection.snapshot;
        let phase = Phase::of(snapshot);
        snapshot.ended.is_none().then(|| Place {
            phase,
            since: phase.since(snapshot).unwrap_or(self.first_seen),
            key,
        })
    }
}

#[cfg(test)]
mod tests;
