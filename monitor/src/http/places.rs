//! Who may be connected, and for how long: a bounded number of places that nobody can keep from the others.
//!
//! A connection that waits (for its handshake, for a request, for its turn) gives its place up to a newcomer
//! when all are taken: first of the network that has the most, and there of those that have never asked
//! anything, the one that waits longest. So a client of another network always gets in, however many
//! connections one has opened and whatever it does not send on them.

use std::{
    cmp::Reverse,
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard},
    time::Instant,
};

use tokio::sync::{Notify, oneshot};

#[cfg(test)]
pub(super) use self::stage::STALLED;
pub(super) use self::stage::{Dropped, Stage, Turn};
use self::stage::{Moment, lock};

mod stage;

/// Connections at a time. The daemon needs descriptors itself.
pub(super) const CONNECTIONS_MAX: usize = 256;
/// All places.
#[derive(Clone, Default)]
pub(super) struct Places {
    table: Arc<Mutex<Table>>,
    /// Told when one is taken.
    taking: Arc<Notify>,
}

#[derive(Default)]
struct Table {
    taken: HashMap<u64, Taken>,
    next: u64,
}

struct Taken {
    network: IpAddr,
    moment: Arc<Mutex<Moment>>,
    end: Option<oneshot::Sender<Dropped>>,
}

/// A place, until it is dropped.
pub(super) struct Place {
    places: Places,
    id: u64,
    turn: Turn,
}

impl Places {
    /// A place for a newcomer, and what will say that it must go. None when there is none for this network.
    pub(super) fn admit(
        &self,
        from: IpAddr,
        stage: Stage,
        now: Instant,
    ) -> Option<(Place, oneshot::Receiver<Dropped>)> {
        let network = network(from);
        let mut table = self.table();
        if table.taken.len() >= CONNECTIONS_MAX {
            let id = table.least(network)?;
            table.end(id, Dropped::MadeRoom);
            table.taken.remove(&id);
        }
        let id = table.next;
        table.next += 1;
        let (end, ended) = oneshot::channel();
        let moment = Arc::new(Mutex::new(Moment::new(stage, now)));
        let taken = Taken {
            network,
            moment: Arc::clone(&moment),
            end: Some(end),
        };
        table.taken.insert(id, taken);
        self.taking.notify_one();
        let place = Place {
            places: self.clone(),
            id,
            turn: Turn(moment),
        };
        Some((place, ended))
    }

    /// Ends what has taken too long.
    pub(super) fn end_overdue(&self, now: Instant) {
        let mut table = self.table();
        let overdue = table.taken.iter().filter_map(|(id, taken)| {
            let reason = lock(&taken.moment).overdue(now)?;
            Some((*id, reason))
        });
        for (id, reason) in overdue.collect::<Vec<_>>() {
            table.end(id, reason);
        }
    }

    /// Waits until one is taken.
    pub(super) async fn any_taken(&self) {
        while self.taken() == 0 {
            self.taking.notified().await;
        }
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> usize {
        self.table().taken.len()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }
}

impl Table {
    /// Whose place a newcomer of this network gets: never that of a network with fewer than its own.
    fn least(&self, newcomer: IpAddr) -> Option<u64> {
        let mut counts = HashMap::<IpAddr, usize>::new();
        for taken in self.taken.values() {
            *counts.entry(taken.network).or_default() += 1;
        }
        let own = counts.get(&newcomer).copied().unwrap_or(0);
        let candidates = self.taken.iter().filter_map(|(id, taken)| {
            let count = counts[&taken.network];
            if taken.network != newcomer && count <= own {
                return None;
            }
            let moment = lock(&taken.moment);
            Some((Reverse(count), moment.rank()?, moment.since, *id))
        });
        candidates.min().map(|(_, _, _, id)| id)
    }

