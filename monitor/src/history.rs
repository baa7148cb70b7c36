//! What each server did: since the start, and minute by minute in the last hour.
//!
//! In: what happened, under which label, and the time. Out: a [`History`] per label, for those who
//! ask over HTTP. Decides neither what is slow nor which servers have a label; reads no clock, does
//! no I/O.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use monitor_ebpf::event::Role;

use crate::{
    heads::Opening,
    outcome::{Judgement, Outcome, TimeWait},
    servers::Label,
};

/// What the history looks back on.
pub(crate) const MINUTES: usize = 60;
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
/// Names by which clients called a server, at most.
const HOSTS_MAX: usize = 8;

/// The history of every label.
pub(crate) struct Histories {
    /// Upper edges of the buckets, in seconds.
    edges: Vec<f64>,
    known: HashMap<Label, History>,
}

/// What a server did.
#[derive(Clone, Debug)]
pub(crate) struct History {
    /// Since when it is flagged, while it is.
    pub(crate) slow_since: Option<Duration>,
    /// Ended connections: with each outcome of [`Outcome::ALL`], and then without.
    pub(crate) outcomes: [u64; Outcome::ALL.len() + 1],
    pub(crate) slow_closes: u64,
    /// From the second Close frame to the first end, when the client made that.
    pub(crate) ended_by_client: Buckets,
    /// The same, when the server made it.
    pub(crate) ended_by_server: Buckets,
    pub(crate) time_wait: Holders,
    /// The `Host` of the latest openings, each once, the latest first.
    pub(crate) hosts: VecDeque<String>,
    /// There were more.
    pub(crate) hosts_more: bool,
    /// The `Server` of the latest opening that had one.
    pub(crate) software: Option<String>,
    /// Minutes in which something ended, the oldest first.
    minutes: VecDeque<Minute>,
}

/// How many durations lay between two edges.
#[derive(Clone, Debug)]
pub(crate) struct Buckets {
    /// Up to each edge, above the one before it; the last is above all.
    pub(crate) counts: Vec<u64>,
    pub(crate) sum: Duration,
}

/// Ended connections by who took TIME_WAIT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Holders {
    pub(crate) client: u64,
    pub(crate) server: u64,
    pub(crate) both: u64,
    pub(crate) none: u64,
}

/// Connections that ended within a minute, with an outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Minute {
    /// Which minute since boot.
    number: u64,
    pub(crate) ended: u64,
    pub(crate) slow: u64,
}

impl Histories {
    /// Counts durations between these edges, in seconds.
    pub(crate) fn new(edges: Vec<f64>) -> Self {
        Self {
            edges,
            known: HashMap::new(),
        }
    }

    pub(crate) fn edges(&self) -> &[f64] {
        &self.edges
    }

    /// A connection is there, and this is what its heads said if they were told.
    pub(crate) fn seen(&mut self, label: &Label, opening: Option<&Opening>) {
        let named = !label.is_other();
        let history = self.entry(label);
        let Some(opening) = opening.filter(|_| named) else {
            return;
        };
        if let Some(host) = &opening.host {
            history.called(host);
        }
        if opening.server_software.is_some() {
            history.software.clone_from(&opening.server_software);
        }
    }

    /// A connection ended.
    pub(crate) fn ended(&mut self, label: &Label, judgement: &Judgement, now: Duration) {
        let edge = judgement.close_to_fin.map(|duration| {
            let seconds = duration.as_secs_f64();
            (self.edges.partition_point(|edge| *edge < seconds), duration)
        });
        let history = self.entry(label);
        let unknown = Outcome::ALL.len();
        history.outcomes[judgement
            .outcome
            .map_or(unknown, |outcome| outcome as usize)] += 1;
        if let Some((bucket, duration)) = edge {
            let buckets = match judgement.first_end {
                Role::Client => &mut history.ended_by_client,
                Role::Server => &mut history.ended_by_server,
            };
            buckets.counts[bucket] += 1;
            buckets.sum += duration;
        }
        match judgement.time_wait {
            TimeWait::Client => history.time_wait.client += 1,
            TimeWait::Server => history.time_wait.server += 1,
            TimeWait::Both => history.time_wait.both += 1,
            TimeWait::None => history.time_wait.none += 1,
        }
        if let Some(slow) = judgement.slow {
            history.slow_closes += u64::from(slow);
            history.count(slow, now);
        }
    }

    /// A server's flag changed.
    pub(crate) fn flipped(&mut self, label: &Label, slow: bool, now: Duration) {
        self.entry(label).slow_since = slow.then_some(now);
    }

    pub(crate) fn forget(&mut self, label: &Label) {
        self.known.remove(label);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Label, &History)> {
        self.known.iter()
    }

    fn entry(&mut self, label: &Label) -> &mut History {
        // Not `entry`: it wants a label of its own each time.
        if !self.known.contains_key(label) {
            let history = History::new(self.edges.len() + 1);
            self.known.insert(label.clone(), history);
        }
        self.known.get_mut(label).expect("it was put there")
    }
}

