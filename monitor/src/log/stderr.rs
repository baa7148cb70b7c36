//! The way of the log's lines to stderr.
//!
//! In: lines from any thread. Out: the same lines, from a thread of its own, for whoever reads them may be slow,
//! stuck or gone, and the loop waits for nobody. What finds [`LINES_MAX`] lines waiting is dropped and counted.

use std::{
    io::{self, Write},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use caps::CapsHashSet;
use tracing::warn;
use tracing_subscriber::fmt::MakeWriter;

use crate::privileges;

/// Lines that wait for their reader at most.
const LINES_MAX: usize = 4096;
/// The last lines are waited for this long.
const FLUSH_WITHIN: Duration = Duration::from_millis(100);

/// A process has one log, as it has one stderr.
static LOG: OnceLock<SyncSender<Line>> = OnceLock::new();
static LOST: AtomicU64 = AtomicU64::new(0);

/// The lines that were lost since the start.
pub(crate) fn lost() -> u64 {
    LOST.load(Relaxed)
}

enum Line {
    Text(Vec<u8>),
    /// Told when all before it is written.
    Flush(mpsc::Sender<()>),
}

/// Where lines are to be written from now on.
///
/// # Errors
///
/// When there can be no thread.
pub(super) fn lines() -> Result<Lines> {
    let sender = start(io::stderr())?;
    Ok(Lines(LOG.get_or_init(|| sender).clone()))
}

/// Waits until the last lines are written, for as long as their reader may well take.
pub(crate) fn flush() {
    let (flushed, written) = mpsc::channel();
    if let Some(log) = LOG.get()
        && log.try_send(Line::Flush(flushed)).is_ok()
    {
        let _ = written.recv_timeout(FLUSH_WITHIN);
    }
}

fn start(output: impl Write + Send + 'static) -> Result<SyncSender<Line>> {
    let (sender, lines) = mpsc::sync_channel(LINES_MAX);
    thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || {
            // Where the kernel refuses this, it refuses it to the loop as well, which says so and ends.
            let _ = privileges::bound().and_then(|()| privileges::keep(&CapsHashSet::new()));
            write(&lines, output);
        })
        .context("start the thread that writes the log")?;
    Ok(sender)
}

fn write(lines: &Receiver<Line>, mut output: impl Write) {
    let mut told = 0;
    for line in lines {
        let text = match line {
            Line::Text(text) => text,
            Line::Flush(flushed) => {
                let _ = flushed.send(());
                continue;
            }
        };
        if output.write_all(&text).is_err() {
            LOST.fetch_add(1, Relaxed);
            continue;
        }
        let lost = lost();
        if lost > told {
            warn!(
                lines = lost - told,
                "log lines were lost: whoever reads the log was too slow, or away"
            );
            told = lost;
        }
    }
}

pub(super) struct Lines(SyncSender<Line>);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

impl Write for &Lines {
    /// One line: the subscriber writes each in one piece.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.0.try_send(Line::Text(line.to_vec())).is_err() {
            LOST.fetch_add(1, Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    /// All in one test, because what is lost is counted for the whole process.
    #[test]
    fn nobody_waits_for_who_reads_the_log() {
        let (output, reader) = UnixStream::pair().unwrap();
        let mut lines = &Lines(start(output).unwrap());
        let line = [b'x'; 1000];
        let before = lost();
        // Many more than wait, than the socket takes, and than are written meanwhile.
        for _ in 0..4 * LINES_MAX {
            lines.write_all(&line).unwrap();
        }
        let stuck = lost() - before;
        assert!(stuck >= 2 * LINES_MAX as u64, "{stuck} lines are lost");

        drop(reader);
        let (flushed, written) = mpsc::channel();
        lines.0.send(Line::Flush(flushed)).unwrap();
        written.recv().unwrap();
        assert!(lost() > before + stuck, "lines without a reader are lost");
    }
}
