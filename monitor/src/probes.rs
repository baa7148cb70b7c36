//! Loads the kernel side and attaches it.
//!
//! The object is embedded in the binary. Dropping [`Probes`] detaches everything and leaves nothing
//! in the kernel.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read as _, Result as IoResult},
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    ptr,
    time::Instant,
};

use anyhow::{Context as _, Result, anyhow};
use aya::{
    Btf, Ebpf, EbpfLoader, Pod, VerifierLogLevel, include_bytes_aligned,
    maps::{Array, Map, PerCpuArray},
    programs::{BtfTracePoint, CgroupSkb, Iter, Program, ProgramError},
};
use monitor_ebpf::{
    counter::Counter,
    event::{Event, Snapshot},
    socket::Socket,
};
use tracing::{debug, info};

use crate::events::Events;

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/closewatch-ebpf"));

/// The hooks that carry events, by the names of their programs.
pub(crate) const PROBES: [&str; 4] = [OF_CGROUP[0].0, OF_CGROUP[1].0, STATE[0], STATE[1]];

/// Those of the cgroup, and `BPF_CGROUP_INET_EGRESS` and `BPF_CGROUP_INET_INGRESS`.
const OF_CGROUP: [(&str, u32); 2] = [("observe_egress", 1), ("observe_ingress", 0)];

/// The tracepoint's two programs: the second runs where the kernel skips the first.
const STATE: [&str; 2] = ["observe_state", "observe_state_nested"];

