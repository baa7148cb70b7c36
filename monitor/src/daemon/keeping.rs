//! What must outlive the daemon: into the journal first, and out of it once it is where it belongs.

use std::{borrow::Cow, collections::VecDeque, time::Duration};

use monitor_ebpf::event::Role;
use tracing::warn;

use super::Daemon;
use crate::{
    clock,
    heads::Opening,
    journal::Entry,
    record_file::{RecordFile, Target},
    tracker::Key,
};

/// The records' file, and what is on its way there.
pub(super) struct Records {
    pub(super) file: RecordFile,
    pub(super) target: Target,
    /// Of the records that the file has taken in and not written, in their order.
    unwritten: VecDeque<Key>,
    /// How many it had written when that was last looked at.
    seen_written: u64,
}

impl Records {
    pub(super) fn new(target: Target, file: RecordFile) -> Self {
        Self {
            file,
            target,
            unwritten: VecDeque::new(),
            seen_written: 0,
        }
    }
}

impl Daemon {
    /// A connection is followed from now on.
    pub(super) fn journal_followed(
        &mut self,
        key: Key,
        cgroup_id: u64,
        opening: Option<Opening>,
        now: Duration,
    ) {
        let Some(journal) = &mut self.journal else {
            return;
        };
        let cgroup = self.cgroups.path(cgroup_id, now);
        journal.note(&Entry::Followed {
            key,
            since: now,
            cgroup_id,
            cgroup: cgroup.map(Into::into),
            opening: opening.map(Cow::Owned),
        });
    }

    /// A first Close frame was counted.
    pub(super) fn journal_close_frame(&mut self, key: Key, sender: Role) {
        let by_client = sender == Role::Client;
        if let Some(journal) = &mut self.journal {
            journal.note(&Entry::CloseFrame { key, by_client });
        }
    }

    /// A connection that has ended and is not given out is nowhere but in this process.
    pub(super) fn journal_held(&mut self, key: Key, record: &[u8]) {
        if let Some(journal) = &mut self.journal
            && self.tracker.is_held(key)
        {
            let event = record.into();
            journal.note(&Entry::Ended { key, event });
        }
    }

    /// Nothing is left to be done for a connection.
    pub(super) fn journal_done(&mut self, key: Key) {
        if let Some(journal) = &mut self.journal {
            journal.note(&Entry::Done { key });
        }
    }

    /// Ends and changes that found the ring full are told in the log.
    pub(super) fn tell_lost(&mut self, ends: u64, changes: u64) {
        self.told_lost = (ends, changes);
        if let Some(journal) = &mut self.journal {
            journal.note(&Entry::Told { ends, changes });
            journal.commit(clock::since_boot());
        }
    }

    /// Writes what was noted for the journal.
    pub(super) fn commit(&mut self, now: Duration) {
        if let Some(journal) = &mut self.journal {
            journal.commit(now);
        }
    }

    /// Hands a record to the file, and notes it until it is written there.
    pub(super) fn write(&mut self, key: Key, line: &[u8]) {
        if let Some(journal) = &mut self.journal {
            let line = line.into();
            journal.note(&Entry::Line { key, line });
        }
        self.write_journalled(key, line);
    }

    /// Hands a record to the file.
    pub(super) fn write_journalled(&mut self, key: Key, line: &[u8]) {
        let records = self.records.as_mut();
        let taken = records.is_some_and(|records| {
            let taken = records.file.push(line);
            if taken && self.journal.is_some() {
                records.unwritten.push_back(key);
            }
            taken
        });
        if !taken {
            self.journal_done(key);
        }
    }

    /// Hands over the records that wait to be written. They are in the journal by now, until the file has them.
    pub(super) fn flush_records(&mut self) {
        let Some(records) = &mut self.records else {
            return;
        };
        records.file.flush();
        self.note_written();
    }

    /// What is in the file need not be in the journal.
    fn note_written(&mut self) {
        let (Some(records), Some(journal)) = (&mut self.records, &mut self.journal) else {
            return;
        };
        let written = records.file.written();
        let new = written - records.seen_written;
        records.seen_written = written;
        for key in records.unwritten.drain(..new as usize) {
            journal.note(&Entry::Done { key });
        }
        journal.commit(clock::since_boot());
    }

    /// The file may have been rotated.
    pub(crate) fn reopen_records(&mut self) {
        if let Some(records) = &mut self.records {
            records.file.reopen();
        }
    }

    /// Writes what can be written, for the last time. With a journal, the rest stays in there.
    pub(super) fn close_records(self) {
        let Some(mut records) = self.records else {
            return;
        };
        let left = records.file.close() as usize;
        let Some(mut journal) = self.journal else {
            if left > 0 {
                warn!(
                    records = left,
                    "stopping with records that could not be written: they are lost"
                );
            }
            return;
        };
        let written = records.unwritten.len().saturating_sub(left);
        for key in records.unwritten.drain(..written) {
            journal.note(&Entry::Done { key });
        }
        journal.commit(clock::since_boot());
        if left > 0 {
            warn!(
                records = left,
                "stopping with records that could not be written: they are in the journal, for the next daemon to write"
            );
        }
    }
}
