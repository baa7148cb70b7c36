//! The open end of the records: a file, a FIFO, a device, or stdout.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Write},
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    },
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result};
use tracing::warn;

use super::Target;

/// What a pipe takes without blocking once poll(2) calls it writable (PIPE_BUF).
const PIPE_BUF: usize = 4096;
/// No record is longer.
const LINE_MAX: u64 = 64 << 10;
/// What every record begins with.
const BEGINNING: &[u8] = br#"{"schema":"#;

pub(super) struct Output {
    file: File,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It can be cut.
    Regular,
    /// A FIFO or a device: what was written is with its reader.
    Special,
    /// Other processes may hold it too, so it can be neither made non-blocking nor cut.
    Stdout,
}

/// Where the path leads that was opened once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// To the open file; or there is no path.
    Here,
    /// Elsewhere or nowhere: the open file was moved, or its disk is not mounted there any more.
    Moved,
    /// The open file was removed: nobody will read what is written to it.
    Removed,
}

impl Output {
    pub(super) fn open(target: &Target) -> Result<Self> {
        let path = match target {
            Target::Stdout => {
                let stdout = io::stdout()
                    .as_fd()
                    .try_clone_to_owned()
                    .context("duplicate stdout")?;
                return Ok(Self {
                    file: stdout.into(),
                    kind: Kind::Stdout,
                });
            }
            Target::File(path) => path,
        };
        let open = || format!("open {} for the records (see --records)", path.display());
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            // Not to wait for the reader of a FIFO; a regular file takes no notice of it.
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
            .with_context(open)?;
        let is_regular = file.metadata().with_context(open)?.is_file();
        if is_regular {
            mend_end(path, &file);
        }
        Ok(Self {
            file,
            kind: if is_regular {
                Kind::Regular
            } else {
                Kind::Special
            },
        })
    }

    /// Whether what is written first after opening begins a line.
    pub(super) fn begins_a_line(&self) -> bool {
        self.kind == Kind::Regular
    }

    /// Removes the last bytes again. Returns false when they have to stay.
    pub(super) fn cut(&self, bytes: u64) -> bool {
        let cut = || {
            let length = self.file.metadata()?.len();
            self.file.set_len(length.saturating_sub(bytes))
        };
        self.kind == Kind::Regular && cut().is_ok()
    }

    /// Whether what is written now will be found by who looks where it was opened.
    pub(super) fn standing(&self, target: &Target) -> Standing {
        let (Target::File(path), Kind::Regular) = (target, self.kind) else {
            return Standing::Here;
        };
        let Ok(open) = self.file.metadata() else {
            return Standing::Here;
        };
        if open.nlink() == 0 {
            return Standing::Removed;
        }
        let same =
            |there: &std::fs::Metadata| (there.dev(), there.ino()) == (open.dev(), open.ino());
        if path.metadata().is_ok_and(|there| same(&there)) {
            Standing::Here
        } else {
            Standing::Moved
        }
    }

    /// Waits until a write would not block.
    pub(super) fn await_writable(&self, patience: Duration) -> bool {
        let mut poll = libc::pollfd {
            fd: self.file.as_raw_fd(),
            events: libc::POLLOUT,
            revents: 0,
        };
        let milliseconds = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: `poll` is one live pollfd, and one is announced; nothing keeps the pointer.
        let ready = unsafe { libc::poll(&raw mut poll, 1, milliseconds) };
        ready > 0
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.kind != Kind::Stdout {
            return self.file.write(bytes);
        }
        if !self.await_writable(Duration::ZERO) {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.file.write(&bytes[..bytes.len().min(PIPE_BUF)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Has the next line begin one: a daemon that was killed while it wrote may have left half a record, which is
/// taken away. Anything else is not ours, and gets its newline.
fn mend_end(path: &Path, file: &File) {
    let Ok(tail) = last_line(path) else {
        let _ = { file }.write(b"\n");
        return;
    };
    if tail.is_empty() {
        return;
    }
    let begins = tail.len().min(BEGINNING.len());
    let is_cut = tail[..begins] == BEGINNING[..begins]
        && file
            .metadata()
            .and_then(|now| file.set_len(now.len() - tail.len() as u64))
            .is_ok();
    if is_cut {
        warn!(
            bytes = tail.len(),
            "took half a record away that a daemon had left when it was killed"
        );
    } else {
        let _ = { file }.write(b"\n");
    }
}

/// What comes after the last newline, or the last bytes of it.
fn last_line(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut bytes = vec![0; length.min(LINE_MAX) as usize];
    let from = length - bytes.len() as u64;
    file.read_exact_at(&mut bytes, from)?;
    let newline = bytes.iter().rposition(|byte| *byte == b'\n');
    Ok(bytes.split_off(newline.map_or(0, |at| at + 1)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_next_line_begins_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records");
        let whole = "{\"schema\":1}\n";
        for (left, kept) in [
            (String::new(), ""),
            (whole.to_owned(), whole),
            (format!("{whole}{{\"schema\":1,\"opened"), whole),
            (format!("{whole}{{\"sch"), whole),
            ("{\"schema\":1,".to_owned(), ""),
            ("someone's last words".to_owned(), "someone's last words\n"),
        ] {
            fs::write(&path, left).unwrap();
            Output::open(&Target::File(path.clone())).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), kept);
        }
    }

    #[test]
    fn a_file_that_moved_or_is_gone_is_known() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records");
        let moved = directory.path().join("records.1");
        let target = Target::File(path.clone());
        let output = Output::open(&target).unwrap();
        assert_eq!(output.standing(&target), Standing::Here);
        fs::rename(&path, &moved).unwrap();
        assert_eq!(output.standing(&target), Standing::Moved);
        fs::write(&path, "").unwrap();
        assert_eq!(output.standing(&target), Standing::Moved);
        fs::remove_file(&moved).unwrap();
        assert_eq!(output.standing(&target), Standing::Removed);
        let device = Target::File("/dev/null".into());
        let output = Output::open(&device).unwrap();
        assert_eq!(output.standing(&device), Standing::Here);
    }
}
