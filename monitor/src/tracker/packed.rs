//! The connections themselves, in as few bytes as they fit.
//!
//! Most live for hours in which nothing is known of them but who they are: such a one takes a [`Slot`], and what its
//! heads said it shares with all that said the same. One that has begun to close has its facts beside that. In and out
//! comes a [`Tracked`] as it was: nothing is rounded or left out, and what does not fit is kept whole.

use std::{
    hash::{BuildHasher as _, RandomState},
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hashbrown::HashTable;
use monitor_ebpf::event::{Lost, Role, Side, Snapshot};
use slab::Slab;

use super::{Connection, Key, Tracked};
use crate::heads::Opening;

/// A [`Key`]: the cookie, and the time of the opening by [`pack`]. In the order of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PackedKey {
    cookie: u64,
    opened: u64,
}

impl From<Key> for PackedKey {
    fn from((cookie, opened): Key) -> Self {
        let opened = pack(opened);
        Self { cookie, opened }
    }
}

impl From<PackedKey> for Key {
    fn from(key: PackedKey) -> Self {
        (key.cookie, unpack(key.opened))
    }
}

/// Nanoseconds since boot, and one: 0 is none. They suffice for 584 years.
fn pack(time: Option<Duration>) -> u64 {
    time.map_or(0, |time| nanoseconds(time).saturating_add(1))
}

fn unpack(packed: u64) -> Option<Duration> {
    packed.checked_sub(1).map(Duration::from_nanos)
}

/// The same, of a time that is there.
pub(super) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Every connection by its key.
#[derive(Default)]
pub(super) struct Connections {
    slots: Slab<Slot>,
    /// Where in `slots` each is. Growing this moves four bytes of each, and never the connections.
    places: HashTable<u32>,
    hasher: RandomState,
}

struct Slot {
    key: PackedKey,
    first_seen_ns: u64,
    state: State,
}

enum State {
    Quiet(Quiet),
    Whole(Box<Connection>),
}

/// An open connection of which no end is known, nor a Close frame.
struct Quiet {
    cgroup_id: u64,
    taken_ns: u64,
    opening: Option<Arc<Opening>>,
    local: Ipv6Addr,
    remote: Ipv6Addr,
    local_port: u16,
    remote_port: u16,
    sent: QuietSide,
    received: QuietSide,
    role: Role,
    tls: bool,
}

#[derive(Clone, Copy)]
struct QuietSide {
    frames: u32,
    /// `fin_answers_fin`, `missed`, `only_control`, `close_left`, `reread`, the lowest bit first.
    flags: u8,
    lost: Option<Lost>,
}

const _: () = assert!(size_of::<Slot>() == 104 && size_of::<QuietSide>() == 8);

impl Connections {
    pub(super) fn get(&self, key: Key) -> Option<Tracked> {
        let slot = self.slot(key)?;
        Some(slot.tracked())
    }

    pub(super) fn contains(&self, key: Key) -> bool {
        self.slot(key).is_some()
    }

    /// Whether it is there, and has ended.
    pub(super) fn has_ended(&self, key: Key) -> bool {
        self.slot(key).is_some_and(Slot::has_ended)
    }

    /// Puts it in, or in the place of what was known of it.
    pub(super) fn put(&mut self, key: Key, tracked: Tracked) {
        let key = PackedKey::from(key);
        let Self {
            slots,
            places,
            hasher,
        } = self;
        let hash = hasher.hash_one(key);
        let is_it = |place: &u32| slots[*place as usize].key == key;
        if let Some(place) = places.find(hash, is_it) {
            slots[*place as usize].set(tracked);
            return;
        }
        let place = slots.insert(Slot::new(key, tracked));
        let place = u32::try_from(place).expect("fewer connections than bytes of memory for them");
        places.insert_unique(hash, place, |place| {
            hasher.hash_one(slots[*place as usize].key)
        });
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<Tracked> {
        let key = PackedKey::from(key);
        let hash = self.hasher.hash_one(key);
        let is_it = |place: &u32| self.slots[*place as usize].key == key;
        let (place, _) = self.places.find_entry(hash, is_it).ok()?.remove();
        Some(self.slots.remove(place as usize).tracked())
    }

    /// Those that have not ended and were known before then.
    pub(super) fn live_before(&self, began: Duration) -> impl Iterator<Item = Key> {
        let began_ns = nanoseconds(began);
        let slots = self.slots.iter().map(|(_, slot)| slot);
        slots
            .filter(move |slot| slot.first_seen_ns < began_ns && !slot.has_ended())
            .map(|slot| slot.key.into())
    }

    /// The cgroup of each.
    pub(super) fn cgroups(&self) -> impl Iterator<Item = u64> {
        self.slots.iter().map(|(_, slot)| match &slot.state {
            State::Quiet(quiet) => quiet.cgroup_id,
            State::Whole(connection) => connection.snapshot.cgroup_id,
        })
    }

    #[cfg(test)]
    pub(super) fn values(&self) -> impl Iterator<Item = Tracked> {
        self.slots.iter().map(|(_, slot)| slot.tracked())
    }

    fn slot(&self, key: Key) -> Option<&Slot> {
        let key = PackedKey::from(key);
        let is_it = |place: &u32| self.slots[*place as usize].key == key;
        let place = self.places.find(self.hasher.hash_one(key), is_it)?;
        Some(&self.slots[*place as usize])
    }
}

impl Slot {
    fn new(key: PackedKey, tracked: Tracked) -> Self {
        Self {
            key,
            first_seen_ns: nanoseconds(tracked.first_seen),
            state: State::of(tracked.connection),
        }
    }

