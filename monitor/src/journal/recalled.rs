//! What the entries of a journal come to.
//!
//! In: entries, in their order. Out: what is still to be done, and what of it the kernel cannot tell. Reads no
//! clock and no file.

use std::{
    borrow::Cow::Borrowed,
    collections::{HashMap, VecDeque},
    time::Duration,
};

use super::{Entry, Origin};
use crate::{heads::Opening, tracker::Key};

/// Connections with nothing left to do that are recalled: as many as the tracker remembers.
const DONE_MAX: usize = 16_384;

/// The state that a journal describes.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Recalled {
    pub(crate) origin: Origin,
    /// Connections that are followed.
    pub(crate) followed: HashMap<Key, Followed>,
    /// Kernel events about ends that were not given out.
    pub(crate) ended: HashMap<Key, Vec<Vec<u8>>>,
    /// Records that may not be written yet, in their order.
    pub(crate) lines: VecDeque<(Key, Vec<u8>)>,
    /// The latest connections with nothing left to do.
    pub(crate) done: VecDeque<Key>,
    /// Ends and changes that had found the ring buffer full when that was last told.
    pub(crate) told: (u64, u64),
    /// Events about ends that nobody can read any more: they are of another layout.
    pub(crate) unreadable: usize,
}

/// What is known of a connection that the kernel does not keep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Followed {
    /// When it was first heard of.
    pub(crate) since: Duration,
    pub(crate) cgroup_id: u64,
    pub(crate) cgroup: Option<String>,
    pub(crate) opening: Option<Opening>,
    /// Whether the first Close frame of the client and of the server was counted.
    pub(crate) close_frames: [bool; 2],
}

impl Recalled {
    /// Takes in the next entry.
    pub(super) fn take(&mut self, entry: Entry<'_>) {
        match entry {
            Entry::Begin(origin) => self.begin(origin.into_owned()),
            Entry::Followed {
                key,
                since,
                cgroup_id,
                cgroup,
                opening,
            } => {
                let known = self.followed.entry(key).or_insert_with(|| Followed {
                    since,
                    ..Followed::default()
                });
                known.cgroup_id = cgroup_id;
                known.cgroup = cgroup.map(|path| path.into_owned()).or(known.cgroup.take());
                known.opening = opening
                    .map(|heads| heads.into_owned())
                    .or(known.opening.take());
            }
            Entry::CloseFrame { key, by_client } => {
                if let Some(followed) = self.followed.get_mut(&key) {
                    followed.close_frames[usize::from(!by_client)] = true;
                }
            }
            Entry::Ended { key, event } => {
                let events = self.ended.entry(key).or_default();
                events.push(event.into_owned());
            }
            Entry::Line { key, line } => {
                self.forget(key);
                self.lines.push_back((key, line.into_owned()));
            }
            Entry::Done { key } => {
                self.forget(key);
                // They are done in their order, but for one that was dropped.
                if let Some(index) = self.lines.iter().position(|(other, _)| *other == key) {
                    self.lines.remove(index);
                }
                self.done.push_back(key);
                if self.done.len() > DONE_MAX {
                    self.done.pop_front();
                }
            }
            Entry::Told { ends, changes } => self.told = (ends, changes),
        }
    }

    /// Times and cookies mean nothing after a boot, and events nothing with another layout. Records do.
    fn begin(&mut self, origin: Origin) {
        if origin.boot != self.origin.boot {
            self.followed.clear();
            self.ended.clear();
            self.done.clear();
            self.told = (0, 0);
        }
        if origin.layout != self.origin.layout {
            self.unreadable += self.ended.len();
            self.ended.clear();
            self.told = (0, 0);
        }
        self.origin = origin;
    }

    fn forget(&mut self, key: Key) {
        self.followed.remove(&key);
        self.ended.remove(&key);
    }

    /// The shortest journal that comes to this.
    pub(super) fn encode(&self, to: &mut Vec<u8>) {
        Entry::Begin(Borrowed(&self.origin)).encode(to);
        let (ends, changes) = self.told;
        Entry::Told { ends, changes }.encode(to);
        for key in &self.done {
            Entry::Done { key: *key }.encode(to);
        }
        for (key, followed) in &self.followed {
            let key = *key;
            Entry::Followed {
                key,
                since: followed.since,
                cgroup_id: followed.cgroup_id,
                cgroup: followed.cgroup.as_deref().map(Borrowed),
                opening: followed.opening.as_ref().map(Borrowed),
            }
            .encode(to);
            for (counted, by_client) in followed.close_frames.into_iter().zip([true, false]) {
                if counted {
                    Entry::CloseFrame { key, by_client }.encode(to);
                }
            }
        }
        for (key, events) in &self.ended {
            for event in events {
                let event = Borrowed(event.as_slice());
                Entry::Ended { key: *key, event }.encode(to);
            }
        }
        for (key, line) in &self.lines {
            let line = Borrowed(line.as_slice());
            Entry::Line { key: *key, line }.encode(to);
        }
    }
}
