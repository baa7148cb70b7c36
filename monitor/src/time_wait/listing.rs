//! Counts TIME_WAIT entries by server, in every network namespace that holds followed connections.
//!
//! In: a [`Question`]. Out: a [`Listing`]. Runs on a thread of its own, because it goes from namespace to
//! namespace and blocks.
//!
//! A namespace counts when a process of a cgroup with followed connections is in it, or when an entry
//! in it has the cookie of one: then its process may be gone. The second needs another way in: the
//! namespace is this thread's own, or is mounted. Without that, another pod's server on the same
//! `127.0.0.1:8080` would be counted, too.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use monitor_ebpf::event::Role;

use super::{
    namespace::{self, Id, THIS_THREAD},
    sock_diag::{self, Entry},
};
use crate::tracker::Server;

/// What is to be counted.
#[derive(Debug, Default)]
pub(super) struct Question {
    pub(super) servers: HashSet<Server>,
    /// The directories of the cgroups with followed connections.
    pub(super) cgroups: Vec<PathBuf>,
    /// Of connections that were followed to their end, the latest.
    pub(super) cookies: Vec<u64>,
}

/// What was counted, all within [`Listing::took`].
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Every server that was asked for, with the entries that its connections left here.
    pub(crate) sockets: HashMap<Server, u64>,
    /// Namespaces whose entries are in the figures.
    pub(crate) listed: usize,
    /// Namespaces that this process may not look into, although they hold followed connections.
    pub(crate) refused: usize,
    /// Namespaces that should have been listed and were not, because of an error.
    pub(crate) failed: usize,
    /// The first of the errors.
    pub(crate) problem: Option<String>,
    pub(crate) took: Duration,
}

impl Listing {
    /// Nothing could be listed.
    pub(super) fn failed(error: &io::Error) -> Self {
        Self {
            failed: 1,
            problem: Some(format!("return to the own network namespace: {error}")),
            ..Self::default()
        }
    }
}

/// The thread's memory between listings.
pub(super) struct Lister {
    home: (File, Id),
    /// Namespaces known to hold followed connections, as long as they can be found.
    holding: HashSet<Id>,
}

/// What one listing goes by.
struct Visit<'a> {
    question: &'a Question,
    cookies: Option<HashSet<u64>>,
    listing: Listing,
    seen: HashSet<Id>,
    holding: HashSet<Id>,
    refused: HashSet<Id>,
}

impl Lister {
    /// Takes the namespace of the calling thread for home.
    pub(super) fn new() -> io::Result<Self> {
        let home = File::open(namespace::of_process(THIS_THREAD))?;
        Ok(Self {
            home: (home, namespace::id(THIS_THREAD)?),
            holding: HashSet::new(),
        })
    }

    /// Lists all there is, and comes home.
    ///
    /// # Errors
    ///
    /// When the thread cannot come home: then it is in no state to go on.
    pub(super) fn list(&mut self, question: &Question) -> io::Result<Listing> {
        let began = Instant::now();
        let sockets = question.servers.iter().map(|server| (*server, 0)).collect();
        let mut visit = Visit {
            question,
            cookies: None,
            listing: Listing {
                sockets,
                ..Listing::default()
            },
            seen: HashSet::new(),
            holding: HashSet::new(),
            refused: HashSet::new(),
        };
        self.visit_processes(&mut visit)?;
        if !visit.seen.contains(&self.home.1) {
            let known = self.holding.contains(&self.home.1);
            visit.count(self.home.1, known);
        }
        self.visit_mounts(&mut visit)?;

        self.holding = visit.holding;
        let mut listing = visit.listing;
        listing.refused = visit.refused.len();
        listing.took = began.elapsed();
        Ok(listing)
    }

    fn visit_processes(&self, visit: &mut Visit<'_>) -> io::Result<()> {
        for process in visit
            .question
            .cgroups
            .iter()
            .flat_map(|cgroup| namespace::processes(cgroup))
        {
            // Processes end while we look.
            let Ok(id) = namespace::id(&process) else {
                continue;
            };
            if !visit.seen.insert(id) {
                continue;
            }
            if id == self.home.1 {
                visit.count(id, true);
                continue;
            }
            match namespace::entries(&process) {
                // The usual case, and needs no privileges.
                Ok(0) => visit.counted(id),
                Ok(_) => {
                    let way = namespace::of_process(&process);
                    self.away(&way, visit, |visit| {
                        // The pid may be another's by then.
                        if namespace::id(THIS_THREAD).is_ok_and(|now| now == id) {
                            visit.count(id, true);
                        }
                    })?
                    .unwrap_or_else(|error| visit.cannot_enter(id, &way, &error));
                }
                Err(_) => {}
            }
        }
        Ok(())
    }

