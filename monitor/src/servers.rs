//! What is remembered of each server, and whether it is slow.
//!
//! In: the time, what happened with a server, and what is live. Out: the label under which it is
//! counted, the servers that went silent, the flags that flipped. Reads no clock, does no I/O; keeps
//! at most `max` servers, folds the rest into one.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use monitor_ebpf::event::Role;

use crate::{
    outcome::Judgement,
    tracker::{Live, Server},
};

/// What the flag looks back on.
pub(crate) const WINDOW: Duration = Duration::from_secs(300);
/// The window moves in steps of this.
const SLOT: Duration = Duration::from_secs(10);
/// Fewer ended connections in the window prove nothing.
const ENDED_MIN: u64 = 3;
/// One slow close among this many ended connections raises the flag.
const ENDED_PER_SLOW: u64 = 10;
/// A connection that awaits the server's FIN for longer than this, and than slow-after, does too.
const HANGING: Duration = Duration::from_secs(10);
/// How many of the latest slow waits the median is taken from.
const WAITS_MAX: usize = 100;

/// Under which name a server is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Label {
    pub(crate) role: Role,
    /// `ip:port`, or `other` for all servers beyond `--max-servers`.
    pub(crate) server: String,
}

const OTHER: &str = "other";

impl Label {
    pub(crate) fn other(role: Role) -> Self {
        Self {
            role,
            server: OTHER.to_owned(),
        }
    }

    pub(crate) fn is_other(&self) -> bool {
        self.server == OTHER
    }
}

impl From<Server> for Label {
    fn from(server: Server) -> Self {
        Self {
            role: server.role,
            server: server.address.to_string(),
        }
    }
}

/// Why a server is flagged as slow, or is no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Evidence {
    /// Connections that ended within the window, with an outcome.
    pub(crate) ended: u64,
    /// Slow closes among them.
    pub(crate) slow: u64,
    /// The median of the latest slow closes' waits.
    pub(crate) median_wait: Option<Duration>,
    /// The longest of these waits.
    pub(crate) longest_wait: Option<Duration>,
    /// How long the connection that awaits its FIN for longest does so already.
    pub(crate) awaiting_fin: Option<Duration>,
}

/// A flag that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flip {
    pub(crate) server: Server,
    pub(crate) slow: bool,
    pub(crate) evidence: Evidence,
}

/// The servers that have their own label.
pub(crate) struct Servers {
    max: usize,
    ttl: Duration,
    slow_after: Duration,
    /// By address first, because the bound is on addresses: on loopback one server is seen in both
    /// roles.
    known: HashMap<SocketAddr, BTreeMap<Role, Figures>>,
    folded: u64,
}

struct Figures {
    last_event: Duration,
    slow: bool,
    slots: VecDeque<Slot>,
    /// The waits of the latest slow closes, and when they ended.
    waits: VecDeque<(Duration, Duration)>,
}

struct Slot {
    began: Duration,
    ended: u64,
    slow: u64,
}

impl Servers {
    pub(crate) fn new(max: usize, ttl: Duration, slow_after: Duration) -> Self {
        Self {
            max,
            ttl,
            slow_after,
            known: HashMap::new(),
            folded: 0,
        }
    }

    /// Notes a sign of life, and tells the label to count it under: the server's own, if it has one
    /// or one is free.
    pub(crate) fn admit(&mut self, server: Server, now: Duration) -> Label {
        let full = self.known.len() >= self.max;
        let roles = match self.known.get_mut(&server.address) {
            Some(roles) => roles,
            None if full => return Label::other(server.role),
            None => self.known.entry(server.address).or_default(),
        };
        roles
            .entry(server.role)
            .or_insert_with(|| Figures::new(now))
            .last_event = now;
        server.into()
    }

    /// The label under which a server's live connections are counted.
    pub(crate) fn label(&self, server: Server) -> Label {
        if self.get(server).is_some() {
            server.into()
        } else {
            Label::other(server.role)
        }
    }

    /// Takes in an ended connection.
    pub(crate) fn ended(&mut self, server: Server, judgement: &Judgement, now: Duration) {
        let figures = self
            .known
            .get_mut(&server.address)
            .and_then(|roles| roles.get_mut(&server.role));
        match figures {
            Some(figures) => figures.ended(judgement, now),
            None => self.folded += 1,
        }
    }

    /// Ended connections that were counted under `other`.
    pub(crate) fn folded(&self) -> u64 {
        self.folded
    }