/// The loaded kernel side.
pub(crate) struct Probes {
    ebpf: Ebpf,
    /// What is watched.
    cgroup: PathBuf,
    /// Its hooks, as in [`OF_CGROUP`]; they end with these descriptors, or with the cgroup.
    links: Vec<OwnedFd>,
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
        for name in STATE {
            let program: &mut BtfTracePoint = probes.program(name)?;
            program
                .attach()
                .with_context(|| format!("attach {name} to inet_sock_set_state"))?;
        }
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
            "probes attached"
        );
        Ok((probes, events))
    }

    /// Attaches the hooks of the cgroup to what has its path now.
    ///
    /// # Errors
    ///
    /// When there is none, or the kernel refuses.
    pub(crate) fn attach_to_cgroup(&mut self) -> Result<()> {
        let cgroup = self.cgroup.display();
        let file = File::open(&self.cgroup).with_context(|| format!("open the cgroup {cgroup}"))?;
        let mut links = Vec::new();
        for (name, attach_type) in OF_CGROUP {
            let create = LinkCreate {
                prog_fd: self.descriptor(name)?.as_raw_fd().cast_unsigned(),
                target_fd: file.as_raw_fd().cast_unsigned(),
                attach_type,
                ..LinkCreate::default()
            };
            // SAFETY: the attributes of this command, which hold no pointer.
            let link = unsafe { bpf(BPF_LINK_CREATE, &create) };
            links.push(link.with_context(|| format!("attach {name} to the cgroup {cgroup}"))?);
        }
        self.links = links;
        Ok(())
    }

    /// Whether each of [`PROBES`] is attached. The tracepoint's are as long as this lives. Those of the cgroup
    /// go with it, and a service gets a new one of the same path when it restarts.
    pub(crate) fn attached(&self) -> [(&'static str, bool); PROBES.len()] {
        PROBES.map(|name| {
            let place = OF_CGROUP
                .iter()
                .position(|(of_cgroup, _)| *of_cgroup == name);
            let link = place.and_then(|place| self.links.get(place));
            (name, link.is_none_or(is_attached))
        })
    }

    /// Loads every program, so that the verifier judges it, and attaches none.
    ///
    /// # Errors
    ///
    /// As [`Probes::attach`].
    pub(crate) fn load() -> Result<Self> {
        let btf = Btf::from_sys_fs().context("read the kernel's types (BTF)")?;
        let ebpf = EbpfLoader::new()
            .btf(Some(&btf))
            .verifier_log_level(VerifierLogLevel::STATS)
            .load(OBJECT)
            .context("create the maps of the kernel side")?;
        let mut probes = Self {
            ebpf,
            cgroup: PathBuf::new(),
            links: Vec::new(),
        };
        for (name, _) in OF_CGROUP {
            probes.load_one::<CgroupSkb>(name, CgroupSkb::load)?;
        }
        for name in STATE {
            probes.load_one::<BtfTracePoint>(name, |program| {
                program.load("inet_sock_set_state", &btf)
            })?;
        }
        probes.load_one::<Iter>("list_sockets", |program| {
            program.load("bpf_sk_storage_map", &btf)
        })?;
        probes.load_one::<Iter>("find_candidates", |program| program.load("task_file", &btf))?;
        Ok(probes)
    }

    fn load_one<'a, P>(
        &'a mut self,
        name: &str,
        load: impl FnOnce(&mut P) -> Result<(), ProgramError>,
    ) -> Result<()>
    where
        P: 'a,
        &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
    {
        let started = Instant::now();
        let program: &'a mut P = self.program(name)?;
        load(program).with_context(|| format!("load the program {name}"))?;
        debug!(name, elapsed = ?started.elapsed(), "program verified");
        Ok(())
    }

    fn program<'a, P>(&'a mut self, name: &str) -> Result<&'a mut P>
    where
        &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
    {
        let program = self.ebpf.program_mut(name);
        let program = program.ok_or_else(|| anyhow!("the object has no program {name}"))?;
        program
            .try_into()
            .with_context(|| format!("{name} is of another kind"))
    }

    /// For every program: its name, the instructions that the verifier went through, when the
    /// kernel tells (5.16).
    pub(crate) fn verified(&self) -> Vec<(String, Option<u32>)> {
        let count = |program: &Program| program.info().ok()?.verified_instruction_count();
        let programs = self.ebpf.programs();
        programs
            .map(|(name, program)| (name.to_owned(), count(program)))
            .collect()
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
    /// both, and an end was missed.
    ///
    /// # Errors
    ///
    /// When the kernel does not say (it does from 5.12 on).
    pub(crate) fn skipped(&self) -> Result<u64> {
        let program = self.ebpf.program(STATE[1]);
        let program = program.context("the object has no second program for the tracepoint")?;
        let fd = program.fd()?.as_fd().as_raw_fd();
        let facts = fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))
            .context("read what the kernel says of a program")?;
        let misses = facts
            .lines()
            .find_map(|line| line.strip_prefix("recursion_misses:"));
        misses
            .and_then(|misses| misses.trim().parse().ok())
            .context("the kernel does not say how often it skipped a program")
    }

    /// Watches all TCP connections that are open already, in all network namespaces, for frames of a
    /// WebSocket. Those that some process holds are found: not one that waits to be accepted.
    ///
    /// # Errors
    ///
    /// When the kernel refuses the iteration.
    pub(crate) fn find_candidates(&mut self) -> Result<()> {
        let started = Instant::now();
        let map = self
            .ebpf
            .map_mut("CANDIDATE")
            .context("the object has no map CANDIDATE")?;
        let mut map: Array<_, Value> = map.try_into().context("CANDIDATE is of another kind")?;
        map.set(0, Value(Socket::candidate()), 0)
            .context("set what a candidate begins as")?;
        let mut file = iterate(self.descriptor("find_candidates")?, None)
            .context("list the open connections")?;
        // Nothing is written, so this reads nothing; after a million files the kernel asks for a new call.
        let mut nothing = Vec::new();
        while let Err(error) = file.read_to_end(&mut nothing) {
            if error.kind() != ErrorKind::WouldBlock {
                return Err(error).context("list the open connections");
            }
        }
        debug!(elapsed = ?started.elapsed(), "open connections listed");
        Ok(())
    }

    fn descriptor(&self, name: &str) -> Result<BorrowedFd<'_>> {
        let program = self.ebpf.program(name);
        let program = program.ok_or_else(|| anyhow!("the object has no program {name}"))?;
        let fd = program
            .fd()
            .with_context(|| format!("{name} is not loaded"))?;
        Ok(fd.as_fd())
    }

    /// Every WebSocket that the kernel side follows, in all network namespaces.
    ///
    /// # Errors
    ///
    /// When the kernel refuses the iteration.
    pub(crate) fn list(&self) -> Result<Vec<Snapshot>> {
        let Some(Map::SkStorage(sockets)) = self.ebpf.map("SOCKETS") else {
            return Err(anyhow!("the object has no map SOCKETS"));
        };
        let program = self.descriptor("list_sockets")?;
        let mut file = iterate(program, Some(sockets.fd().as_fd())).context("list the sockets")?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).context("list the sockets")?;
        let records = bytes.chunks_exact(size_of::<Socket>());
        Ok(records
            .filter_map(|bytes| Event::decode(bytes).ok())
            .map(|event| event.snapshot)
            .collect())
    }
}