impl History {
    fn new(buckets: usize) -> Self {
        let buckets = Buckets {
            counts: vec![0; buckets],
            sum: Duration::ZERO,
        };
        Self {
            slow_since: None,
            outcomes: [0; Outcome::ALL.len() + 1],
            slow_closes: 0,
            ended_by_client: buckets.clone(),
            ended_by_server: buckets,
            time_wait: Holders::default(),
            hosts: VecDeque::new(),
            hosts_more: false,
            software: None,
            minutes: VecDeque::new(),
        }
    }

    /// Connections that ended since the start.
    pub(crate) fn ended(&self) -> u64 {
        self.outcomes.iter().sum()
    }

    /// The last hour, the oldest minute first; the last is the one that has not passed yet.
    pub(crate) fn last_hour(&self, now: Duration) -> [Minute; MINUTES] {
        let latest = number(now);
        let mut hour = [Minute::default(); MINUTES];
        for minute in &self.minutes {
            let age = latest.saturating_sub(minute.number) as usize;
            if let Some(place) = MINUTES.checked_sub(age + 1) {
                hour[place] = *minute;
            }
        }
        hour
    }

    fn count(&mut self, slow: bool, now: Duration) {
        let number = number(now);
        if self.minutes.back().is_none_or(|last| last.number != number) {
            self.minutes.push_back(Minute {
                number,
                ..Minute::default()
            });
        }
        if self.minutes.len() > MINUTES {
            self.minutes.pop_front();
        }
        if let Some(minute) = self.minutes.back_mut() {
            minute.ended += 1;
            minute.slow += u64::from(slow);
        }
    }

    fn called(&mut self, host: &str) {
        if let Some(known) = self.hosts.iter().position(|known| known == host) {
            if let Some(host) = self.hosts.remove(known) {
                self.hosts.push_front(host);
            }
            return;
        }
        self.hosts.push_front(host.to_owned());
        if self.hosts.len() > HOSTS_MAX {
            self.hosts.pop_back();
            self.hosts_more = true;
        }
    }
}

fn number(now: Duration) -> u64 {
    now.as_secs() / MINUTE.as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{outcome::judge, timeline::after};

    #[test]
    fn ended_connections_are_counted_by_what_is_known_of_them() {
        let mut histories = histories();
        ended(
            &mut histories,
            "0s upgrade; 1s client close; 1s server close; 1s server fin; 2s gone",
            0,
        );
        ended(
            &mut histories,
            "0s upgrade; 1s client close; 1s server close; 3s client fin; 4s gone",
            0,
        );
        ended(&mut histories, "0s upgrade; 1s client lost; 4s gone", 0);
        let history = history(&histories);
        assert_eq!((history.ended(), history.slow_closes), (3, 1));
        assert_eq!(history.outcomes, [1, 0, 1, 0, 0, 0, 0, 0, 1]);
        assert_eq!(history.ended_by_server.counts, [1, 0, 0]);
        assert_eq!(history.ended_by_client.counts, [0, 1, 0], "2 s is an edge");
        assert_eq!(history.ended_by_client.sum, Duration::from_secs(2));
        let holders = Holders {
            client: 1,
            server: 1,
            both: 0,
            none: 1,
        };
        assert_eq!(history.time_wait, holders);
    }

    #[test]
    fn hour_moves_on_by_minutes() {
        let mut histories = histories();
        let slow = "0s upgrade; 1s client close; 1s server close; 3s client fin; 4s gone";
        for minute in [0, 1, 1, 30, 61] {
            ended(&mut histories, slow, minute * 60 + 7);
        }
        let counts = |now: u64| -> Vec<(usize, u64)> {
            let hour = history(&histories).last_hour(Duration::from_secs(now * 60 + 59));
            let minutes = hour.iter().enumerate();
            minutes
                .filter(|(_, minute)| minute.ended > 0)
                .map(|(place, minute)| (place, minute.slow))
                .collect()
        };
        assert_eq!(counts(61), [(28, 1), (59, 1)]);
        assert_eq!(counts(90), [(30, 1)]);
        assert_eq!(counts(121), []);
    }

    #[test]
    fn hosts_are_the_latest_and_bounded() {
        let mut histories = histories();
        let mut call = |host: &str| {
            let opening = Opening {
                host: Some(host.to_owned()),
                ..Opening::default()
            };
            histories.seen(&label(), Some(&opening));
        };
        for number in 0..9 {
            call(&format!("host{number}"));
        }
        call("host5");
        let history = history(&histories);
        assert_eq!(history.hosts.len(), HOSTS_MAX);
        assert_eq!(
            (&*history.hosts[0], &*history.hosts[7]),
            ("host5", "host1"),
            "the oldest went"
        );
        assert!(history.hosts_more);
    }

    fn histories() -> Histories {
        Histories::new(vec![0.001, 2.0])
    }

    fn label() -> Label {
        Label {
            role: Role::Client,
            server: "192.0.2.1:80".to_owned(),
        }
    }

    fn history(histories: &Histories) -> &History {
        &histories.known[&label()]
    }

    fn ended(histories: &mut Histories, script: &str, at: u64) {
        let judgement = judge(&after(Role::Client, script), Duration::from_secs(1));
        histories.ended(&label(), &judgement, Duration::from_secs(at));
    }
}