    fn visit_mounts(&self, visit: &mut Visit<'_>) -> io::Result<()> {
        for way in namespace::mounted() {
            // One that cannot be entered may hold nothing for us, and is no loss that we know of.
            let _ = self.away(&way, visit, |visit| {
                let Ok(id) = namespace::id(THIS_THREAD) else {
                    return;
                };
                let refused = visit.refused.remove(&id);
                if visit.seen.insert(id) || refused {
                    visit.count(id, refused || self.holding.contains(&id));
                }
            })?;
        }
        Ok(())
    }

    /// Does something in another namespace. The outer error: cannot come home; the inner: cannot enter.
    fn away<'a>(
        &self,
        way: &Path,
        visit: &mut Visit<'a>,
        act: impl FnOnce(&mut Visit<'a>),
    ) -> io::Result<io::Result<()>> {
        if let Err(error) = namespace::enter(way) {
            return Ok(Err(error));
        }
        act(visit);
        namespace::return_to(&self.home.0).map(Ok)
    }
}

impl Visit<'_> {
    /// Counts the entries of the namespace that the thread is in.
    fn count(&mut self, id: Id, holds: bool) {
        self.seen.insert(id);
        match self.count_entries(holds) {
            Ok(true) => self.counted(id),
            Ok(false) => {}
            Err(error) => {
                self.listing.failed += 1;
                let told = format!("list the sockets in TIME_WAIT over sock_diag: {error}");
                self.listing.problem.get_or_insert(told);
            }
        }
    }

    /// Returns whether the namespace holds followed connections, so that its entries were counted.
    fn count_entries(&mut self, mut holds: bool) -> io::Result<bool> {
        if namespace::entries(THIS_THREAD)? == 0 {
            return Ok(holds);
        }
        let mut found: HashMap<Server, u64> = HashMap::new();
        let Self {
            question, cookies, ..
        } = self;
        sock_diag::list(|entry| {
            let Some(server) = owner(&entry, &question.servers) else {
                return;
            };
            *found.entry(server).or_default() += 1;
            holds = holds || {
                let cookies =
                    cookies.get_or_insert_with(|| question.cookies.iter().copied().collect());
                cookies.contains(&entry.cookie)
            };
        })?;
        if holds {
            for (server, count) in found {
                *self.listing.sockets.entry(server).or_default() += count;
            }
        }
        Ok(holds)
    }

    fn counted(&mut self, id: Id) {
        self.holding.insert(id);
        self.listing.listed += 1;
    }

    fn cannot_enter(&mut self, id: Id, way: &Path, error: &io::Error) {
        // It ended; nothing was refused.
        if error.kind() == io::ErrorKind::NotFound {
            return;
        }
        self.refused.insert(id);
        let told = format!("enter {}: {error}", way.display());
        self.listing.problem.get_or_insert(told);
    }
}

/// The server to which the connection went that left the entry, if it is one of those. An end that holds
/// TIME_WAIT is either the server itself or its client.
fn owner(entry: &Entry, servers: &HashSet<Server>) -> Option<Server> {
    let seen_as = |role, address| Server { role, address };
    [
        seen_as(Role::Server, entry.local),
        seen_as(Role::Client, entry.remote),
    ]
    .into_iter()
    .find(|server| servers.contains(server))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_belongs_to_the_end_that_is_a_known_server() {
        let client = "192.0.2.7:43210";
        let server = "198.51.100.1:8765";
        let known = |role, address: &str| Server {
            role,
            address: address.parse().unwrap(),
        };
        let both = HashSet::from([known(Role::Client, server), known(Role::Server, server)]);
        let entry = |local: &str, remote: &str| Entry {
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
            cookie: 1,
        };
        let held_by_client = entry(client, server);
        let held_by_server = entry(server, client);
        assert_eq!(
            owner(&held_by_client, &both),
            Some(known(Role::Client, server))
        );
        assert_eq!(
            owner(&held_by_server, &both),
            Some(known(Role::Server, server))
        );
        let as_client = HashSet::from([known(Role::Client, server)]);
        assert_eq!(
            owner(&held_by_server, &as_client),
            None,
            "its role is not known"
        );
        assert_eq!(owner(&entry(client, client), &both), None);
    }
}