    fn end(&mut self, id: u64, reason: Dropped) {
        if let Some(taken) = self.taken.get_mut(&id)
            && let Some(end) = taken.end.take()
        {
            // One that has just ended by itself needs no telling.
            let _ = end.send(reason);
        }
    }
}

impl Place {
    pub(super) fn turn(&self) -> Turn {
        self.turn.clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.table().taken.remove(&self.id);
    }
}

/// Who counts as one: an IPv4 address, and the 64 bits of an IPv6 address that a host does not choose.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let bits = u128::from(address) >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from(bits))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        stage::{HANDSHAKE, HEAD, IDLE, REQUEST},
        *,
    };

    const PROMETHEUS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const CROWD: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 66));

    type Kept = (Place, oneshot::Receiver<Dropped>);

    fn fill(places: &Places, from: IpAddr, count: usize, began: Instant) -> Vec<Kept> {
        let admit = |n: usize| {
            let at = began + Duration::from_millis(n as u64);
            places.admit(from, Stage::Head, at).unwrap()
        };
        (0..count).map(admit).collect()
    }

    #[test]
    fn newcomer_gets_the_place_of_the_crowd_that_has_waited_longest() {
        let began = Instant::now();
        let places = Places::default();
        let mut prometheus = fill(&places, PROMETHEUS, 1, began);
        let mut crowd = fill(&places, CROWD, CONNECTIONS_MAX - 1, began);
        for n in 0..600 {
            let now = began + Duration::from_secs(1) + Duration::from_millis(n);
            crowd.push(places.admit(CROWD, Stage::Head, now).unwrap());
        }
        assert_eq!(places.taken(), CONNECTIONS_MAX);
        assert!(prometheus[0].1.try_recv().is_err(), "it is still there");
        assert_eq!(crowd[0].1.try_recv(), Ok(Dropped::MadeRoom));
        // A second one, too, and the crowd pays for it.
        let later = began + Duration::from_secs(2);
        prometheus.push(places.admit(PROMETHEUS, Stage::Head, later).unwrap());
        assert_eq!(places.taken(), CONNECTIONS_MAX);
        drop(crowd);
        assert_eq!(places.taken(), 2);
    }

    #[test]
    fn those_who_have_asked_stay_longer_and_those_being_answered_to_the_end() {
        let began = Instant::now();
        let places = Places::default();
        let mut all = fill(&places, CROWD, CONNECTIONS_MAX, began);
        for (place, _) in &all[..10] {
            place.turn().served(true);
        }
        for (place, _) in &all[5..10] {
            place.turn().enter(Stage::Idle);
        }
        let now = began + Duration::from_secs(1);
        let mut later = fill(&places, CROWD, CONNECTIONS_MAX - 10, now);
        let ended = |kept: &mut Kept| kept.1.try_recv().is_ok();
        assert!(!all[..10].iter_mut().any(ended));
        assert!(all[10..].iter_mut().all(ended));
        // Then only those are left that have never asked, who came later.
        later.extend(fill(&places, CROWD, 1, now + Duration::from_secs(1)));
        assert!(!all[..10].iter_mut().any(ended));
        assert!(ended(&mut later[0]));
    }

    #[test]
    fn crowd_gets_no_place_of_those_who_have_fewer() {
        let began = Instant::now();
        let places = Places::default();
        let mut kept = fill(&places, PROMETHEUS, 1, began);
        kept.extend(fill(&places, CROWD, CONNECTIONS_MAX - 1, began));
        for (place, _) in &kept[1..] {
            place.turn().served(true);
        }
        let now = began + Duration::from_secs(1);
        assert!(places.admit(CROWD, Stage::Head, now).is_none());
        // One whose answer is stuck makes room for others.
        kept[1].0.turn().stalled(true);
        let other = IpAddr::from([192, 0, 2, 9]);
        assert!(places.admit(other, Stage::Head, now).is_some());
        assert_eq!(kept[1].1.try_recv(), Ok(Dropped::MadeRoom));
    }

    #[test]
    fn each_stage_has_its_time() {
        for (stage, within, reason) in [
            (Stage::Handshake, HANDSHAKE, Dropped::HandshakeTimeout),
            (Stage::Head, HEAD, Dropped::HeadTimeout),
            (Stage::Idle, IDLE, Dropped::Idle),
            (Stage::Asking, REQUEST, Dropped::RequestTimeout),
            (Stage::Served, REQUEST, Dropped::RequestTimeout),
        ] {
            let places = Places::default();
            let began = Instant::now();
            let (_place, mut ended) = places.admit(CROWD, stage, began).unwrap();
            places.end_overdue(began + within - Duration::from_millis(1));
            assert!(ended.try_recv().is_err(), "{stage:?} ends too soon");
            places.end_overdue(began + within);
            assert_eq!(ended.try_recv(), Ok(reason));
        }
    }

    #[test]
    fn networks_are_what_a_host_cannot_choose() {
        let same = |a: &str, b: &str| network(a.parse().unwrap()) == network(b.parse().unwrap());
        assert!(same("2001:db8::1", "2001:db8::ffff:1:2"));
        assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(same("::ffff:192.0.2.1", "192.0.2.1"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
    }
}
