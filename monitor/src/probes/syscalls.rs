//! The `bpf` system call, for what aya 0.14 does not offer.

use std::{
    ffi::CString,
    io::{Error, ErrorKind, Result as IoResult},
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
    ptr,
};

// Kernel: include/uapi/linux/bpf.h.
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_RAW_TRACEPOINT_OPEN: libc::c_long = 17;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_LINK_UPDATE: libc::c_long = 29;
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

/// The part of `union bpf_attr` for BPF_LINK_UPDATE.
#[derive(Default)]
#[repr(C)]
struct LinkUpdate {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}

/// The part of `union bpf_attr` for BPF_ITER_CREATE.
#[repr(C)]
struct IterCreate {
    link_fd: u32,
    flags: u32,
}

/// The part of `union bpf_attr` for BPF_OBJ_PIN and BPF_OBJ_GET.
#[repr(C)]
struct Pin {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// The part of `union bpf_attr` for BPF_RAW_TRACEPOINT_OPEN.
#[repr(C)]
struct TracepointOpen {
    name: u64,
    prog_fd: u32,
    reserved: u32,
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
    unsafe { open(BPF_LINK_CREATE, &create) }
}

/// Attaches a program to the tracepoint that it was loaded for, until the descriptor is closed.
pub(super) fn link_to_tracepoint(program: BorrowedFd<'_>) -> IoResult<OwnedFd> {
    let create = TracepointOpen {
        name: 0,
        prog_fd: number(program),
        reserved: 0,
    };
    // SAFETY: the attributes of this command; the program knows the name, so there is none.
    unsafe { open(BPF_RAW_TRACEPOINT_OPEN, &create) }
}

/// Puts another program into a link to a cgroup; no packet passes between the two.
pub(super) fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> IoResult<()> {
    let update = LinkUpdate {
        link_fd: number(link),
        new_prog_fd: number(program),
        ..LinkUpdate::default()
    };
    // SAFETY: the attributes of this command, which hold no pointer. It gives no descriptor.
    unsafe { bpf(BPF_LINK_UPDATE, &update) }.map(drop)
}

/// Gives a link or a map a path in a bpffs, which keeps it.
pub(super) fn pin(object: BorrowedFd<'_>, path: &Path) -> IoResult<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let pin = Pin {
        pathname: path.as_ptr() as u64,
        bpf_fd: number(object),
        file_flags: 0,
    };
    // SAFETY: the attributes of this command; `path` outlives the call. It gives no descriptor.
    unsafe { bpf(BPF_OBJ_PIN, &pin) }.map(drop)
}

/// What has a path in a bpffs; none when nothing has it.
pub(super) fn pinned(path: &Path) -> IoResult<Option<OwnedFd>> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let get = Pin {
        pathname: path.as_ptr() as u64,
        bpf_fd: 0,
        file_flags: 0,
    };
    // SAFETY: the attributes of this command; `path` outlives the call.
    match unsafe { open(BPF_OBJ_GET, &get) } {
        Ok(object) => Ok(Some(object)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
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
    let link = unsafe { open(BPF_LINK_CREATE, &create) }?;
    let create = IterCreate {
        link_fd: link.as_raw_fd().cast_unsigned(),
        flags: 0,
    };
    // SAFETY: the attributes of this command, which hold no pointer.
    unsafe { open(BPF_ITER_CREATE, &create) }
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// The system call for the commands that give a file descriptor.
///
/// # Safety
///
/// As [`bpf`].
unsafe fn open<T>(command: libc::c_long, attributes: &T) -> IoResult<OwnedFd> {
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
unsafe fn bpf<T>(command: libc::c_long, attributes: &T) -> IoResult<libc::c_long> {
    // SAFETY: the caller's.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    if result < 0 {
        return Err(Error::last_os_error());
    }
    Ok(result)
}
