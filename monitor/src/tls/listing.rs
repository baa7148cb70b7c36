//! Which processes there are: those of the host, or those in some cgroups.
//!
//! Reads `/proc` and the cgroups, of each process that goes on only its name in a directory.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    os::unix::fs::{DirEntryExt as _, MetadataExt as _},
    path::Path,
    time::Duration,
};

use procfs::process::Process as Kernel;

use super::processes::Process;

/// Remembers of each process when it started, under its id and the inode of its directory in `/proc`: another process
/// with the id has another directory. The kernel may forget the inode, and then it is asked again.
#[derive(Default)]
pub(super) struct Lister {
    started: HashMap<u32, (u64, Option<Duration>)>,
}

impl Lister {
    /// All processes of this pid namespace.
    ///
    /// # Errors
    ///
    /// When `/proc` cannot be read.
    pub(super) fn all(&mut self) -> io::Result<HashSet<Process>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let entry = entry?;
            let name = entry.file_name();
            if let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) {
                ids.push((pid, entry.ino()));
            }
        }
        Ok(self.processes(ids))
    }

    /// The processes in these cgroups and those below. One that is gone has none.
    pub(super) fn of_cgroups<'a>(
        &mut self,
        cgroups: impl Iterator<Item = &'a Path>,
    ) -> HashSet<Process> {
        let mut ids = HashSet::new();
        let mut pending: Vec<_> = cgroups.map(Path::to_owned).collect();
        while let Some(cgroup) = pending.pop() {
            let listed = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
            ids.extend(listed.lines().filter_map(|line| line.parse::<u32>().ok()));
            let Ok(entries) = fs::read_dir(&cgroup) else {
                continue;
            };
            let is_directory =
                |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
            pending.extend(
                entries
                    .flatten()
                    .filter(is_directory)
                    .map(|entry| entry.path()),
            );
        }
        let ids = ids.into_iter().filter_map(|pid| {
            let directory = fs::metadata(format!("/proc/{pid}")).ok()?;
            Some((pid, directory.ino()))
        });
        let ids = ids.collect();
        self.processes(ids)
    }

    fn processes(&mut self, ids: Vec<(u32, u64)>) -> HashSet<Process> {
        let mut started = HashMap::with_capacity(ids.len());
        for (pid, inode) in ids {
            let known = self.started.get(&pid).filter(|(of, _)| *of == inode);
            let since = known.map_or_else(|| start_of(pid), |(_, since)| *since);
            started.insert(pid, (inode, since));
        }
        self.started = started;
        let there = self.started.iter();
        there
            .filter_map(|(&pid, &(_, started))| {
                Some(Process {
                    pid,
                    started: started?,
                })
            })
            .collect()
    }
}

/// Since boot; none for one that is gone, and for a thread of the kernel, which runs no file.
fn start_of(pid: u32) -> Option<Duration> {
    let stat = Kernel::new(pid.cast_signed()).ok()?.stat().ok()?;
    (!is_of_kernel(stat.pid, stat.ppid))
        .then(|| Duration::from_secs_f64(stat.starttime as f64 / procfs::ticks_per_second() as f64))
}

/// `kthreadd` has the id 2, and is the parent of all others.
fn is_of_kernel(pid: i32, parent: i32) -> bool {
    pid == KTHREADD && parent == 0 || parent == KTHREADD
}

const KTHREADD: i32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_this_process_and_knows_it_again() {
        let mut lister = Lister::default();
        let first = lister.all().unwrap();
        let me = first
            .iter()
            .find(|process| process.pid == std::process::id());
        assert_eq!(Some(me.unwrap().started), start_of(std::process::id()));
        assert!(lister.all().unwrap().contains(me.unwrap()));
    }

    #[test]
    fn processes_of_a_cgroup_are_those_of_all_below_it() {
        let directory = tempfile::tempdir().unwrap();
        let below = directory.path().join("a/b");
        fs::create_dir_all(&below).unwrap();
        fs::write(directory.path().join("cgroup.procs"), "0\n1\n").unwrap();
        fs::write(
            below.join("cgroup.procs"),
            format!("{}\n", std::process::id()),
        )
        .unwrap();
        let gone = directory.path().join("gone");
        let cgroups = [directory.path(), &gone];
        let found = Lister::default().of_cgroups(cgroups.into_iter());
        let mut ids: Vec<_> = found.iter().map(|process| process.pid).collect();
        ids.sort_unstable();
        assert_eq!(ids, [1, std::process::id()]);
    }
}
