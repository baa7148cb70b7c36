//! The end of a daemon whose probes take the kernel longer to remove than a stop may take.
//!
//! The kernel waits for all CPUs, three times, for each probe that goes: a tenth of a second. It makes whoever closes its last
//! descriptor wait. So that this is not the daemon, a child has the descriptors too, waits for the daemon's end, and ends.

use std::{fs, io, mem, process};

/// Descriptors of perf events, as `/proc/self/fd` names them.
const PERF_EVENT: &str = "anon_inode:[perf_event]";
/// A child whose parent goes on for longer than this ends all the same. In waits of [`WAIT_NS`].
const WAITS_MAX: u32 = 2000;
const WAIT_NS: libc::c_long = 5_000_000;

/// Leaves the removal of this process's probes to a child, if it has any.
pub(super) fn leave() -> io::Result<()> {
    let kept = probes()?;
    if kept.is_empty() {
        return Ok(());
    }
    let parent = process::id().cast_signed();
    // SAFETY: there are other threads, so between fork and _exit the child makes system calls only, on numbers and on
    // memory that is there already; it takes no lock and returns to nobody.
    unsafe {
        match libc::fork() {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                close_all_but(&kept);
                wait_for_end_of(parent);
                libc::_exit(0)
            }
            _ => Ok(()),
        }
    }
}

/// In their order.
fn probes() -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        // The descriptor that lists them is gone when it is looked at.
        let is_probe = fs::read_link(entry.path()).is_ok_and(|to| to.as_os_str() == PERF_EVENT);
        let number: Option<u32> = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        found.extend(number.filter(|_| is_probe));
    }
    found.sort_unstable();
    Ok(found)
}

/// Or whoever waits for the end of the daemon's output, or for its port, would wait for the child.
///
/// # Safety
///
/// Nothing is done with the other descriptors afterwards.
unsafe fn close_all_but(kept: &[u32]) {
    let mut first = 0;
    for descriptor in kept {
        if *descriptor > first {
            // SAFETY: the caller's.
            unsafe { libc::syscall(libc::SYS_close_range, first, descriptor - 1, 0) };
        }
        first = descriptor + 1;
    }
    // SAFETY: the caller's.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
}

fn wait_for_end_of(parent: libc::pid_t) {
    for _ in 0..WAITS_MAX {
        // SAFETY: getppid takes nothing and cannot fail; nanosleep only reads `wait`. All zeros are a time.
        unsafe {
            if libc::getppid() != parent {
                return;
            }
            let mut wait: libc::timespec = mem::zeroed();
            wait.tv_nsec = WAIT_NS;
            libc::nanosleep(&raw const wait, std::ptr::null_mut());
        }
    }
}
