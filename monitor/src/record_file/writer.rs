//! The thread that waits for the disk.
//!
//! In: batches of whole lines. Out: these lines in the file, whole, in order, once each. Half a line that a full
//! disk leaves behind is taken back at once, or completed when that cannot be.

use std::{
    io::{self, ErrorKind},
    sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError},
    time::Duration,
};

use anyhow::Result;
use tracing::{info, warn};

use super::{
    CLOSE_WITHIN, Target,
    output::{Output, Standing},
    pending::Pending,
    shared::Shared,
};
use crate::clock;

/// Between two attempts after an error.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// How long a reader that takes no more is waited for before another look for what is to be done.
const READER_WITHIN: Duration = Duration::from_millis(100);
/// Who moves the file tells us with SIGHUP within this time, or means us to find out.
const MOVED_FOR: Duration = Duration::from_secs(10);

pub(super) struct Writer {
    target: Target,
    output: Output,
    pending: Pending,
    shared: Shared,
    progress: Progress,
    /// Since when the path does not lead to the open file.
    moved: Option<Duration>,
    /// It was told that the path cannot be opened anew.
    told: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// All is written.
    Done,
    /// The reader takes no more for now.
    ReaderWaits,
    /// The latest attempt failed, at this time.
    Failed(Duration),
}

impl Writer {
    pub(super) fn open(target: Target, shared: Shared) -> Result<Self> {
        let output = Output::open(&target)?;
        Ok(Self {
            target,
            output,
            pending: Pending::default(),
            shared,
            progress: Progress::Done,
            moved: None,
            told: false,
        })
    }

    /// Writes until nobody sends any more, and then what is left.
    pub(super) fn run(mut self, batches: &Receiver<Vec<u8>>) {
        // What root could open it may not be able to open without root's powers.
        if let Err(error) = Output::open(&self.target) {
            warn!("the records file will not be opened anew after a rotation: {error:#}");
        }
        while let Some(batch) = self.next(batches) {
            self.pending.push(&batch);
            self.act(batches);
        }
        let now = clock::since_boot();
        if !self.pending.is_empty() && self.follow_the_path(now).is_err() {
            return;
        }
        self.write();
        while self.progress == Progress::ReaderWaits && clock::since_boot() < now + CLOSE_WITHIN {
            self.output.await_writable(READER_WITHIN);
            self.write();
        }
    }

