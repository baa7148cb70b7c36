//! Puts events into the ring buffer of a running daemon, as its probes do, without a packet: a program
//! that copies what it is given.

use std::{
    fs,
    os::fd::{AsRawFd as _, OwnedFd},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::bpf::{ById, Instruction, Program, bpf, load, open};

// Kernel: include/uapi/linux/bpf.h.
const BPF_PROG_TEST_RUN: libc::c_long = 10;
const BPF_MAP_GET_FD_BY_ID: libc::c_long = 14;
const BPF_PROG_TYPE_SYSCALL: u32 = 31;
const BPF_F_SLEEPABLE: u32 = 1 << 4;
const BPF_FUNC_RINGBUF_RESERVE: i32 = 131;
const BPF_FUNC_RINGBUF_SUBMIT: i32 = 132;

/// Kernel: `enum bpf_map_type`.
pub(super) const SK_STORAGE: &str = "24";
pub(super) const RINGBUF: &str = "27";

/// What the program returns when there is no room.
const FULL: u32 = 1;

/// Puts in events of one size.
pub(super) struct Feeder {
    program: OwnedFd,
    size: u32,
}

#[repr(C)]
#[derive(Default)]
struct Run {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    reserved: u32,
}

/// The first map of a kind that a process holds.
pub(super) fn map_of(process: u32, kind: &str) -> Result<OwnedFd> {
    for fact in fs::read_dir(format!("/proc/{process}/fdinfo"))? {
        let Ok(facts) = fs::read_to_string(fact?.path()) else {
            continue;
        };
        let fact = |name| {
            let fact = facts.lines().find_map(|line| line.strip_prefix(name));
            fact.map(str::trim)
        };
        if fact("map_type:") == Some(kind) {
            let id = fact("map_id:").context("the kernel does not say map_id")?;
            let by_id = ById::new(id.parse()?);
            // SAFETY: the attributes of this command, which hold no pointer.
            return Ok(unsafe { open(BPF_MAP_GET_FD_BY_ID, &by_id) }?);
        }
    }
    anyhow::bail!("the daemon has no map of the kind {kind}")
}

impl Feeder {
    /// For events of `size` bytes, whole words.
    pub(super) fn new(ring: &OwnedFd, size: usize) -> Result<Self> {
        let size = i16::try_from(size)?;
        let mut instructions = vec![
            // r6 = what it is given; r0 = a place in the ring, of this size.
            Instruction::new(0xbf, 6, 1, 0),
            Instruction::new(0x18, 1, 1, ring.as_raw_fd()),
            Instruction::new(0, 0, 0, 0),
            Instruction::new(0xb7, 2, 0, size.into()),
            Instruction::new(0xb7, 3, 0, 0),
            Instruction::new(0x85, 0, 0, BPF_FUNC_RINGBUF_RESERVE),
            // None: return 1.
            Instruction::new(0x55, 0, 0, 0).at(2),
            Instruction::new(0xb7, 0, 0, FULL.cast_signed()),
            Instruction::new(0x95, 0, 0, 0),
        ];
        for word in (0..size).step_by(8) {
            instructions.push(Instruction::new(0x79, 2, 6, 0).at(word));
            instructions.push(Instruction::new(0x7b, 0, 2, 0).at(word));
        }
        instructions.extend([
            Instruction::new(0xbf, 1, 0, 0),
            Instruction::new(0xb7, 2, 0, 0),
            Instruction::new(0x85, 0, 0, BPF_FUNC_RINGBUF_SUBMIT),
            Instruction::new(0xb7, 0, 0, 0),
            Instruction::new(0x95, 0, 0, 0),
        ]);
        let program = load(&Program {
            kind: BPF_PROG_TYPE_SYSCALL,
            attach_type: 0,
            flags: BPF_F_SLEEPABLE,
            instructions: &instructions,
        });
        let program = program.context("load a program that fills a ring buffer (Linux 5.18)")?;
        let size = size.unsigned_abs().into();
        Ok(Self { program, size })
    }

    /// Waits while the ring is full: none is lost.
    pub(super) fn put(&self, event: &mut [u8]) -> Result<()> {
        assert_eq!(
            event.len(),
            self.size as usize,
            "the size that it was loaded for"
        );
        loop {
            let mut run = Run {
                prog_fd: self.program.as_raw_fd().cast_unsigned(),
                ctx_size_in: self.size,
                // The kernel writes back what the program made of it, which is the same.
                ctx_in: event.as_mut_ptr() as u64,
                ..Run::default()
            };
            // SAFETY: the attributes of this command; `event` has the size that they say, and outlives the call.
            unsafe { bpf(BPF_PROG_TEST_RUN, &raw mut run) }.context("fill the ring buffer")?;
            if run.retval != FULL {
                return Ok(());
            }
            thread::sleep(Duration::from_micros(200));
        }
    }
}
