//! The kernel side as the daemon sees it.
//!
//! The object is embedded in the binary. [`load`] puts it into the kernel, [`attach`] ties its programs to
//! their hooks, [`variant`] says which programs those are on this kernel, [`iterators`] ask the kernel as a whole, [`syscalls`] is what aya lacks. Dropping
//! [`Probes`] detaches everything and leaves nothing in the kernel.

mod attach;
mod iterators;
mod load;
mod syscalls;
mod variant;

use std::{
    fs,
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, Result};
use aya::{Ebpf, maps::PerCpuArray};
use monitor_ebpf::counter::Counter;
use tracing::info;

pub(crate) use self::variant::Ends;
use self::variant::TRACEPOINT;
use crate::events::Events;

/// The loaded kernel side.
pub(crate) struct Probes {
    ebpf: Ebpf,
    /// How the end of a socket is seen.
    ends: Ends,
    /// What is watched.
    cgroup: PathBuf,
    /// Its hooks, by the names of their programs; they end with these descriptors, or with the cgroup.
    links: Vec<(&'static str, OwnedFd)>,
}

impl Probes {
    /// Loads every program and attaches the hooks, the socket's end first, so that no connection is
    /// ever begun whose end would not be seen.
    ///
    /// # Errors
    ///
    /// When the kernel refuses a map, a program or an attachment: the message names which.
    pub(crate) fn attach(cgroup: &Path) -> Result<(Self, Events)> {
        let started = Instant::now();
        let mut probes = Self::load()?;
        probes.attach_to_tracepoint()?;
        cgroup.clone_into(&mut probes.cgroup);
        probes.attach_to_cgroup()?;
        let ring = probes
            .ebpf
            .take_map("EVENTS")
            .context("the object has no map EVENTS")?;
        let events = Events::open(ring)?;
        info!(
            cgroup = %cgroup.display(),
            milliseconds = started.elapsed().as_millis(),
            ends = %probes.ends,
            "probes attached"
        );
        Ok((probes, events))
    }

    /// How the end of a socket is seen on this kernel.
    pub(crate) fn ends(&self) -> Ends {
        self.ends
    }

    /// What the kernel side could not see since it was loaded.
    ///
    /// # Errors
    ///
    /// When the kernel does not hand out the map of counters.
    pub(crate) fn counters(&self) -> Result<Vec<(Counter, u64)>> {
        let map = self
            .ebpf
            .map("COUNTS")
            .context("the object has no map COUNTS")?;
        let counts: PerCpuArray<_, u64> = map.try_into().context("COUNTS is of another kind")?;
        let mut counters = Vec::with_capacity(Counter::ALL.len());
        for counter in Counter::ALL {
            let values = counts
                .get(&counter.index(), 0)
                .context("read the counters")?;
            counters.push((counter, values.iter().sum()));
        }
        Ok(counters)
    }

    /// How often the kernel skipped the tracepoint's second program: at least as often as it skipped
    /// both, and an end was missed. Callbacks are not skipped, nor is anything before Linux 5.12.
    ///
    /// # Errors
    ///
    /// When what the kernel says of the program cannot be read.
    pub(crate) fn skipped(&self) -> Result<u64> {
        if self.ends == Ends::Callbacks {
            return Ok(0);
        }
        let fd = self.descriptor(TRACEPOINT[1].0)?.as_raw_fd();
        let facts = fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))
            .context("read what the kernel says of a program")?;
        let misses = facts
            .lines()
            .find_map(|line| line.strip_prefix("recursion_misses:"));
        misses.map_or(Ok(0), |misses| {
            let misses = misses.trim().parse();
            misses.context("read how often the kernel skipped a program")
        })
    }
}
