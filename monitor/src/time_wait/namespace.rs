//! Network namespaces: where they are, which one a thread is in, and how it gets into another.
//!
//! Reads `/proc` and changes nothing but the calling thread's namespace. Keeps none open: an open file
//! would keep a namespace alive, with its devices, after the container that it belonged to.

use std::{
    fs::{self, File},
    io,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use procfs::process::Process;

/// The calling thread, where [`id`] and [`entries`] take a process.
pub(super) const THIS_THREAD: &str = "thread-self";

/// What tells a namespace from others: the inode of a file that each has its own of. Unlike that of
/// `/proc/PID/ns/net` it can be read of any process, whatever its privileges.
pub(super) type Id = u64;

/// The namespace that a process is in.
pub(super) fn id(process: &str) -> io::Result<Id> {
    Ok(fs::metadata(sockstat(process))?.ino())
}

/// How many sockets of that namespace are survived by a small entry, in TIME_WAIT or FIN_WAIT2: no less
/// than there are in TIME_WAIT, and told without listing.
pub(super) fn entries(process: &str) -> io::Result<u64> {
    let text = fs::read_to_string(sockstat(process))?;
    tw(&text)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no count of tw in sockstat"))
}

fn sockstat(process: &str) -> PathBuf {
    ["/proc", process, "net/sockstat"].iter().collect()
}

/// From a line like `TCP: inuse 5 orphan 0 tw 2 alloc 6 mem 1`.
fn tw(sockstat: &str) -> Option<u64> {
    let tcp = sockstat
        .lines()
        .find_map(|line| line.strip_prefix("TCP:"))?;
    let mut words = tcp.split_whitespace();
    words.find(|word| *word == "tw")?;
    words.next()?.parse().ok()
}

/// The way into the namespace of a process.
pub(super) fn of_process(process: &str) -> PathBuf {
    ["/proc", process, "ns/net"].iter().collect()
}

/// The ways into the namespaces that are mounted somewhere, as container runtimes and `ip netns` do.
pub(super) fn mounted() -> Vec<PathBuf> {
    let mounts = Process::myself().and_then(|myself| myself.mountinfo());
    let is_network = |root: &str| root.starts_with("net:");
    mounts
        .into_iter()
        .flatten()
        .filter(|mount| mount.fs_type == "nsfs" && is_network(&mount.root))
        .map(|mount| mount.mount_point)
        .collect()
}

/// The processes in a cgroup; none when it is gone. One of another pid namespace cannot be named.
pub(super) fn processes(cgroup: &Path) -> Vec<String> {
    let read = |file: &str| fs::read_to_string(cgroup.join(file));
    // A threaded cgroup tells its threads only; `/proc` knows these, too.
    let listed = read("cgroup.procs")
        .or_else(|_| read("cgroup.threads"))
        .unwrap_or_default();
    let named = listed.lines().filter(|pid| *pid != "0");
    named.map(str::to_owned).collect()
}

/// Moves the calling thread, and it alone, into a namespace.
///
/// # Errors
///
/// When the namespace is gone, or this process may not look at the process that it is of
/// (CAP_SYS_PTRACE), or may not enter namespaces (CAP_SYS_ADMIN).
pub(super) fn enter(way: &Path) -> io::Result<()> {
    return_to(&File::open(way)?)
}

/// The same with a namespace that was opened before.
pub(super) fn return_to(namespace: &File) -> io::Result<()> {
    // SAFETY: setns reads a descriptor, which `namespace` keeps open, and touches no memory.
    let result = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn count_of_entries_is_found_in_sockstat() {
        let text =
            "sockets: used 20\nTCP: inuse 1 orphan 0 tw 42 alloc 3 mem 252\nUDP: inuse 0 mem 0\n";
        assert_eq!(tw(text), Some(42));
        assert_eq!(tw("TCP: inuse 1\n"), None);
        assert_eq!(tw(""), None);
    }

    #[test]
    fn a_thread_is_in_its_process_namespace() {
        assert_eq!(id(THIS_THREAD).unwrap(), id("self").unwrap());
        entries(THIS_THREAD).unwrap();
    }
}
