//! closewatch's programs at the functions of TLS libraries: how often each ran and for how long, and whether another
//! daemon has such programs on this machine, which would be measured as well.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    io::Error,
    os::fd::{AsRawFd as _, OwnedFd},
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::bench::{
    Bench,
    bpf::{BPF_PROG_GET_FD_BY_ID, ById, Runs, bpf, open, runs},
};

// Kernel: include/uapi/linux/bpf.h.
const BPF_PROG_GET_NEXT_ID: libc::c_long = 11;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;

/// For other daemons of this machine to end.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the names of these programs begin with.
const PREFIX: &str = "tls_";
/// The functions that a program of the user calls for its data: `SSL_read` and its kin.
const CALLS: [&str; 4] = ["tls_read", "tls_read_ex", "tls_write", "tls_write_ex"];
const BIO_WRITE: &str = "tls_bio_write";

/// Those of one daemon.
pub(super) struct Probes(Vec<Probe>);

struct Probe {
    id: u32,
    name: String,
    program: OwnedFd,
}

/// What ran between two moments, by name.
pub(super) struct Ran(BTreeMap<String, Runs>);

/// Kernel: the beginning of `struct bpf_prog_info`, of which it fills as much as there is room for.
#[repr(C)]
struct Info {
    before: [u64; 8],
    name: [u8; 16],
}

#[repr(C)]
struct InfoByFd {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

impl Probes {
    pub(super) fn none() -> Self {
        Self(Vec::new())
    }

    /// Those that a process holds.
    pub(super) fn of(process: u32) -> Result<Self> {
        let mut held = HashSet::new();
        for fact in fs::read_dir(format!("/proc/{process}/fdinfo"))? {
            let facts = fs::read_to_string(fact?.path()).unwrap_or_default();
            let id = facts.lines().find_map(|line| line.strip_prefix("prog_id:"));
            held.extend(id.and_then(|id| id.trim().parse::<u32>().ok()));
        }
        let mut probes = all()?;
        probes.retain(|probe| held.contains(&probe.id));
        Ok(Self(probes))
    }

    pub(super) fn runs(&self) -> Result<BTreeMap<String, Runs>> {
        let runs = |probe: &Probe| Ok((probe.name.clone(), runs(&probe.program)?));
        self.0.iter().map(runs).collect()
    }

    /// What ran since.
    pub(super) fn since(&self, before: &BTreeMap<String, Runs>) -> Result<Ran> {
        let mut ran = self.runs()?;
        for (name, runs) in &mut ran {
            let before = before.get(name).context("programs stay what they are")?;
            runs.count -= before.count;
            runs.nanoseconds -= before.nanoseconds;
        }
        Ok(Ran(ran))
    }

    /// Whether others' are on this machine, too; also those of a daemon that ended, which the kernel takes its time to
    /// remove.
    fn are_alone(&self) -> Result<bool> {
        let own: HashSet<_> = self.0.iter().map(|probe| probe.id).collect();
        Ok(all()?.iter().all(|probe| own.contains(&probe.id)))
    }

    /// Does something while nobody else has such programs here, again if that was not so; not for ever.
    pub(super) fn undisturbed<T>(
        &self,
        bench: &Bench,
        mut work: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        let Some(tries) = bench.size.choose(None, Some(20)) else {
            // Its figures mean nothing.
            return work();
        };
        for _ in 0..tries {
            let is_alone = || Ok(self.are_alone()?.then_some(()));
            if bench.interrupt.wait(PATIENCE, is_alone)?.is_none() {
                break;
            }
            let done = work()?;
            if self.are_alone()? {
                return Ok(done);
            }
        }
        println!(
            "another daemon followed TLS on this machine: its probes are in a figure of one turn"
        );
        work()
    }
}

impl Ran {
    fn count(&self, name: &str) -> u64 {
        self.0.get(name).map_or(0, |runs| runs.count)
    }

    /// Calls of `SSL_read`, `SSL_write` and their kin.
    pub(super) fn calls(&self) -> u64 {
        CALLS.iter().map(|name| self.count(name)).sum()
    }

    pub(super) fn bio_writes(&self) -> u64 {
        self.count(BIO_WRITE)
    }

    /// Of all of them together.
    pub(super) fn nanoseconds(&self) -> u64 {
        self.0.values().map(|runs| runs.nanoseconds).sum()
    }

    pub(super) fn runs(&self) -> u64 {
        self.0.values().map(|runs| runs.count).sum()
    }

    /// ns a run of each that ran at least so often.
    pub(super) fn each(&self, least: u64) -> impl Iterator<Item = (&str, f64)> {
        let often = self.0.iter().filter(move |(_, runs)| runs.count >= least);
        often.map(|(name, runs)| {
            let of_a_run = runs.nanoseconds as f64 / runs.count as f64;
            (name.as_str(), of_a_run)
        })
    }
}

/// All that there are on this machine, whoever's.
fn all() -> Result<Vec<Probe>> {
    let mut probes = Vec::new();
    let mut id = 0;
    while let Some(next) = behind(id)? {
        id = next;
        // SAFETY: the attributes of this command, which hold no pointer.
        let Ok(program) = (unsafe { open(BPF_PROG_GET_FD_BY_ID, &ById::new(id)) }) else {
            // It was removed just now.
            continue;
        };
        let name = name(&program)?;
        if name.starts_with(PREFIX) {
            probes.push(Probe { id, name, program });
        }
    }
    Ok(probes)
}

/// The number of the next program.
fn behind(id: u32) -> Result<Option<u32>> {
    let mut by_id = ById::new(id);
    // SAFETY: the attributes of this command, which hold no pointer; the kernel writes the next number to them.
    match unsafe { bpf(BPF_PROG_GET_NEXT_ID, &raw mut by_id) } {
        Ok(_) => Ok(Some(by_id.next())),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error).context("go through the kernel's BPF programs"),
    }
}

fn name(program: &OwnedFd) -> Result<String, Error> {
    let mut info = Info {
        before: [0; 8],
        name: [0; 16],
    };
    let by_fd = InfoByFd {
        bpf_fd: program.as_raw_fd().cast_unsigned(),
        info_len: size_of::<Info>() as u32,
        info: (&raw mut info) as u64,
    };
    // SAFETY: the attributes of this command; `info` has the size that they say, and outlives the call.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &raw const by_fd) }?;
    let name = info.name.split(|&byte| byte == 0).next();
    Ok(String::from_utf8_lossy(name.unwrap_or_default()).into_owned())
}
