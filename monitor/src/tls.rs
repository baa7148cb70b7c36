//! TLS: where its libraries are, and the kernel's probes at their functions.
//!
//! In: which processes are chosen, and the programs. A thread looks each second at what is new, attaches to it, and
//! detaches what nobody runs any more; nobody waits for it. Out: [`Figures`], and lines in the log. What the probes see is the
//! kernel side's. Without `--tls` nothing of this runs.

mod chosen;
mod files;
mod follower;
mod leave;
mod listing;
mod maps;
mod processes;
mod symbols;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use caps::CapsHashSet;
use tracing::warn;

pub(crate) use self::chosen::Chosen;
use self::follower::Follower;
use crate::{
    clock, privileges,
    probes::{Attached, TlsPrograms},
};

/// Between the beginnings of two looks.
const EVERY: Duration = Duration::from_secs(1);
/// A look that takes long is followed by this many times its length without one, but by no more than that.
const REST: u32 = 4;
const REST_MAX: Duration = Duration::from_secs(5);
/// The start waits for the first look, but no longer than this.
const FIRST_WITHIN: Duration = Duration::from_secs(10);

/// Why a file is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Unsupported {
    /// It lacks a function.
    Symbols,
    /// The kernel does not take a probe there.
    Refused,
    /// This process may not open it.
    Unreadable,
}

impl Unsupported {
    pub(crate) const ALL: [Self; 3] = [Self::Symbols, Self::Refused, Self::Unreadable];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Symbols => "symbols",
            Self::Refused => "refused",
            Self::Unreadable => "unreadable",
        }
    }
}

/// What the thread last found.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    libraries: AtomicU64,
    processes: AtomicU64,
    unsupported: [AtomicU64; 3],
}

impl Figures {
    /// Files that have probes.
    pub(crate) fn libraries(&self) -> u64 {
        self.libraries.load(Relaxed)
    }

    /// Processes that run one of them.
    pub(crate) fn processes(&self) -> u64 {
        self.processes.load(Relaxed)
    }

    /// Files that could not be followed, since the start.
    pub(crate) fn not_followed(&self, why: Unsupported) -> u64 {
        self.unsupported[why as usize].load(Relaxed)
    }

    fn now(&self, libraries: usize, processes: usize) {
        self.libraries.store(libraries as u64, Relaxed);
        self.processes.store(processes as u64, Relaxed);
    }

    fn unreadable(&self, files: u64) {
        self.unsupported[Unsupported::Unreadable as usize].store(files, Relaxed);
    }

    fn unsupported(&self, why: Unsupported) {
        self.unsupported[why as usize].fetch_add(1, Relaxed);
    }
}

/// The thread, until this is dropped.
pub(crate) struct Tls {
    figures: Arc<Figures>,
    /// Nothing comes out of it; the thread ends with it.
    _stop: Sender<()>,
}

impl Tls {
    /// Starts the thread, which keeps these capabilities and no others, and returns when it has looked at everything
    /// once.
    ///
    /// # Errors
    ///
    /// When there can be no thread, or it cannot give up the others.
    pub(crate) fn start(chosen: Chosen, programs: TlsPrograms, kept: CapsHashSet) -> Result<Self> {
        raise_descriptors();
        let figures = Arc::new(Figures::default());
        let told = Arc::clone(&figures);
        let (stop, stopped) = mpsc::channel();
        let (settling, settled) = mpsc::channel();
        let detaching = detacher()?;
        thread::Builder::new()
            .name("tls".to_owned())
            .spawn(move || {
                let reduced = privileges::keep(&kept);
                let is_reduced = reduced.is_ok();
                if settling.send(reduced).is_err() || !is_reduced {
                    return;
                }
                let follower = Follower::new(chosen, programs, told, detaching);
                if let Err(error) = follow(follower, &settling, &stopped) {
                    warn!("TLS is not followed in what starts from now on: {error}");
                }
            })
            .context("start the thread that follows TLS")?;
        let ended = "the thread that follows TLS ended";
        settled.recv().context(ended)??;
        match settled.recv_timeout(FIRST_WITHIN) {
            Ok(first) => first?,
            Err(RecvTimeoutError::Timeout) => {
                warn!("TLS is followed in some processes only, until all have been looked at");
            }
            Err(RecvTimeoutError::Disconnected) => anyhow::bail!(ended),
        }
        Ok(Self {
            figures,
            _stop: stop,
        })
    }

    pub(crate) fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Ends following before the process ends, which need not wait then until the kernel has removed all probes.
    pub(crate) fn leave(self) {
        if let Err(error) = leave::leave() {
            warn!("the end waits until the kernel has removed the probes: {error}");
        }
    }
}

fn follow(
    mut follower: Follower,
    first: &Sender<Result<()>>,
    stopped: &Receiver<()>,
) -> io::Result<()> {
    loop {
        let began = Instant::now();
        follower.look(clock::since_boot())?;
        // Nobody may be waiting any more.
        let _ = first.send(Ok(()));
        let took = began.elapsed();
        let rest = EVERY.saturating_sub(took).max(REST_MAX.min(took * REST));
        match stopped.recv_timeout(rest) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

/// Each probe is a descriptor, and of these as many may be open as the hard limit says. What cannot be raised stays.
fn raise_descriptors() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the first writes `limit`, the second only reads it.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

/// A thread that takes probes away, which keeps whoever does it waiting for the kernel.
fn detacher() -> Result<Sender<Attached>> {
    let (detaching, detached) = mpsc::channel();
    thread::Builder::new()
        .name("tls-detach".to_owned())
        .spawn(move || {
            if let Err(error) = privileges::keep(&CapsHashSet::new()) {
                warn!("a thread keeps capabilities: {error:#}");
            }
            detached.into_iter().for_each(drop);
        })
        .context("start the thread that detaches from TLS")?;
    Ok(detaching)
}
