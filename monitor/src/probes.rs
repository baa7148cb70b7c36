//! The kernel side as the daemon sees it.
//!
//! The object is embedded in the binary. [`load`] puts it into the kernel, [`attach`] ties its programs to
//! their hooks, [`variant`] says which programs those are on this kernel, [`iterators`] ask the kernel as a whole, [`syscalls`] is what aya lacks. Dropping
//! [`Probes`] detaches everything and leaves nothing in the kernel, but for what is pinned ([`pin`], under a
//! name that [`layout`] gives), with which the next daemon goes on.

mod attach;
mod iterators;
mod layout;
mod load;
mod perf;
mod pin;
mod returns;
mod sessions;
mod syscalls;
mod types;
mod uprobes;
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

use self::variant::TRACEPOINT;
pub(crate) use self::{
    iterators::{List, Listed},
    load::Rejected,
    perf::{has_uprobes, try_uprobe},
    pin::{Pins, Removed, unpin},
    returns::are_filtered as returns_are_filtered,
    uprobes::{Attached, Function, TlsPrograms},
    variant::Ends,
};
use crate::events::{Events, unread};

/// The loaded kernel side.
pub(crate) struct Probes {
    ebpf: Ebpf,
    /// How the end of a socket is seen.
    ends: Ends,
    /// What is watched.
    cgroup: PathBuf,
    /// Its hooks, by the names of their programs; they end with these descriptors, if they
    /// are not pinned, or with the cgroup.
    links: Vec<(&'static str, OwnedFd)>,
    /// The id of the cgroup that the hooks were attached to last.
    watched: Option<u64>,
    pins: Option<Pins>,
}

/// What was in the kernel before this daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Before {
    /// Maps of this layout, and what they remember.
    pub(crate) remembered: bool,
    /// Every hook: nothing was missed.
    pub(crate) attached: bool,
    /// Pins of another layout, which are gone now; with so many events that nobody had read.
    pub(crate) other: Option<usize>,
}

impl Probes {
    /// Loads every program and attaches the hooks; those for TLS, where they are wanted, are attached by whoever finds
    /// its libraries. With pins this goes on with what is pinned, and pins what is not.
    ///
    /// # Errors
    ///
    /// When the kernel refuses a map, a program or an attachment: the message names which.
    pub(crate) fn attach(
        cgroup: &Path,
        pins: Option<Pins>,
        tls: bool,
    ) -> Result<(Self, Events, Before)> {
        let started = Instant::now();
        let mut before = Before {
            remembered: pins.as_ref().is_some_and(Pins::has_maps),
            ..Before::default()
        };
        let mut probes = Self::load(pins, tls)?;
        cgroup.clone_into(&mut probes.cgroup);
        before.attached = probes.attach_hooks()? && before.remembered;
        before.other = probes.remove_other_layouts()?;
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
        Ok((probes, events, before))
    }

    /// Removes what daemons with other layouts have pinned, once this one sees everything. Returns how many
    /// events were still to be read there, if there was anything.
    fn remove_other_layouts(&self) -> Result<Option<usize>> {
        let Some(pins) = &self.pins else {
            return Ok(None);
        };
        let mut events = None;
        for directory in pins.others()? {
            let unread = unread(&directory.join("EVENTS")).unwrap_or(0);
            pin::remove_layout(&directory)?;
            *events.get_or_insert(0) += unread;
        }
        Ok(events)
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

    /// How often each of these was counted.
    ///
    /// # Errors
    ///
    /// As [`Probes::counters`].
    pub(crate) fn counted<const N: usize>(&self, wanted: [Counter; N]) -> Result<[u64; N]> {
        let counters = self.counters()?;
        Ok(wanted.map(|counter| {
            let of_it = counters.iter().filter(|(other, _)| *other == counter);
            of_it.map(|(_, count)| count).sum()
        }))
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