    /// Judges every server anew and returns the flags that changed.
    pub(crate) fn review(&mut self, live: &HashMap<Server, Live>, now: Duration) -> Vec<Flip> {
        let mut flips = Vec::new();
        for (address, roles) in &mut self.known {
            for (role, figures) in roles {
                let server = Server {
                    role: *role,
                    address: *address,
                };
                let awaiting_fin = live
                    .get(&server)
                    .and_then(|live| live.awaiting_fin_since)
                    .map(|since| now.saturating_sub(since));
                let evidence = figures.evidence(awaiting_fin, now);
                let slow = evidence.is_slow(self.slow_after);
                if slow != figures.slow {
                    figures.slow = slow;
                    flips.push(Flip {
                        server,
                        slow,
                        evidence,
                    });
                }
            }
        }
        flips
    }

    /// Forgets the servers that have been silent for the ttl and have no live connection.
    pub(crate) fn expire(&mut self, live: &HashMap<Server, Live>, now: Duration) -> Vec<Label> {
        let mut forgotten = Vec::new();
        for (address, roles) in &mut self.known {
            roles.retain(|role, figures| {
                let server = Server {
                    role: *role,
                    address: *address,
                };
                let silent = now.saturating_sub(figures.last_event) >= self.ttl;
                if silent && !live.contains_key(&server) {
                    forgotten.push(server.into());
                    return false;
                }
                true
            });
        }
        self.known.retain(|_, roles| !roles.is_empty());
        forgotten
    }

    /// The servers with a label of their own, and whether each is flagged as slow.
    pub(crate) fn flags(&self) -> impl Iterator<Item = (Server, bool)> {
        self.known.iter().flat_map(|(address, roles)| {
            roles.iter().map(|(role, figures)| {
                (
                    Server {
                        role: *role,
                        address: *address,
                    },
                    figures.slow,
                )
            })
        })
    }

    /// What the window holds of each server with a label of its own, but for what hangs.
    pub(crate) fn evidence(&mut self, now: Duration) -> impl Iterator<Item = (Server, Evidence)> {
        self.known.iter_mut().flat_map(move |(address, roles)| {
            roles.iter_mut().map(move |(role, figures)| {
                let server = Server {
                    role: *role,
                    address: *address,
                };
                (server, figures.evidence(None, now))
            })
        })
    }

    /// Addresses with labels of their own, and how many may have one.
    pub(crate) fn len_and_max(&self) -> (usize, usize) {
        (self.known.len(), self.max)
    }

    fn get(&self, server: Server) -> Option<&Figures> {
        self.known.get(&server.address)?.get(&server.role)
    }
}

impl Figures {
    fn new(now: Duration) -> Self {
        Self {
            last_event: now,
            slow: false,
            slots: VecDeque::new(),
            waits: VecDeque::new(),
        }
    }

    fn ended(&mut self, judgement: &Judgement, now: Duration) {
        // A connection whose outcome could not be seen is no evidence.
        let Some(slow) = judgement.slow else {
            return;
        };
        if self
            .slots
            .back()
            .is_none_or(|slot| now.saturating_sub(slot.began) >= SLOT)
        {
            self.slots.push_back(Slot {
                began: now,
                ended: 0,
                slow: 0,
            });
        }
        if let Some(slot) = self.slots.back_mut() {
            slot.ended += 1;
            slot.slow += u64::from(slow);
        }
        if let Some(waited) = judgement.waited.filter(|_| slow) {
            self.waits.push_back((now, waited));
        }
        if self.waits.len() > WAITS_MAX {
            self.waits.pop_front();
        }
        self.forget(now);
    }

    fn evidence(&mut self, awaiting_fin: Option<Duration>, now: Duration) -> Evidence {
        self.forget(now);
        let mut waits: Vec<Duration> = self.waits.iter().map(|(_, waited)| *waited).collect();
        waits.sort_unstable();
        Evidence {
            ended: self.slots.iter().map(|slot| slot.ended).sum(),
            slow: self.slots.iter().map(|slot| slot.slow).sum(),
            median_wait: waits.get(waits.len() / 2).copied(),
            longest_wait: waits.last().copied(),
            awaiting_fin,
        }
    }

    fn forget(&mut self, now: Duration) {
        let old = |at: Duration| now.saturating_sub(at) >= WINDOW;
        while self.slots.pop_front_if(|slot| old(slot.began)).is_some() {}
        while self.waits.pop_front_if(|(at, _)| old(*at)).is_some() {}
    }
}

impl Evidence {
    fn is_slow(&self, slow_after: Duration) -> bool {
        let hangs = self
            .awaiting_fin
            .is_some_and(|age| age > slow_after.max(HANGING));
        let often =
            self.ended >= ENDED_MIN && self.slow > 0 && self.slow * ENDED_PER_SLOW >= self.ended;
        hangs || often
    }
}

#[cfg(test)]
mod tests;
