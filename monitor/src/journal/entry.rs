//! One entry of the journal, and how it is told from damage: its length, a checksum, itself.
//!
//! In: facts. Out: bytes, and from bytes the facts in front of the first damage. Reads and writes no file.

use std::{borrow::Cow, time::Duration};

use serde::{Deserialize, Serialize};

use super::Origin;
use crate::{heads::Opening, tracker::Key};

/// Bytes of an entry at most. What claims to be longer is damage.
const ENTRY_MAX: usize = 1 << 20;
/// Length and checksum.
const FRAME: usize = 8;

/// A fact that the next daemon needs and the kernel does not keep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Entry<'a> {
    /// What is behind this was written under that boot and that layout of kernel events.
    Begin(Cow<'a, Origin>),
    /// A connection opened, or was adopted.
    Followed {
        key: Key,
        /// When it was first heard of.
        since: Duration,
        cgroup_id: u64,
        cgroup: Option<Cow<'a, str>>,
        opening: Option<Cow<'a, Opening>>,
    },
    /// The first Close frame of an end was counted.
    CloseFrame { key: Key, by_client: bool },
    /// A kernel event about the end of a connection that is not given out yet.
    Ended { key: Key, event: Cow<'a, [u8]> },
    /// A connection's record, which is to be written.
    Line { key: Key, line: Cow<'a, [u8]> },
    /// Nothing is left to be done for a connection.
    Done { key: Key },
    /// Ends and changes that had found the ring buffer full when that was last told.
    Told { ends: u64, changes: u64 },
}

impl Entry<'_> {
    /// Appends the entry.
    pub(super) fn encode(&self, to: &mut Vec<u8>) {
        let begin = to.len();
        to.extend([0; FRAME]);
        let bytes =
            postcard::to_allocvec(self).expect("an entry has plain values, and memory is there");
        to.extend(bytes);
        let (frame, body) = to[begin..].split_at_mut(FRAME);
        let length = u32::try_from(body.len()).expect("an entry is far below 4 GiB");
        frame[..4].copy_from_slice(&length.to_le_bytes());
        frame[4..].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
    }

    /// The entry at the beginning of `bytes`, and how long it is; none where there is no whole and sound one.
    pub(super) fn decode(bytes: &[u8]) -> Option<(Entry<'_>, usize)> {
        let (length, rest) = bytes.split_first_chunk()?;
        let (sum, rest) = rest.split_first_chunk()?;
        let length = u32::from_le_bytes(*length) as usize;
        let body = rest.get(..length).filter(|_| length <= ENTRY_MAX)?;
        if crc32fast::hash(body) != u32::from_le_bytes(*sum) {
            return None;
        }
        let entry = postcard::from_bytes(body).ok()?;
        Some((entry, FRAME + length))
    }
}
