//! A control group of our own, so that a demonstration sees its own connections and no others.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
};

use anyhow::{Context as _, Result};

/// Removed when dropped; this process is back where it was by then.
pub(crate) struct OwnCgroup {
    path: PathBuf,
    before: PathBuf,
}

impl OwnCgroup {
    pub(crate) fn create() -> Result<Self> {
        let mount = mount()?;
        let before = current(&mount)?;
        let path = mount.join(format!("closewatch-demo-{}", process::id()));
        fs::create_dir(&path).with_context(|| format!("create the cgroup {}", path.display()))?;
        Ok(Self { path, before })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Moves this process in: what it starts from here on is born there.
    pub(crate) fn enter(&self) -> Result<()> {
        put_us_in(&self.path)
    }
}

impl Drop for OwnCgroup {
    fn drop(&mut self) {
        let left = put_us_in(&self.before).and_then(|()| Ok(fs::remove_dir(&self.path)?));
        if let Err(error) = left {
            eprintln!("the cgroup {} stays behind: {error:#}", self.path.display());
        }
    }
}

fn put_us_in(cgroup: &Path) -> Result<()> {
    let list = cgroup.join("cgroup.procs");
    fs::write(&list, process::id().to_string())
        .with_context(|| format!("write to {}", list.display()))
}

/// Where cgroup v2 is mounted: not at /sys/fs/cgroup on hosts that also have v1.
pub(crate) fn mount() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let mount = mounts.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        filesystem
            .starts_with("cgroup2 ")
            .then(|| mount.split(' ').nth(4))?
    });
    mount
        .map(PathBuf::from)
        .context("cgroup v2 is not mounted: mount -t cgroup2 none /sys/fs/cgroup/unified")
}

fn current(mount: &Path) -> Result<PathBuf> {
    let cgroups = fs::read_to_string("/proc/self/cgroup")?;
    let path = cgroups.lines().find_map(|line| line.strip_prefix("0::/"));
    Ok(mount.join(path.context("find our own cgroup in /proc/self/cgroup")?))
}