    fn set(&mut self, tracked: Tracked) {
        self.first_seen_ns = nanoseconds(tracked.first_seen);
        match &mut self.state {
            State::Whole(known) => **known = tracked.connection,
            state @ State::Quiet(_) => *state = State::of(tracked.connection),
        }
    }

    fn has_ended(&self) -> bool {
        matches!(&self.state, State::Whole(connection) if connection.snapshot.ended.is_some())
    }

    fn tracked(&self) -> Tracked {
        let connection = match &self.state {
            State::Quiet(quiet) => quiet.connection(self.key),
            State::Whole(connection) => Connection::clone(connection),
        };
        Tracked {
            connection,
            first_seen: Duration::from_nanos(self.first_seen_ns),
        }
    }
}

impl State {
    fn of(connection: Connection) -> Self {
        match Quiet::of(&connection) {
            Some(quiet) => Self::Quiet(quiet),
            None => Self::Whole(Box::new(connection)),
        }
    }
}

impl Quiet {
    /// None when more is known than fits.
    fn of(connection: &Connection) -> Option<Self> {
        let Connection { snapshot, opening } = connection;
        if snapshot.ended.is_some() || snapshot.rtt.is_some() || snapshot.closer.is_some() {
            return None;
        }
        Some(Self {
            cgroup_id: snapshot.cgroup_id,
            taken_ns: nanoseconds(snapshot.taken),
            opening: opening.clone(),
            local: sixteen_bytes(snapshot.local)?,
            remote: sixteen_bytes(snapshot.remote)?,
            local_port: snapshot.local.port(),
            remote_port: snapshot.remote.port(),
            sent: QuietSide::of(&snapshot.sent)?,
            received: QuietSide::of(&snapshot.received)?,
            role: snapshot.role,
            tls: snapshot.tls,
        })
    }

    fn connection(&self, key: PackedKey) -> Connection {
        let (cookie, opened) = key.into();
        let snapshot = Snapshot {
            cookie,
            cgroup_id: self.cgroup_id,
            role: self.role,
            local: SocketAddr::new(self.local.to_canonical(), self.local_port),
            remote: SocketAddr::new(self.remote.to_canonical(), self.remote_port),
            taken: Duration::from_nanos(self.taken_ns),
            opened,
            ended: None,
            sent: self.sent.side(),
            received: self.received.side(),
            rtt: None,
            closer: None,
            tls: self.tls,
        };
        Connection {
            snapshot,
            opening: self.opening.clone(),
        }
    }
}

/// An address as IPv6, IPv4 mapped into it. A [`Snapshot`] has no mapped one of its own, no scope and no flow label: one
/// that had is kept whole.
fn sixteen_bytes(address: SocketAddr) -> Option<Ipv6Addr> {
    let bytes = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    (SocketAddr::new(bytes.to_canonical(), address.port()) == address).then_some(bytes)
}

impl QuietSide {
    fn of(side: &Side) -> Option<Self> {
        let Side {
            close,
            fin,
            rst,
            fin_answers_fin,
            frames,
            missed,
            only_control,
            lost,
            close_left,
            reread,
        } = *side;
        let is_quiet = close.is_none() && fin.is_none() && rst.is_none();
        let flags = [fin_answers_fin, missed, only_control, close_left, reread];
        let flags = flags.into_iter().rev();
        is_quiet.then_some(Self {
            frames: frames.try_into().ok()?,
            flags: flags.fold(0, |bits, flag| bits << 1 | u8::from(flag)),
            lost,
        })
    }

    fn side(self) -> Side {
        let flag = |bit: u8| self.flags & 1 << bit != 0;
        Side {
            close: None,
            fin: None,
            rst: None,
            fin_answers_fin: flag(0),
            frames: self.frames.into(),
            missed: flag(1),
            only_control: flag(2),
            lost: self.lost,
            close_left: flag(3),
            reread: flag(4),
        }
    }
}

#[cfg(test)]
mod tests;
