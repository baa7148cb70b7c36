//! What the daemon itself remembers, in a file that outlives it: the heads of openings, which the kernel tells
//! once, and records that are not written yet.
//!
//! In: facts, each before the event that it came from is taken off the ring buffer. Out: after a restart,
//! what they come to. Not synchronised to a disk: it is to survive the process, not the host. A journal that
//! cannot be written stops nothing; what it lacks is counted.

mod entry;
mod recalled;
mod tail;

use std::{
    borrow::Cow::{Borrowed, Owned},
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Write as _},
    os::{
        fd::AsRawFd as _,
        unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use tracing::{debug, warn};

pub(crate) use self::{
    entry::Entry,
    recalled::{Followed, Recalled},
    tail::without_written,
};

/// The file's beginning; another number when entries change their meaning.
const MAGIC: &[u8; 20] = b"closewatch journal 1";
const FILE: &str = "journal";
/// What takes its place.
const NEXT: &str = "journal.next";
/// Bytes of the file at most. Three quarters are for openings, so that ends always find room: the heads of
/// some 200,000 connections.
const LENGTH_MAX: u64 = 64 << 20;
/// It is not worth a rewrite below this.
const REWRITE_FROM: u64 = 1 << 20;
/// Between two log lines about the same trouble at least.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// Where entries came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    /// The kernel's id of this boot.
    pub(crate) boot: String,
    /// The name of the layout of kernel events.
    pub(crate) layout: String,
}

/// The journal, while this daemon has it.
pub(crate) struct Journal {
    directory: PathBuf,
    /// None when it could not be opened.
    file: Option<File>,
    /// Nobody else has the lock on the directory while this is open.
    _lock: Option<File>,
    length: u64,
    /// After the latest rewrite.
    rewritten: u64,
    length_max: u64,
    buffer: Vec<u8>,
    buffered: u64,
    lost: u64,
    complained: Option<Duration>,
}

impl Journal {
    /// Takes the directory, and makes it if there is none. Returns also what the journal in it comes to.
    ///
    /// # Errors
    ///
    /// Only when another daemon has the directory: all else is told, and goes on without a journal.
    pub(crate) fn open(directory: &Path, origin: Origin) -> Result<(Self, Recalled)> {
        let mut journal = Self {
            directory: directory.to_owned(),
            file: None,
            _lock: None,
            length: 0,
            rewritten: 0,
            length_max: LENGTH_MAX,
            buffer: Vec::new(),
            buffered: 0,
            lost: 0,
            complained: None,
        };
        match take(directory) {
            Ok(lock) => journal._lock = Some(lock),
            Err(error) if error.kind() == ErrorKind::WouldBlock => bail!(
                "another closewatch keeps its journal in {}: stop it, or give --state another directory",
                directory.display()
            ),
            Err(error) => {
                journal.warn_of_none(&error);
                return Ok((journal, Recalled::default()));
            }
        }
        let (mut recalled, sound) = journal.read().unwrap_or_else(|error| {
            warn!("what the journal held is lost: {error:#}");
            (Recalled::default(), 0)
        });
        recalled.take(Entry::Begin(Owned(origin)));
        if let Err(error) = journal
            .rewrite_as(&recalled)
            .or_else(|_| journal.go_on(&recalled, sound))
        {
            journal.warn_of_none(&error);
        }
        Ok((journal, recalled))
    }

    fn warn_of_none(&self, error: &io::Error) {
        warn!(
            directory = %self.directory.display(),
            "no journal: after a restart, connections that are open now lack what their heads said, and what ended just before may have no record: {error} (see --state)"
        );
    }

    /// What the file comes to, and how much of it is sound.
    fn read(&self) -> Result<(Recalled, u64)> {
        let mut recalled = Recalled::default();
        let path = self.directory.join(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok((recalled, 0)),
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        let mut rest = bytes
            .strip_prefix(MAGIC)
            .with_context(|| format!("{} is of another version of closewatch", path.display()))?;
        while let Some((entry, length)) = Entry::decode(rest) {
            recalled.take(entry);
            rest = &rest[length..];
        }
        if !rest.is_empty() {
            warn!(
                bytes = rest.len(),
                path = %path.display(),
                "the journal is damaged: what stands behind the damage is lost"
            );
        }
        Ok((recalled, (bytes.len() - rest.len()) as u64))
    }

    /// Puts a journal that comes to the same in the place of the file.
    fn rewrite_as(&mut self, recalled: &Recalled) -> io::Result<()> {
        let mut bytes = MAGIC.to_vec();
        recalled.encode(&mut bytes);
        let next = self.directory.join(NEXT);
        let write = || {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&next)?;
            file.write_all(&bytes)?;
            fs::rename(&next, self.directory.join(FILE))?;
            Ok(file)
        };
        match write() {
            Ok(file) => {
                self.file = Some(file);
                self.length = bytes.len() as u64;
                self.rewritten = self.length;
                Ok(())
            }
            Err(error) => {
                let _ = fs::remove_file(&next);
                Err(error)
            }
        }
    }

