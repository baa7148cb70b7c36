//! Writes records to a file or to stdout, on a thread of its own.
//!
//! In: whole lines, from a loop that never waits for the disk. Out: the same lines, whole and in order. What
//! cannot be written waits in memory, up to [`WAITING_MAX`]; beyond that whole records are dropped, and counted.
//! Never ends the daemon; what goes on too long is told in the log.

use std::{
    path::PathBuf,
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use caps::CapsHashSet;
use tracing::warn;

use self::{shared::Shared, trouble::Trouble, writer::Writer};
use crate::privileges;

mod output;
mod pending;
mod shared;
mod trouble;
mod writer;

/// Bytes of records that wait in memory at most.
const WAITING_MAX: usize = 8 << 20;
/// The last records are waited for this long, so that the daemon ends within a second.
const CLOSE_WITHIN: Duration = Duration::from_millis(400);

/// Where records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Stdout,
    File(PathBuf),
}

/// The open file, before there is a thread to write to it.
pub(crate) struct Opened {
    writer: Writer,
    shared: Shared,
}

impl Opened {
    /// Opens the file for appending, or creates it for the user and the group (0640).
    ///
    /// # Errors
    ///
    /// When the file cannot be opened.
    pub(crate) fn open(target: Target) -> Result<Self> {
        let shared = Shared::default();
        let writer = Writer::open(target, shared.clone())?;
        Ok(Self { writer, shared })
    }

    /// Starts the thread, which gives up every capability.
    ///
    /// # Errors
    ///
    /// When there can be no thread, or it cannot give them up.
    pub(crate) fn start(self) -> Result<RecordFile> {
        let (to_writer, batches) = mpsc::channel();
        let (ending, ended) = mpsc::channel();
        let (settling, settled) = mpsc::channel();
        let Self { writer, shared } = self;
        thread::Builder::new()
            .name("records".to_owned())
            .spawn(move || {
                let reduced = privileges::keep(&CapsHashSet::new());
                let is_reduced = reduced.is_ok();
                if settling.send(reduced).is_err() || !is_reduced {
                    return;
                }
                writer.run(&batches);
                drop(ending);
            })
            .context("start the thread that writes the records")?;
        settled
            .recv()
            .context("the thread that writes the records ended")??;
        Ok(RecordFile {
            to_writer,
            ended,
            shared,
            turn: Vec::new(),
            trouble: Trouble::default(),
        })
    }
}

/// The loop's end of the records.
pub(crate) struct RecordFile {
    to_writer: Sender<Vec<u8>>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
    shared: Shared,
    /// Lines that the thread has not been handed yet.
    turn: Vec<u8>,
    trouble: Trouble,
}

impl RecordFile {
    /// Takes a record in; it goes to the thread with the next [`RecordFile::flush`]. Returns false when
    /// memory for them is full: then it is dropped, and counted. Those that are taken in are written in
    /// their order: the n-th of them is once [`RecordFile::written`] has come to n.
    pub(crate) fn push(&mut self, line: &[u8]) -> bool {
        let taken = self.shared.take_in(line.len());
        if taken {
            self.turn.extend_from_slice(line);
        }
        taken
    }

    /// Hands what was taken in to the thread. Does not wait.
    pub(crate) fn flush(&mut self) {
        if !self.turn.is_empty() {
            // The thread lives as long as this: its counters tell that it hangs.
            let _ = self.to_writer.send(std::mem::take(&mut self.turn));
        }
    }

    /// Has the path opened anew, for it may have been rotated. The old file is kept if that fails.
    pub(crate) fn reopen(&mut self) {
        self.flush();
        if self.shared.want_reopening() {
            // An empty batch: something to wake up for.
            let _ = self.to_writer.send(Vec::new());
        }
    }

    /// Says in the log when records cannot be written, and when they are again.
    pub(crate) fn tell(&mut self, now: Duration) {
        self.trouble.tell(&self.shared.state(now), now);
    }

    /// Writes what can be written at once, for the last time. Returns how many records could not be.
    pub(crate) fn close(mut self) -> u64 {
        self.flush();
        drop(self.to_writer);
        if self.ended.recv_timeout(CLOSE_WITHIN) == Err(RecvTimeoutError::Timeout) {
            warn!("stopping while the disk still takes records");
        }
        self.shared.waiting()
    }

    /// Records written since the start.
    pub(crate) fn written(&self) -> u64 {
        self.shared.written()
    }

    /// Records dropped since the start.
    pub(crate) fn lost(&self) -> u64 {
        self.shared.lost()
    }

    /// Records that are still to be written.
    pub(crate) fn waiting(&self) -> u64 {
        self.shared.waiting()
    }
}

#[cfg(test)]
mod tests;
