//! The paths of cgroups.
//!
//! In: the id that the kernel gives a cgroup v2: the inode number of its directory. Out: the path
//! below the mount (`/system.slice/chat.service`, `/` for the root). Walks the hierarchy at most
//! once a second, and only for an id that is not known.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// Between two walks at least.
const WALK_EVERY: Duration = Duration::from_secs(1);
/// Paths kept at most. Those of removed cgroups are kept too, since a record may come after the
/// cgroup is gone; when there are too many they all go, and those that exist are walked again.
const PATHS_MAX: usize = 65_536;

pub(crate) struct Cgroups {
    mount: PathBuf,
    paths: HashMap<u64, String>,
    walked: Option<Duration>,
}

impl Cgroups {
    /// Names the cgroups below this cgroup v2 mount point.
    pub(crate) fn new(mount: PathBuf) -> Self {
        Self {
            mount,
            paths: HashMap::new(),
            walked: None,
        }
    }

    /// The path of the cgroup with this id; none if it does not exist, or is not below the mount.
    pub(crate) fn path(&mut self, id: u64, now: Duration) -> Option<&str> {
        let due = self
            .walked
            .is_none_or(|walked| now.saturating_sub(walked) >= WALK_EVERY);
        if !self.paths.contains_key(&id) && due {
            self.walk();
            self.walked = Some(now);
        }
        self.paths.get(&id).map(String::as_str)
    }

    /// Takes over a path from a daemon that found it; the cgroup may be gone.
    pub(crate) fn recall(&mut self, id: u64, path: String) {
        self.paths.entry(id).or_insert(path);
    }

    /// The directory of the cgroup with this id, if [`Cgroups::path`] finds it.
    pub(crate) fn directory(&mut self, id: u64, now: Duration) -> Option<PathBuf> {
        let below = self.path(id, now)?.trim_start_matches('/').to_owned();
        Some(self.mount.join(below))
    }

    fn walk(&mut self) {
        if self.paths.len() > PATHS_MAX {
            self.paths.clear();
        }
        let mut pending = vec![self.mount.clone()];
        while let Some(directory) = pending.pop() {
            // A cgroup may be removed while we walk.
            let Ok(metadata) = fs::metadata(&directory) else {
                continue;
            };
            let below = directory.strip_prefix(&self.mount).unwrap_or(&directory);
            self.paths
                .insert(metadata.ino(), format!("/{}", below.display()));
            pending.extend(directories_in(&directory).unwrap_or_default());
        }
    }
}

fn directories_in(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut directories = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            directories.push(entry.path());
        }
    }
    Ok(directories)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_to_the_mount_and_outlive_the_cgroup() {
        let mount = tempfile::tempdir().unwrap();
        let service = mount.path().join("system.slice/chat.service");
        fs::create_dir_all(&service).unwrap();
        let id = |path: &Path| fs::metadata(path).unwrap().ino();
        let (root_id, service_id) = (id(mount.path()), id(&service));

        let mut cgroups = Cgroups::new(mount.path().to_owned());
        assert_eq!(cgroups.path(root_id, Duration::ZERO), Some("/"));
        fs::remove_dir(&service).unwrap();
        assert_eq!(
            cgroups.path(service_id, Duration::ZERO),
            Some("/system.slice/chat.service")
        );
        assert_eq!(cgroups.directory(service_id, Duration::ZERO), Some(service));
    }

    #[test]
    fn walks_once_a_second_at_most() {
        let mount = tempfile::tempdir().unwrap();
        let mut cgroups = Cgroups::new(mount.path().to_owned());
        assert_eq!(cgroups.path(0, Duration::ZERO), None);
        let late = mount.path().join("late");
        fs::create_dir(&late).unwrap();
        let id = fs::metadata(&late).unwrap().ino();
        assert_eq!(cgroups.path(id, Duration::from_millis(999)), None);
        assert_eq!(cgroups.path(id, Duration::from_secs(1)), Some("/late"));
    }
}