    /// Appends to the file as it is, behind what of it is sound.
    fn go_on(&mut self, recalled: &Recalled, sound: u64) -> io::Result<()> {
        let path = self.directory.join(FILE);
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(sound)?;
        (self.length, self.rewritten) = (sound, sound);
        self.file = Some(file);
        self.note(&Entry::Begin(Borrowed(&recalled.origin)));
        self.commit(Duration::ZERO);
        Ok(())
    }

    /// Notes a fact; it is kept with the next [`Journal::commit`].
    pub(crate) fn note(&mut self, entry: &Entry<'_>) {
        let is_opening = matches!(entry, Entry::Followed { .. });
        if is_opening && self.length > self.length_max / 4 * 3 {
            self.lost += 1;
            return;
        }
        entry.encode(&mut self.buffer);
        self.buffered += 1;
    }

    /// Writes what was noted. From here on it outlives this process.
    pub(crate) fn commit(&mut self, now: Duration) {
        if self.buffer.is_empty() {
            return;
        }
        let grown = self.length - self.rewritten;
        let is_crowded = self.length > self.length_max / 4 * 3 && grown > self.length_max / 16;
        if is_crowded || (self.length >= REWRITE_FROM && grown >= self.rewritten) {
            self.rewrite(now);
        }
        let result = self.append();
        self.buffer.clear();
        let entries = std::mem::take(&mut self.buffered);
        if let Err(error) = result {
            self.lost += entries;
            self.complain(&error, now);
        }
    }

    fn append(&mut self) -> io::Result<()> {
        let file = self.file.as_ref().ok_or(ErrorKind::NotFound)?;
        let length = self.length + self.buffer.len() as u64;
        if length > self.length_max {
            return Err(ErrorKind::FileTooLarge.into());
        }
        // Half an entry that is left by an error is written over by the next.
        file.write_all_at(&self.buffer, self.length)?;
        self.length = length;
        Ok(())
    }

    /// Leaves out what is done.
    fn rewrite(&mut self, now: Duration) {
        let before = self.length;
        let result = self
            .read()
            .and_then(|(recalled, _)| self.rewrite_as(&recalled).context("write it anew"));
        match result {
            Ok(()) => debug!(before, after = self.length, "journal rewritten"),
            // It is tried again when it has doubled.
            Err(error) => {
                self.rewritten = self.length;
                self.complain(&io::Error::other(format!("{error:#}")), now);
            }
        }
    }

    fn complain(&mut self, error: &io::Error, now: Duration) {
        let due = |at: Duration| now.saturating_sub(at) >= COMPLAIN_EVERY;
        if self.file.is_some() && self.complained.is_none_or(due) {
            self.complained = Some(now);
            warn!(
                lost = self.lost,
                "the journal cannot be written: a restart would lose what it lacks: {error}"
            );
        }
    }

    /// Facts that it did not take.
    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }
}

/// Removes the journal of a directory. Returns whether there was one.
///
/// # Errors
///
/// When a daemon has it, or it cannot be removed.
pub(crate) fn remove(directory: &Path) -> Result<bool> {
    let path = directory.join(FILE);
    if !path.exists() {
        return Ok(false);
    }
    let _lock = take(directory)
        .with_context(|| format!("take {} (does a closewatch use it?)", directory.display()))?;
    fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
    Ok(true)
}

/// Takes the directory, as long as the file is open; `WouldBlock` when another has it.
fn take(directory: &Path) -> io::Result<File> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let file = File::open(directory)?;
    // SAFETY: takes a descriptor that is open, and no memory of ours.
    let locked = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
    if locked != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file)
}

#[cfg(test)]
mod tests;
