//! The `bpf` system call, for what aya 0.14 does not offer.

use std::{
    io::{Error, Result as IoResult},
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    ptr,
};

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

/// Attaches a program to a cgroup, until the descriptor is closed or the cgroup goes.
pub(super) fn link_to_cgroup(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    attach_type: u32,
) -> IoResult<OwnedFd> {
    let create = LinkCreate {
        prog_fd: number(program),
        target_fd: number(cgroup),
        attach_type,
        ..LinkCreate::default()
    };
    // SAFETY: the attributes of this command, which hold no pointer.
    unsafe { bpf(BPF_LINK_CREATE, &create) }
}

/// A file that runs an iterator when it is read, over the values of a map if there is one. aya links
/// iterators without telling them a map.
pub(super) fn iterate(program: BorrowedFd<'_>, map: Option<BorrowedFd<'_>>) -> IoResult<OwnedFd> {
    let map_fd = map.map(number);
    let info = map_fd.as_ref();
    let create = LinkCreate {
        prog_fd: number(program),
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
    unsafe { bpf(BPF_ITER_CREATE, &create) }
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// The system call itself, for the commands that give a file descriptor.
///
/// # Safety
///
/// `attributes` are those of `command`, and what they point to lives until this returns.
unsafe fn bpf<T>(command: libc::c_long, attributes: &T) -> IoResult<OwnedFd> {
    // SAFETY: the caller's. A result that is no error is a descriptor that nobody else owns.
    unsafe {
        let fd = libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>());
        if fd < 0 {
            return Err(Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(fd as i32))
    }
}