/// A socket as a map's value.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Value(Socket);

// SAFETY: a `Socket` is plain integers without padding (`IntoBytes`).
unsafe impl Pod for Value {}

// Kernel: include/uapi/linux/bpf.h.
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_ITER_CREATE: libc::c_long = 33;
const BPF_TRACE_ITER: u32 = 28;

/// The part of `union bpf_attr` for BPF_LINK_CREATE, of an iterator where the kinds differ.
#[derive(Default)]
#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
    iter_info: u64,
    iter_info_len: u32,
    reserved: u32,
}

/// The part of `union bpf_attr` for BPF_ITER_CREATE.
#[repr(C)]
struct IterCreate {
    link_fd: u32,
    flags: u32,
}

/// Whether a link to a cgroup is attached: the kernel says cgroup 0 of one that is not any more.
fn is_attached(link: &OwnedFd) -> bool {
    let facts = fs::read_to_string(format!("/proc/self/fdinfo/{}", link.as_raw_fd()));
    let is_gone = |line: &str| {
        line.strip_prefix("cgroup_id:")
            .is_some_and(|id| id.trim() == "0")
    };
    !facts.unwrap_or_default().lines().any(is_gone)
}

/// A file that runs an iterator when it is read, over the values of a map if there is one. aya 0.14 links
/// iterators without telling them a map.
fn iterate(program: BorrowedFd<'_>, map: Option<BorrowedFd<'_>>) -> IoResult<File> {
    let map_fd = map.map(|map| map.as_raw_fd().cast_unsigned());
    let info = map_fd.as_ref();
    let create = LinkCreate {
        prog_fd: program.as_raw_fd().cast_unsigned(),
        attach_type: BPF_TRACE_ITER,
        iter_info: info.map_or(0, |map_fd| ptr::from_ref(map_fd) as u64),
        iter_info_len: info.map_or(0, |map_fd| size_of_val(map_fd) as u32),
        ..LinkCreate::default()
    };
    // SAFETY: the attributes of this command; `iter_info` points to `map_fd`, which outlives the call.
    let link = unsafe { bpf(BPF_LINK_CREATE, &create) }?;
    let create = IterCreate {
        link_fd: link.as_raw_fd().cast_unsigned(),
        flags: 0,
    };
    // SAFETY: the attributes of this command, which hold no pointer.
    Ok(unsafe { bpf(BPF_ITER_CREATE, &create) }?.into())
}

/// The `bpf` system call, for the commands that give a file descriptor.
///
/// # Safety
///
/// `attributes` are those of `command`, and what they point to lives until this returns.
unsafe fn bpf<T>(command: libc::c_long, attributes: &T) -> IoResult<OwnedFd> {
    // SAFETY: the caller's. A result that is no error is a descriptor that nobody else owns.
    unsafe {
        let fd = libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>());
        if fd < 0 {
            return Err(std::io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(fd as i32))
    }
}
