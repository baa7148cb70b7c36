//! Writes records to a file or to stdout, and survives a full disk, a stuck reader and rotation.
//!
//! In: whole lines. Out: the same lines, whole and in order. What cannot be written waits in memory,
//! up to [`PENDING_MAX`]; beyond that whole records are dropped, and counted. Never blocks on a
//! reader, never ends the daemon, never leaves half a line behind.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Write},
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::{FileExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use tracing::{info, warn};

/// Bytes that wait in memory at most.
const PENDING_MAX: usize = 8 << 20;
/// Between two log lines about the same trouble at least.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);
/// What a pipe takes without blocking once poll(2) calls it writable (PIPE_BUF).
const PIPE_BUF: usize = 4096;

/// Where records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Stdout,
    File(PathBuf),
}

/// The open end of the records.
pub(crate) struct RecordFile {
    target: Target,
    output: Output,
    pending: Pending,
    complained: Option<Duration>,
    /// Records dropped when the last complaint was made.
    lost_told: u64,
}

impl RecordFile {
    /// Opens the file for appending, or creates it for the user and the group (0640).
    pub(crate) fn open(target: Target) -> Result<Self> {
        let output = Output::open(&target)?;
        let pending = Pending::default();
        Ok(Self {
            target,
            output,
            pending,
            complained: None,
            lost_told: 0,
        })
    }

    /// Takes a record in; it is written with the next [`RecordFile::flush`].
    pub(crate) fn push(&mut self, line: &[u8]) {
        self.pending.push(line);
    }

    /// Writes what is pending, as far as that is possible at once.
    pub(crate) fn flush(&mut self, now: Duration) {
        let result = self.pending.write_to(&mut self.output);
        if result.is_err() {
            self.take_back_half_line();
        }
        self.tell(result, now);
    }

    /// Opens the path anew, for it may have been rotated. Keeps the old file if that fails.
    pub(crate) fn reopen(&mut self, now: Duration) {
        self.flush(now);
        match Output::open(&self.target) {
            Ok(output) => {
                self.take_back_half_line();
                self.output = output;
                self.flush(now);
                info!("reopened the records");
            }
            Err(error) => warn!("keeping the old record file: {error:#}"),
        }
    }

    /// Writes what can be written, for the last time.
    pub(crate) fn close(mut self, now: Duration) {
        self.flush(now);
        self.take_back_half_line();
        let records = self.pending.records_waiting;
        if records > 0 {
            warn!(
                records,
                "stopping with records that could not be written: they are lost"
            );
        }
    }

    /// Records written since the start.
    pub(crate) fn written(&self) -> u64 {
        self.pending.records_written
    }

    /// Records dropped since the start.
    pub(crate) fn lost(&self) -> u64 {
        self.pending.records_lost
    }

    /// What was written to stdout is with its reader; in a file, half a line can be undone.
    fn take_back_half_line(&mut self) {
        let half = self.pending.half_line();
        if self.output.is_shared || half == 0 {
            return;
        }
        let file = &self.output.file;
        let is_cut = file
            .metadata()
            .and_then(|now| file.set_len(now.len().saturating_sub(half)))
            .is_ok();
        if is_cut {
            self.pending.rewind();
        }
    }

    fn tell(&mut self, result: io::Result<()>, now: Duration) {
        let waiting = self.pending.records_waiting;
        let lost = self.pending.records_lost - self.lost_told;
        if waiting == 0 {
            self.lost_told += lost;
            if self.complained.take().is_some() || lost > 0 {
                info!(lost, "records are written again");
            }
            return;
        }
        let trouble = result.is_err() || lost > 0;
        if trouble
            && self
                .complained
                .is_none_or(|at| now.saturating_sub(at) >= COMPLAIN_EVERY)
        {
            self.complained = Some(now);
            self.lost_told += lost;
            let error = result.err().map(tracing::field::display);
            warn!(
                error,
                waiting, lost, "cannot write records: they wait in memory, as many as fit"
            );
        }
    }
}

/// Lines on their way out.
#[derive(Default)]
struct Pending {
    lines: Vec<u8>,
    /// How much of `lines` is out: never a whole line, between two calls.
    written: usize,
    records_waiting: u64,
    records_written: u64,
    records_lost: u64,
}

impl Pending {
    fn push(&mut self, line: &[u8]) {
        if self.lines.len() + line.len() > PENDING_MAX {
            self.records_lost += 1;
            return;
        }
        self.lines.extend_from_slice(line);
        self.records_waiting += 1;
    }

    /// Writes until all is out (or would block), or until an error.
    fn write_to(&mut self, output: &mut impl Write) -> io::Result<()> {
        let result = loop {
            if self.written == self.lines.len() {
                break Ok(());
            }
            match output.write(&self.lines[self.written..]) {
                Ok(0) => break Err(ErrorKind::WriteZero.into()),
                Ok(n) => self.written += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        let out = &self.lines[..self.written];
        let whole = out
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1);
        let records = out[..whole].iter().filter(|byte| **byte == b'\n').count() as u64;
        self.records_waiting -= records;
        self.records_written += records;
        self.lines.drain(..whole);
        self.written -= whole;
        result
    }

    /// Bytes of the first line that are out already.
    fn half_line(&self) -> u64 {
        self.written as u64
    }

    /// Starts the first line anew.
    fn rewind(&mut self) {
        self.written = 0;
    }
}

struct Output {
    file: File,
    /// Stdout: other processes may hold it too, so it can be neither made non-blocking nor cut.
    is_shared: bool,
}

impl Output {
    fn open(target: &Target) -> Result<Self> {
        let path = match target {
            Target::Stdout => {
                let stdout = io::stdout()
                    .as_fd()
                    .try_clone_to_owned()
                    .context("duplicate stdout")?;
                return Ok(Self {
                    file: stdout.into(),
                    is_shared: true,
                });
            }
            Target::File(path) => path,
        };
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            // Not to wait for the reader of a FIFO; a regular file takes no notice of it.
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
            .with_context(|| format!("open {} for the records (see --records)", path.display()))?;
        // A daemon that was killed while the disk was full may have left half a line.
        if !ends_with_a_line(path) {
            let _ = (&file).write(b"\n");
        }
        Ok(Self {
            file,
            is_shared: false,
        })
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.is_shared {
            return self.file.write(bytes);
        }
        if !is_writable(&self.file) {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.file.write(&bytes[..bytes.len().min(PIPE_BUF)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Whether the next line would begin one: so it is in an empty file, and in what is no file.
fn ends_with_a_line(path: &Path) -> bool {
    let last = || {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut last = [0];
        file.read_exact_at(&mut last, length.saturating_sub(1))?;
        Ok::<u8, io::Error>(last[0])
    };
    !path.is_file()
        || last().is_ok_and(|byte| byte == b'\n')
        || path.metadata().is_ok_and(|m| m.len() == 0)
}

fn is_writable(file: &File) -> bool {
    let mut poll = libc::pollfd {
        fd: file.as_raw_fd(),
        events: libc::POLLOUT,
        revents: 0,
    };
    // SAFETY: `poll` is one live pollfd, and one is announced; nothing keeps the pointer.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
    ready > 0
}

#[cfg(test)]
mod tests;
