//! The name of the process that closed the local end.
//!
//! In: the closing thread, as the kernel side saw it, and when it closed. Out: the process's name,
//! or nothing; never that of another process that got the same id later.

use std::{collections::HashMap, fs, os::unix::fs::MetadataExt, sync::LazyLock, time::Duration};

use monitor_ebpf::event::Closer;
use procfs::process::Process;

use crate::clock;

/// The inode of the initial pid namespace (`PROC_PID_INIT_INO`): the one the kernel side counts in.
const INITIAL_PID_NAMESPACE: u64 = 0xeffffffc;
/// Processes remembered. When there are too many they all go, and are asked again.
const NAMES_MAX: usize = 1024;

/// What processes were when they were last asked: a daemon that has fallen behind need not ask again for each of
/// the ends that a process closed before that.
#[derive(Default)]
pub(crate) struct Names(HashMap<u32, Asked>);

struct Asked {
    at: Duration,
    /// When it started, and its name; none when there was no such process.
    found: Option<(Duration, String)>,
}

impl Names {
    /// The name of the closing thread's process. The main thread's name is the process's; for another
    /// thread the process is asked, if it still lives.
    pub(crate) fn name(&mut self, closer: &Closer, closed: Duration) -> Option<String> {
        if closer.tid == closer.pid {
            let end = closer
                .comm
                .iter()
                .position(|byte| *byte == 0)
                .unwrap_or(closer.comm.len());
            return Some(String::from_utf8_lossy(&closer.comm[..end]).into_owned());
        }
        // Two processes never have one id at one time, so one that lived from before the close until it was asked is
        // the closer.
        let (started, name) = self.asked(closer.pid, closed).found.as_ref()?;
        (*started <= closed).then(|| name.clone())
    }

    /// What the process was at some moment after `closed`.
    fn asked(&mut self, pid: u32, closed: Duration) -> &Asked {
        if self.0.len() >= NAMES_MAX && !self.0.contains_key(&pid) {
            self.0.clear();
        }
        let asked = self.0.entry(pid).or_insert_with(|| Asked::now(pid));
        if asked.at < closed {
            *asked = Asked::now(pid);
        }
        asked
    }
}

impl Asked {
    fn now(pid: u32) -> Self {
        let at = clock::since_boot();
        Self {
            at,
            found: find(pid),
        }
    }
}

fn find(pid: u32) -> Option<(Duration, String)> {
    static IS_INITIAL: LazyLock<bool> = LazyLock::new(in_initial_pid_namespace);
    if !*IS_INITIAL {
        return None;
    }
    let process = Process::new(i32::try_from(pid).ok()?).ok()?;
    let stat = process.stat().ok()?;
    let started =
        Duration::from_secs_f64(stat.starttime as f64 / procfs::ticks_per_second() as f64);
    Some((started, stat.comm))
}

fn in_initial_pid_namespace() -> bool {
    fs::metadata("/proc/self/ns/pid").is_ok_and(|ns| ns.ino() == INITIAL_PID_NAMESPACE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn main_thread_names_the_process() {
        let name = Names::default().name(&closer(7, 7), Duration::ZERO);
        assert_eq!(name.as_deref(), Some("chat"));
    }

    #[test]
    fn process_that_started_after_the_close_is_another() {
        let me = std::process::id();
        let mut names = Names::default();
        assert_eq!(names.name(&closer(me, me + 1), Duration::ZERO), None);
    }

    #[test]
    fn process_is_asked_again_only_for_what_it_closed_since() {
        let me = std::process::id();
        let mut names = Names::default();
        let closed = clock::since_boot();
        let first = names.asked(me, closed).at;
        assert_eq!(names.asked(me, closed).at, first);
        let later = clock::since_boot();
        assert!(names.asked(me, later).at >= later);
        for pid in 1..=NAMES_MAX as u32 {
            names.asked(i32::MAX as u32 + pid, closed);
        }
        assert!(names.0.len() <= NAMES_MAX);
    }

    fn closer(pid: u32, tid: u32) -> Closer {
        let mut comm = [0; 16];
        comm[..4].copy_from_slice(b"chat");
        Closer { pid, tid, comm }
    }
}
