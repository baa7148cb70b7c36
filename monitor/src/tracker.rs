//! Turns kernel events into live connections and ended ones.
//!
//! In: the state of a socket, at least once whenever it changed, and the time. Out: what was learnt
//! from it ([`News`]), each fact once. Reads no clock, does no I/O, judges nothing.
//!
//! Two CPUs may each tell a state that misses the newest change of the direction the other handles,
//! so states are merged: a fact once known is not unlearned.
//!
//! The RST of a local abort (`close` with unread data, SO_LINGER 0) leaves after TCP_CLOSE. A
//! connection that ended without a FIN of both ends and without an RST of either is therefore held for
//! [`GRACE`], and given out when that RST is seen or the time is up. Up without one: Linux goes on
//! without the socket (FIN_WAIT2), or a timeout, or a silent death.

use std::{
    collections::{HashMap, HashSet, VecDeque, hash_map::Entry},
    net::SocketAddr,
    time::Duration,
};

use monitor_ebpf::event::{Role, Side, Snapshot};

use crate::{heads::Opening, outcome};

/// How long the RST of a local abort is waited for; it follows TCP_CLOSE within microseconds.
pub(crate) const GRACE: Duration = Duration::from_millis(100);

/// How many ended sockets are remembered, so that a late event does not make a second record.
const ENDED_REMEMBERED: usize = 16_384;

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

/// Where a live connection is on its way to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

/// One connection, as far as its local end knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Connection {
    pub(crate) snapshot: Snapshot,
    /// From the heads of the opening handshake; none when they were never told.
    pub(crate) opening: Option<Opening>,
}

/// A fact that was not known before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    Opened,
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
}