    /// The next batch; an empty one when it is time to try again, none when there will be no more.
    fn next(&self, batches: &Receiver<Vec<u8>>) -> Option<Vec<u8>> {
        let received = match self.progress {
            Progress::Done => return batches.recv().ok(),
            Progress::ReaderWaits => {
                self.output.await_writable(READER_WITHIN);
                match batches.try_recv() {
                    Err(TryRecvError::Empty) => Ok(Vec::new()),
                    Err(TryRecvError::Disconnected) => return None,
                    Ok(batch) => Ok(batch),
                }
            }
            Progress::Failed(at) => {
                let waited = clock::since_boot().saturating_sub(at);
                batches.recv_timeout(RETRY_EVERY.saturating_sub(waited))
            }
        };
        match received {
            Ok(batch) => Some(batch),
            Err(RecvTimeoutError::Timeout) => Some(Vec::new()),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    fn act(&mut self, batches: &Receiver<Vec<u8>>) {
        for batch in batches.try_iter() {
            self.pending.push(&batch);
        }
        if self.shared.is_reopening_wanted() {
            self.write();
            match self.reopen() {
                Ok(()) => info!("reopened the records"),
                Err(error) => warn!("keeping the old record file: {error:#}"),
            }
        }
        let now = clock::since_boot();
        let rests = matches!(self.progress, Progress::Failed(at) if now < at + RETRY_EVERY);
        if !rests && !self.pending.is_empty() {
            match self.follow_the_path(now) {
                Ok(()) => self.write(),
                Err(error) => self.fail(format!("{error:#}")),
            }
        }
    }

    fn fail(&mut self, error: String) {
        self.progress = Progress::Failed(clock::since_boot());
        self.shared.failed(Some(error));
    }

    /// Writes what is pending, as far as that is possible at once.
    fn write(&mut self) {
        if self.pending.is_empty() {
            self.progress = Progress::Done;
            return;
        }
        self.shared.begin(clock::since_boot());
        let mut result = self.pending.write_to(&mut self.output);
        if self.output.standing(&self.target) == Standing::Removed {
            // Whoever removed it does not find what was written since.
            self.pending.rewind();
            result = Err(io::Error::other("the file was removed"));
        }
        let (records, bytes) = self.pending.settle();
        self.shared.wrote(records, bytes);
        if result.is_err() {
            self.take_back_half_line();
        }
        self.shared.end();
        self.shared.failed(None);
        match result {
            Ok(()) => self.progress = Progress::Done,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.progress = Progress::ReaderWaits;
            }
            Err(error) => self.fail(error.to_string()),
        }
    }

    /// What was written to a FIFO or to stdout is with its reader; in a file, half a line can be undone.
    fn take_back_half_line(&mut self) {
        let half = self.pending.half_line();
        if half > 0 && self.output.cut(half) {
            self.pending.rewind();
        }
    }

    /// Opens the path anew, and keeps the old file if that fails.
    fn reopen(&mut self) -> Result<()> {
        self.shared.begin(clock::since_boot());
        let opened = Output::open(&self.target);
        self.shared.end();
        let output = opened?;
        self.take_back_half_line();
        if output.begins_a_line() {
            self.pending.rewind();
        }
        self.output = output;
        self.moved = None;
        self.told = false;
        Ok(())
    }

    /// What is written is to be found where the path leads. A file that was removed is replaced at once, one
    /// that was moved is written on to for as long as the SIGHUP may take that belongs to a rotation.
    ///
    /// # Errors
    ///
    /// When the file was removed and there can be no other.
    fn follow_the_path(&mut self, now: Duration) -> Result<()> {
        self.shared.begin(now);
        let standing = self.output.standing(&self.target);
        self.shared.end();
        if standing == Standing::Here {
            self.moved = None;
            return Ok(());
        }
        let since = *self.moved.get_or_insert(now);
        let is_removed = standing == Standing::Removed;
        if !is_removed && now.saturating_sub(since) < MOVED_FOR {
            return Ok(());
        }
        match self.reopen() {
            Ok(()) => {
                info!("the records file was moved or removed: writing to a new one");
                Ok(())
            }
            Err(error) if is_removed => Err(error.context("the records file was removed")),
            Err(error) => {
                if !self.told {
                    warn!("the records file was moved, and is written on to: {error:#}");
                }
                self.told = true;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    fn writer(path: &Path) -> Writer {
        Writer::open(Target::File(path.to_owned()), Shared::default()).unwrap()
    }

    #[test]
    fn rotation_moves_a_half_line_whole_to_the_new_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records");
        let rotated = directory.path().join("records.1");
        let mut writer = writer(&path);
        writer.pending.push(b"{\"first\":1}\n");
        writer.write();

        writer.pending.push(b"{\"second\":2}\n");
        writer.pending.begin_with(5, &mut writer.output);
        fs::rename(&path, &rotated).unwrap();
        writer.reopen().unwrap();
        writer.write();
        assert_eq!(fs::read(&rotated).unwrap(), b"{\"first\":1}\n");
        assert_eq!(fs::read(&path).unwrap(), b"{\"second\":2}\n");
    }

    #[test]
    fn what_a_removed_file_took_is_written_to_the_new_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records");
        let mut writer = writer(&path);
        writer.pending.push(b"{\"first\":1}\n");
        fs::remove_file(&path).unwrap();
        writer.write();
        assert!(matches!(writer.progress, Progress::Failed(_)));
        writer.follow_the_path(Duration::ZERO).unwrap();
        writer.write();
        assert_eq!(fs::read(&path).unwrap(), b"{\"first\":1}\n");
        assert_eq!(writer.shared.written(), 1);
    }

    #[test]
    fn a_moved_file_is_written_on_to_until_a_rotation_would_have_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records");
        let moved = directory.path().join("records.1");
        let mut writer = writer(&path);
        fs::rename(&path, &moved).unwrap();
        for (second, line) in [(1, b"1\n"), (10, b"2\n"), (11, b"3\n")] {
            writer.follow_the_path(Duration::from_secs(second)).unwrap();
            writer.pending.push(line);
            writer.write();
        }
        assert_eq!(fs::read(&moved).unwrap(), b"1\n2\n");
        assert_eq!(fs::read(&path).unwrap(), b"3\n");
    }
}
