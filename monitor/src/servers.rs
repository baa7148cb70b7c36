//! What is remembered of each server, and whether it is slow.
//!
//! In: the time, what happened with a server, and what is live. Out: the label under which it is
//! counted, the servers that went silent, the flags that flipped. Reads no clock, does no I/O; keeps
//! at most `max` servers, folds the rest into one.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    time::Duration,
};

use monitor_ebpf::event::Role;

pub(crate) use self::window::{WINDOW, Waits};
use self::{flag::Flag, window::Window};
use crate::{
    outcome::Judgement,
    tracker::{Live, Server},
};

mod flag;
mod window;

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
    /// How long the latest of these took.
    pub(crate) waits: Waits,
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
    label: Label,
    last_event: Duration,
    flag: Flag,
    window: Window,
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
            .or_insert_with(|| Figures::new(server, now))
            .last_event = now;
        server.into()
    }

    /// The label under which a server's live connections are counted.
    pub(crate) fn label(&self, server: Server) -> Cow<'_, Label> {
        match self.get(server) {
            Some(figures) => Cow::Borrowed(&figures.label),
            None => Cow::Owned(Label::other(server.role)),
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
                let counts = figures.window.counts(now);
                if figures
                    .flag
                    .review(counts, awaiting_fin, self.slow_after, now)
                {
                    flips.push(Flip {
                        server,
                        slow: figures.flag.is_slow(),
                        evidence: figures.evidence(awaiting_fin, now),
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
                    figures.flag.is_slow(),
                )
            })
        })
    }

    /// The same by label.
    pub(crate) fn flags_by_label(&self) -> impl Iterator<Item = (&Label, bool)> {
        let figures = self.known.values().flat_map(BTreeMap::values);
        figures.map(|figures| (&figures.label, figures.flag.is_slow()))
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
    fn new(server: Server, now: Duration) -> Self {
        Self {
            label: server.into(),
            last_event: now,
            flag: Flag::default(),
            window: Window::default(),
        }
    }

    fn ended(&mut self, judgement: &Judgement, now: Duration) {
        // A connection whose outcome could not be seen is no evidence.
        if let Some(slow) = judgement.slow {
            self.window.ended(slow, judgement.waited, now);
        }
    }

    fn evidence(&mut self, awaiting_fin: Option<Duration>, now: Duration) -> Evidence {
        let counts = self.window.counts(now);
        Evidence {
            ended: counts.ended,
            slow: counts.slow,
            waits: self.window.waits(),
            awaiting_fin,
        }
    }
}

#[cfg(test)]
mod tests;