impl Live {
    /// Takes the connections of another server in.
    pub(crate) fn add(&mut self, other: &Self) {
        for (phase, count) in self.phases.iter_mut().zip(other.phases) {
            *phase += count;
        }
        self.awaiting_fin_since = self
            .awaiting_fin_since
            .into_iter()
            .chain(other.awaiting_fin_since)
            .min();
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
    connections: HashMap<Key, Tracked>,
    /// Ended connections whose end has no cause yet, by the time at which the wait is over.
    held: VecDeque<(Duration, Key)>,
    recently_ended: Remembered,
}

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
        let tracked = match self.connections.entry(key) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Tracked::unknown(&snapshot)),
        };
        let connection = &mut tracked.connection;
        let had_ended = connection.snapshot.ended.is_some();
        let mut news = merge(&mut connection.snapshot, snapshot);
        connection.opening = connection.opening.take().or(opening);

        if connection.snapshot.ended.is_some() {
            if has_cause(&connection.snapshot) {
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

    /// Gives out the ended connections whose end has shown no cause in time.
    pub(crate) fn expire(&mut self, now: Duration) -> Vec<Connection> {
        let due = self.held.partition_point(|(until, _)| *until <= now);
        let due: Vec<Key> = self.held.drain(..due).map(|(_, key)| key).collect();
        due.into_iter()
            .filter_map(|key| self.give_out(key))
            .collect()
    }

    /// Drops the connections that ended unseen: those not among the listed sockets although they
    /// were known before the listing began. Returns how many. Nothing is known of their end, so
    /// nothing is told about it.
    pub(crate) fn sweep(&mut self, listed: &HashSet<Key>, began: Duration) -> usize {
        let before = self.connections.len();
        self.connections.retain(|key, tracked| {
            listed.contains(key)
                || tracked.first_seen >= began
                || tracked.connection.snapshot.ended.is_some()
        });
        before - self.connections.len()
    }

    /// The live connections, by server.
    pub(crate) fn live(&self) -> HashMap<Server, Live> {
        let mut servers: HashMap<Server, Live> = HashMap::new();
        for tracked in self.connections.values() {
            let snapshot = &tracked.connection.snapshot;
            if snapshot.ended.is_some() {
                continue;
            }
            let phase = Phase::of(snapshot);
            let mut one = Live::default();
            one.phases[phase as usize] = 1;
            one.awaiting_fin_since =
                outcome::complete(snapshot).filter(|_| phase == Phase::AwaitingFin);
            servers.entry(Server::of(snapshot)).or_default().add(&one);
        }
        servers
    }

    fn give_out(&mut self, key: Key) -> Option<Connection> {
        let tracked = self.connections.remove(&key)?;
        self.recently_ended.insert(key);
        Some(tracked.connection)
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

/// Whether no later event can change how the connection ended.
fn has_cause(snapshot: &Snapshot) -> bool {
    let (sent, received) = (&snapshot.sent, &snapshot.received);
    let orderly = sent.fin.is_some() && received.fin.is_some();
    orderly || sent.rst.is_some() || received.rst.is_some()
}

/// Adds what `new` knows to what was known, and returns the facts among it that make news.
fn merge(known: &mut Snapshot, new: Snapshot) -> Vec<News> {
    let mut news = Vec::new();
    if known.opened.is_none() && new.opened.is_some() {
        news.push(News::Opened);
    }
    known.opened = known.opened.or(new.opened);
    known.ended = known.ended.or(new.ended);
    known.rtt = known.rtt.or(new.rtt);
    known.closer = known.closer.or(new.closer);
    known.taken = known.taken.max(new.taken);

    let local = known.role;
    let remote = match local {
        Role::Client => Role::Server,
        Role::Server => Role::Client,
    };
    news.extend(merge_side(&mut known.sent, &new.sent, local));
    news.extend(merge_side(&mut known.received, &new.received, remote));
    news
}

fn merge_side(known: &mut Side, new: &Side, sender: Role) -> Option<News> {
    let first_close = new.close.filter(|_| known.close.is_none());
    known.close = known.close.or(new.close);
    known.fin = known.fin.or(new.fin);
    known.rst = known.rst.or(new.rst);
    known.fin_answers_fin |= new.fin_answers_fin;
    known.frames = known.frames.max(new.frames);
    known.lost = known.lost.or(new.lost);
    first_close.map(|close| News::CloseFrame {
        sender,
        code: close.code,
    })
}

/// The latest keys put in.
#[derive(Default)]
struct Remembered {
    order: VecDeque<Key>,
    keys: HashSet<Key>,
}

impl Remembered {
    fn contains(&self, key: Key) -> bool {
        self.keys.contains(&key)
    }

    fn insert(&mut self, key: Key) {
        if !self.keys.insert(key) {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > ENDED_REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.keys.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use monitor_ebpf::event::CloseFrame;

    use super::*;
    use crate::{
        outcome::{Outcome, judge},
        timeline::{after, timeline, unopened},
    };

    const SLOW_AFTER: Duration = Duration::from_secs(1);

    #[test]
    fn orderly_close_gives_one_record() {
        check(
            "0ms upgrade; 40ms client close 1000; 41ms server close 1000; 42ms server fin; 43ms client fin; 44ms gone",
            "open awaiting_close_frame awaiting_fin half_closed half_closed",
            Some(Outcome::Clean),
        );
    }

    #[test]
    fn client_that_gives_up_half_closes() {
        check(
            "0ms upgrade; 40ms client close 1000; 41ms server close 1000; 10041ms client fin; 10090ms gone",
            "open awaiting_close_frame awaiting_fin half_closed",
            Some(Outcome::ClientGaveUp),
        );
    }

    #[test]
    fn fin_without_close_frame_is_abnormal() {
        check(
            "0ms upgrade; 40ms client fin; 41ms server fin; 42ms gone",
            "open half_closed half_closed",
            Some(Outcome::Abnormal),
        );
    }

    #[test]
    fn opening_that_was_lost_still_gives_a_record() {
        check(
            "44ms server rst; 45ms gone",
            "half_closed",
            Some(Outcome::Abnormal),
        );
    }

    #[test]
    fn connection_that_goes_on_gives_none() {
        check(
            "0ms upgrade; 40ms server close",
            "open awaiting_close_frame",
            None,
        );
    }

    #[test]
    fn each_fact_is_news_once() {
        let mut tracker = Tracker::default();
        let steps = timeline(
            Role::Client,
            "0ms upgrade; 40ms client close 1000; 41ms server close",
        );
        let news: Vec<News> = steps
            .iter()
            .flat_map(|snapshot| [snapshot, snapshot])
            .flat_map(|snapshot| tracker.observe(snapshot.clone(), None, snapshot.taken))
            .collect();
        let expected = [
            News::Opened,
            News::CloseFrame {
                sender: Role::Client,
                code: Some(1000),
            },
            News::CloseFrame {
                sender: Role::Server,
                code: None,
            },
        ];
        assert_eq!(news, expected);
    }

    #[test]
    fn state_that_misses_the_other_direction_unlearns_nothing() {
        let close = |ms| {
            Some(CloseFrame {
                at: Duration::from_millis(ms),
                code: None,
            })
        };
        let mut first = unopened(Role::Client);
        first.sent.close = close(40);
        let mut second = unopened(Role::Client);
        second.received.close = close(41);

        let mut tracker = Tracker::default();
        tracker.observe(first, None, Duration::from_millis(41));
        tracker.observe(second, None, Duration::from_millis(41));
        let live = tracker.live();
        let live = live.values().next().unwrap();
        assert_eq!(live.phases, [0, 0, 1, 0]);
        assert_eq!(live.awaiting_fin_since, Some(Duration::from_millis(41)));
    }

    #[test]
    fn lost_events_on_the_way_change_no_record() {
        let script = "0ms upgrade; 40ms client close 1000; 41ms server close; 42ms server fin; 43ms client fin; 44ms gone";
        let steps = timeline(Role::Client, script);
        let (last, before) = steps.split_last().unwrap();
        for seen in 0..1 << before.len() {
            let mut tracker = Tracker::default();
            for (step, snapshot) in before.iter().enumerate() {
                if seen >> step & 1 == 1 {
                    tracker.observe(snapshot.clone(), None, snapshot.taken);
                }
            }
            let news = tracker.observe(last.clone(), None, last.taken);
            let Some(News::Ended(connection)) = news.last() else {
                panic!("it ended")
            };
            assert_eq!(connection.snapshot, *last);
        }
    }

    #[test]
    fn reset_that_follows_tcp_close_is_waited_for() {
        let mut tracker = Tracker::default();
        let steps = timeline(Role::Server, "0ms upgrade; 40ms gone; 41ms server rst");
        assert_eq!(
            tracker.observe(steps[0].clone(), None, ms(0)),
            [News::Opened]
        );
        assert_eq!(tracker.observe(steps[1].clone(), None, ms(40)), []);
        assert!(tracker.live().is_empty(), "an ended connection is not live");
        assert_eq!(tracker.deadline(), Some(ms(140)));
        assert_eq!(tracker.expire(ms(139)), []);
        let [News::Ended(connection)] = &tracker.observe(steps[2].clone(), None, ms(41))[..] else {
            panic!("the reset gives the connection out");
        };
        assert_eq!(connection.snapshot.sent.rst, Some(ms(41)));
        assert_eq!(tracker.expire(ms(140)), []);
    }

    #[test]
    fn local_abort_after_the_remote_fin_is_waited_for() {
        let mut tracker = Tracker::default();
        let gone = after(Role::Server, "0ms upgrade; 30ms client fin; 40ms gone");
        assert_eq!(tracker.observe(gone, None, ms(40)), [News::Opened]);
        assert_eq!(tracker.deadline(), Some(ms(140)));
    }

    #[test]
    fn silent_death_is_given_out_when_the_grace_is_over() {
        let mut tracker = Tracker::default();
        tracker.observe(after(Role::Client, "0ms upgrade; 40ms gone"), None, ms(40));
        tracker.observe(after(Role::Client, "0ms upgrade; 40ms gone"), None, ms(90));
        assert_eq!(tracker.expire(ms(140)).len(), 1);
        assert_eq!(tracker.deadline(), None);
    }

    #[test]
    fn sweep_drops_what_ended_unseen_and_nothing_else() {
        let mut tracker = Tracker::default();
        for (cookie, script) in [
            (1, "1s upgrade"),
            (2, "1s upgrade"),
            (3, "9s upgrade"),
            (4, "8s gone"),
        ] {
            let snapshot = Snapshot {
                cookie,
                ..after(Role::Client, script)
            };
            tracker.observe(snapshot, None, ms(9_000));
        }
        assert_eq!(
            tracker.sweep(&HashSet::from([(2, Some(ms(1_000)))]), ms(9_000)),
            1
        );
        let live: u64 = tracker.live().values().map(|live| live.phases[0]).sum();
        assert_eq!(
            live, 2,
            "the listed one, and the one that opened after the listing began"
        );
        assert_eq!(
            tracker.expire(ms(9_100)).len(),
            1,
            "the one that waits for its reset"
        );
    }

    #[test]
    fn memory_of_ended_sockets_is_bounded() {
        let mut remembered = Remembered::default();
        for cookie in 0..=ENDED_REMEMBERED as u64 {
            remembered.insert((cookie, None));
        }
        assert!(!remembered.contains((0, None)) && remembered.contains((1, None)));
        assert_eq!(remembered.keys.len(), ENDED_REMEMBERED);
    }

    /// Plays the script to both ends: the phases on the way, one record at most (also when every
    /// event comes twice), and its outcome.
    fn check(script: &str, phases: &str, outcome: Option<Outcome>) {
        for role in [Role::Client, Role::Server] {
            let mut tracker = Tracker::default();
            let mut seen = Vec::new();
            let mut ended = Vec::new();
            for snapshot in timeline(role, script) {
                for snapshot in [snapshot.clone(), snapshot] {
                    let now = snapshot.taken;
                    ended.extend(
                        tracker
                            .observe(snapshot, None, now)
                            .into_iter()
                            .filter_map(outcome_of),
                    );
                }
                for live in tracker.live().values() {
                    let phase = live.phases.iter().position(|count| *count == 1).unwrap();
                    seen.push(Phase::ALL[phase].name());
                }
            }
            let held = tracker.expire(Duration::MAX);
            ended.extend(
                held.iter()
                    .filter_map(|connection| judge(&connection.snapshot, SLOW_AFTER).outcome),
            );
            assert_eq!(seen.join(" "), phases, "{role:?}: {script}");
            assert_eq!(ended, Vec::from_iter(outcome), "{role:?}: {script}");
        }
    }

    fn outcome_of(news: News) -> Option<Outcome> {
        match news {
            News::Ended(connection) => judge(&connection.snapshot, SLOW_AFTER).outcome,
            News::Opened | News::CloseFrame { .. } => None,
        }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }
}
