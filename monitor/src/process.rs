//! The name of the process that closed the local end.
//!
//! In: the closing thread, as the kernel side saw it, and when it closed. Out: the process's name,
//! or nothing; never that of another process that got the same id later.

use std::{fs, os::unix::fs::MetadataExt, time::Duration};

use monitor_ebpf::event::Closer;
use procfs::process::Process;

/// The inode of the initial pid namespace (`PROC_PID_INIT_INO`): the one the kernel side counts in.
const INITIAL_PID_NAMESPACE: u64 = 0xeffffffc;

/// The name of the closing thread's process. The main thread's name is the process's; for another
/// thread the process is asked, if it still lives.
pub(crate) fn name(closer: &Closer, closed: Duration) -> Option<String> {
    if closer.tid == closer.pid {
        let end = closer
            .comm
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(closer.comm.len());
        return Some(String::from_utf8_lossy(&closer.comm[..end]).into_owned());
    }
    let process = Process::new(i32::try_from(closer.pid).ok()?).ok()?;
    let stat = process.stat().ok()?;
    // Two processes never have one id at one time, so one that lived at the close is the closer.
    let started =
        Duration::from_secs_f64(stat.starttime as f64 / procfs::ticks_per_second() as f64);
    (started <= closed && in_initial_pid_namespace()).then_some(stat.comm)
}

fn in_initial_pid_namespace() -> bool {
    fs::metadata("/proc/self/ns/pid").is_ok_and(|ns| ns.ino() == INITIAL_PID_NAMESPACE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn main_thread_names_the_process() {
        assert_eq!(name(&closer(7, 7), Duration::ZERO).as_deref(), Some("chat"));
    }

    #[test]
    fn process_that_started_after_the_close_is_another() {
        let me = std::process::id();
        assert_eq!(name(&closer(me, me + 1), Duration::ZERO), None);
    }

    fn closer(pid: u32, tid: u32) -> Closer {
        let mut comm = [0; 16];
        comm[..4].copy_from_slice(b"chat");
        Closer { pid, tid, comm }
    }
}
