//! How many sockets each server's connections have left in TIME_WAIT at the moment.
//!
//! In: which servers are known, what was followed, and the time. Out: a [`Listing`], from a thread that
//! asks the kernel, network namespace by network namespace. Nobody waits for that thread; it is asked
//! only when somebody wants to know, every [`EVERY`] at most, and for no more than a tenth of one CPU.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io,
    path::PathBuf,
    sync::mpsc::{self as requests, Sender},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use caps::CapsHashSet;
use tokio::sync::mpsc::{self, Receiver};
use tracing::warn;

pub(crate) use self::listing::Listing;
use self::listing::{Lister, Question};
use crate::{privileges, tracker::Server};

mod listing;
mod namespace;
mod sock_diag;

/// Between the beginnings of two listings at least.
const EVERY: Duration = Duration::from_secs(5);
/// A listing that takes long is followed by this many times its length without one.
const REST: u32 = 10;
/// Cgroups remembered between listings. When there are too many they all go; those of live connections
/// come back.
const CGROUPS_MAX: usize = 4096;
/// Cookies of ended connections kept: a thousand closes a second, for as long as TIME_WAIT lasts.
const COOKIES_MAX: usize = 65_536;

pub(crate) struct TimeWait {
    questions: Sender<Question>,
    /// When a listing may begin again.
    due: Duration,
    running: bool,
    /// When something was last heard of a connection in the cgroup.
    cgroups: HashMap<u64, Duration>,
    cookies: VecDeque<u64>,
    /// It was told that something keeps it from listing everything.
    told: bool,
}

impl TimeWait {
    /// Starts the thread, which keeps these capabilities and no others. Its listings come out of the receiver.
    ///
    /// # Errors
    ///
    /// When there can be no thread, or it cannot give up the others.
    pub(crate) fn start(kept: CapsHashSet) -> Result<(Self, Receiver<Listing>)> {
        let (questions, asked) = requests::channel::<Question>();
        let (listings, listed) = mpsc::channel(1);
        let (settling, settled) = requests::channel();
        thread::Builder::new()
            .name("time-wait".to_owned())
            .spawn(move || {
                let reduced = privileges::keep(&kept);
                let is_reduced = reduced.is_ok();
                if settling.send(reduced).is_err() || !is_reduced {
                    return;
                }
                if let Err(error) = answer(&asked, &listings) {
                    // The last one: it is waited for.
                    let _ = listings.blocking_send(Listing::failed(&error));
                }
            })
            .context("start the thread that lists TIME_WAIT")?;
        settled
            .recv()
            .context("the thread that lists TIME_WAIT ended")??;
        let time_wait = Self {
            questions,
            due: Duration::ZERO,
            running: false,
            cgroups: HashMap::new(),
            cookies: VecDeque::new(),
            told: false,
        };
        Ok((time_wait, listed))
    }

    /// A connection in this cgroup is followed.
    pub(crate) fn followed(&mut self, cgroup_id: u64, now: Duration) {
        if self.cgroups.len() >= CGROUPS_MAX && !self.cgroups.contains_key(&cgroup_id) {
            self.cgroups.clear();
        }
        self.cgroups.insert(cgroup_id, now);
    }

    /// A followed connection ended.
    pub(crate) fn ended(&mut self, cookie: u64) {
        self.cookies.push_back(cookie);
        if self.cookies.len() > COOKIES_MAX {
            self.cookies.pop_front();
        }
    }

    /// Whether a listing may begin.
    pub(crate) fn is_due(&self, now: Duration) -> bool {
        !self.running && now >= self.due
    }

    /// Whether a listing is under way.
    pub(crate) fn is_running(&self) -> bool {
        self.running
    }

    /// The cgroups of connections of which something was heard within `ttl`.
    pub(crate) fn cgroups(&mut self, ttl: Duration, now: Duration) -> HashSet<u64> {
        self.cgroups
            .retain(|_, heard| now.saturating_sub(*heard) < ttl);
        self.cgroups.keys().copied().collect()
    }

    /// Begins a listing.
    pub(crate) fn begin(&mut self, servers: HashSet<Server>, cgroups: Vec<PathBuf>, now: Duration) {
        let question = Question {
            servers,
            cgroups,
            cookies: self.cookies.iter().copied().collect(),
        };
        self.due = now + EVERY;
        // The thread ends only with a word in the log.
        self.running = self.questions.send(question).is_ok();
    }

    /// Takes note of a listing that came; tells what was missing from it, once.
    pub(crate) fn came(&mut self, listing: &Listing, now: Duration) {
        self.running = false;
        self.due = self.due.max(now + REST * listing.took);
        if let Some(problem) = listing.problem.as_ref().filter(|_| !self.told) {
            self.told = true;
            warn!(
                refused = listing.refused,
                failed = listing.failed,
                "TIME_WAIT is not counted in every network namespace: {problem}"
            );
        }
    }
}

fn answer(
    asked: &requests::Receiver<Question>,
    listings: &mpsc::Sender<Listing>,
) -> io::Result<()> {
    let mut lister = Lister::new()?;
    for question in asked {
        let listing = lister.list(&question)?;
        if listings.blocking_send(listing).is_err() {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_every_five_seconds_at_most_and_rests_after_a_long_listing() {
        let (mut time_wait, _listings) = TimeWait::start(CapsHashSet::new()).unwrap();
        let secs = Duration::from_secs;
        assert!(time_wait.is_due(secs(100)));
        time_wait.begin(HashSet::new(), Vec::new(), secs(100));
        assert!(time_wait.is_running());
        assert!(!time_wait.is_due(secs(200)), "one at a time");
        time_wait.came(&Listing::default(), secs(101));
        assert!(!time_wait.is_due(secs(104)) && time_wait.is_due(secs(105)));

        time_wait.begin(HashSet::new(), Vec::new(), secs(105));
        let took = secs(1);
        time_wait.came(
            &Listing {
                took,
                ..Listing::default()
            },
            secs(106),
        );
        assert!(!time_wait.is_due(secs(115)) && time_wait.is_due(secs(116)));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut time_wait, _listings) = TimeWait::start(CapsHashSet::new()).unwrap();
        for cookie in 0..=COOKIES_MAX as u64 {
            time_wait.ended(cookie);
        }
        assert_eq!(time_wait.cookies.len(), COOKIES_MAX);
        assert_eq!(time_wait.cookies.front(), Some(&1));

        for cgroup in 0..=CGROUPS_MAX as u64 {
            time_wait.followed(cgroup, Duration::ZERO);
        }
        assert_eq!(time_wait.cgroups.len(), 1);

        let (ttl, later) = (Duration::from_secs(60), Duration::from_secs(61));
        time_wait.followed(1, Duration::ZERO);
        time_wait.followed(2, later);
        assert_eq!(time_wait.cgroups(ttl, later), HashSet::from([2]));
    }
}
