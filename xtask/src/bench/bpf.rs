//! The `bpf` system call, as far as measuring needs it: a program that does nothing, the kernel's clock around
//! every run of a program, and what that clock has counted.

use std::{
    fs::{self, File},
    io::Error,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::Path,
};

use anyhow::{Context as _, Result};

// Kernel: include/uapi/linux/bpf.h.
const BPF_PROG_LOAD: libc::c_long = 5;
pub(super) const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_PROG_QUERY: libc::c_long = 16;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_ENABLE_STATS: libc::c_long = 32;
const BPF_PROG_TYPE_CGROUP_SKB: u32 = 8;
const BPF_STATS_RUN_TIME: u32 = 0;

/// Where packets are looked at: the kernel's attach type, and the word for it.
#[derive(Clone, Copy)]
pub(super) enum Hook {
    Ingress = 0,
    Egress = 1,
}

/// What a program has taken since the clock runs.
#[derive(Clone, Copy)]
pub(super) struct Runs {
    pub(super) count: u64,
    pub(super) nanoseconds: u64,
}

/// A program of ours at one place, attached until this is dropped.
pub(super) struct Attached {
    pub(super) program: OwnedFd,
    #[expect(dead_code, reason = "the descriptor holds the link")]
    link: OwnedFd,
}

/// Programs that only let every packet pass.
pub(super) struct Empty {
    #[expect(dead_code, reason = "they are attached as long as this lives")]
    hooks: [Attached; 2],
}

/// The clock; it stops when this is dropped.
pub(super) struct Clock {
    #[expect(dead_code, reason = "the descriptor holds the clock")]
    on: OwnedFd,
}

#[repr(C)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

#[repr(C)]
struct Link {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
}

#[repr(C)]
struct Query {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    reserved: u32,
}

#[repr(C)]
pub(super) struct ById {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// Kernel: `struct bpf_insn`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// `return 1`, which is "let it pass".
pub(super) const PASS: [Instruction; 2] = [
    Instruction::new(0xb7, 0, 0, 1),
    Instruction::new(0x95, 0, 0, 0),
];

/// What to load.
pub(super) struct Program<'a> {
    pub(super) kind: u32,
    pub(super) attach_type: u32,
    pub(super) flags: u32,
    pub(super) instructions: &'a [Instruction],
}

impl ById {
    pub(super) fn new(id: u32) -> Self {
        Self {
            id,
            next_id: 0,
            open_flags: 0,
        }
    }

    /// What the kernel said is next behind `id`.
    pub(super) fn next(&self) -> u32 {
        self.next_id
    }
}

impl Instruction {
    pub(super) const fn new(code: u8, to: u8, from: u8, immediate: i32) -> Self {
        let registers = if cfg!(target_endian = "big") {
            to << 4 | from
        } else {
            from << 4 | to
        };
        Self {
            code,
            registers,
            offset: 0,
            immediate,
        }
    }

    pub(super) const fn at(mut self, offset: i16) -> Self {
        self.offset = offset;
        self
    }
}

impl Hook {
    pub(super) const BOTH: [Self; 2] = [Self::Egress, Self::Ingress];
}

impl Attached {
    pub(super) fn new(cgroup: &Path, hook: Hook, instructions: &[Instruction]) -> Result<Self> {
        let cgroup = File::open(cgroup)?;
        let program = load(&Program {
            kind: BPF_PROG_TYPE_CGROUP_SKB,
            attach_type: hook as u32,
            flags: 0,
            instructions,
        });
        let program = program.context("load a program to compare with")?;
        let link = Link {
            prog_fd: program.as_raw_fd().cast_unsigned(),
            target_fd: cgroup.as_raw_fd().cast_unsigned(),
            attach_type: hook as u32,
            flags: 0,
        };
        // SAFETY: the attributes of this command, which hold no pointer.
        let link = unsafe { open(BPF_LINK_CREATE, &link) };
        let link = link.context("attach a program to compare with")?;
        Ok(Self { program, link })
    }
}

impl Empty {
    pub(super) fn attach(cgroup: &Path) -> Result<Self> {
        Ok(Self {
            hooks: [
                Attached::new(cgroup, Hook::Egress, &PASS)?,
                Attached::new(cgroup, Hook::Ingress, &PASS)?,
            ],
        })
    }
}

impl Clock {
    pub(super) fn start() -> Result<Self> {
        // SAFETY: the attributes of this command, which hold no pointer.
        let on = unsafe { open(BPF_ENABLE_STATS, &BPF_STATS_RUN_TIME) };
        Ok(Self {
            on: on
                .context("have the kernel time its BPF programs (BPF_ENABLE_STATS, Linux 5.8)")?,
        })
    }
}

/// The one program that is attached to a cgroup there.
pub(super) fn attached(cgroup: &Path, hook: Hook) -> Result<OwnedFd> {
    let cgroup = File::open(cgroup)?;
    let mut ids = [0u32; 1];
    let query = Query {
        target_fd: cgroup.as_raw_fd().cast_unsigned(),
        attach_type: hook as u32,
        query_flags: 0,
        attach_flags: 0,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: 1,
        reserved: 0,
    };
    // SAFETY: the attributes of this command, with room for one number, as they say.
    unsafe { bpf(BPF_PROG_QUERY, &query) }.context("ask what is attached to a cgroup of ours")?;
    let by_id = ById::new(ids[0]);
    // SAFETY: the attributes of this command, which hold no pointer.
    unsafe { open(BPF_PROG_GET_FD_BY_ID, &by_id) }.context("open what is attached to a cgroup")
}

pub(super) fn runs(program: &OwnedFd) -> Result<Runs> {
    let facts = fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd()))?;
    let fact = |name: &str| {
        let value = facts.lines().find_map(|line| line.strip_prefix(name));
        let value = value.with_context(|| format!("the kernel does not say {name}"))?;
        Ok::<u64, anyhow::Error>(value.trim().parse()?)
    };
    Ok(Runs {
        count: fact("run_cnt:")?,
        nanoseconds: fact("run_time_ns:")?,
    })
}

pub(super) fn load(program: &Program) -> Result<OwnedFd, Error> {
    let load = Load {
        prog_type: program.kind,
        insn_cnt: program.instructions.len() as u32,
        insns: program.instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: program.flags,
        prog_name: *b"bench\0\0\0\0\0\0\0\0\0\0\0",
        prog_ifindex: 0,
        expected_attach_type: program.attach_type,
    };
    // SAFETY: the attributes of this command; what they point to outlives the call.
    unsafe { open(BPF_PROG_LOAD, &load) }
}

/// The system call for the commands that give a file descriptor.
///
/// # Safety
///
/// As [`bpf`].
pub(super) unsafe fn open<T>(command: libc::c_long, attributes: &T) -> Result<OwnedFd, Error> {
    // SAFETY: the caller's. A result of such a command is a descriptor that nobody else owns.
    unsafe {
        let fd = bpf(command, attributes)?;
        Ok(OwnedFd::from_raw_fd(fd as i32))
    }
}

/// The system call itself.
///
/// # Safety
///
/// `attributes` are those of `command`, and what they point to lives until this returns.
pub(super) unsafe fn bpf<T>(
    command: libc::c_long,
    attributes: *const T,
) -> Result<libc::c_long, Error> {
    // SAFETY: the caller's.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    if result < 0 {
        return Err(Error::last_os_error());
    }
    Ok(result)
}
