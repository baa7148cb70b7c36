//! What is known of the host, and where it is read.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use caps::{CapSet, CapsHashSet};
use procfs::{process::Process, sys::kernel::Version};

use crate::config::Scope;

pub(super) const BTF: &str = "/sys/kernel/btf/vmlinux";
/// The mode of lockdown in which programs may not read the kernel's memory.
const CONFIDENTIALITY: &str = "confidentiality";
/// The inode of the root of a cgroup hierarchy.
const ROOT_INODE: u64 = 1;
/// How many ids the first user namespace has.
const ALL_IDS: &str = "4294967295";

pub(super) struct Facts {
    pub(super) kernel: (u8, u8),
    pub(super) cgroup_mount: Option<PathBuf>,
    /// The mount shows the whole hierarchy, and not the part of a cgroup namespace.
    pub(super) is_whole: bool,
    /// A hierarchy of version 1 is mounted.
    pub(super) cgroup_v1: bool,
    /// `--cgroup`, and whether it is a directory of cgroup v2.
    pub(super) cgroup_chosen: Option<(PathBuf, bool)>,
    pub(super) btf: bool,
    pub(super) capabilities: CapsHashSet,
    /// Not the first one, of which alone the capabilities count.
    pub(super) is_user_namespace: bool,
    /// The kernel's lockdown is in confidentiality mode.
    pub(super) is_confidential: bool,
}

pub(super) fn gather(scope: &Scope) -> Result<Facts> {
    let kernel = Version::current().context("read the kernel version from /proc/sys/kernel")?;
    let mounts = Process::myself()
        .and_then(|myself| myself.mountinfo())
        .context("read /proc/self/mountinfo")?;
    let cgroup_v1 = mounts.0.iter().any(|mount| mount.fs_type == "cgroup");
    let mounts = mounts
        .into_iter()
        .filter(|mount| mount.fs_type == "cgroup2")
        .map(|mount| (mount.root == "/", mount.mount_point));
    let cgroup_mount = mount_of_most(mounts);
    let ids = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    Ok(Facts {
        kernel: (kernel.major, kernel.minor),
        is_whole: cgroup_mount.as_deref().is_some_and(shows_all),
        cgroup_mount,
        cgroup_v1,
        cgroup_chosen: scope.cgroup.clone().map(|path| {
            let is_cgroup2 = is_cgroup2(&path);
            (path, is_cgroup2)
        }),
        btf: fs::exists(BTF).unwrap_or(false),
        capabilities: caps::read(None, CapSet::Effective).context("read the capabilities")?,
        is_user_namespace: is_user_namespace(&ids),
        is_confidential: lockdown().is_some_and(|mode| mode == CONFIDENTIALITY),
    })
}

/// The active mode of the kernel's lockdown; none where it is not told.
pub(super) fn lockdown() -> Option<String> {
    let modes = fs::read_to_string("/sys/kernel/security/lockdown").ok()?;
    active(&modes).map(str::to_owned)
}

/// Reads `none [integrity] confidentiality`.
pub(super) fn active(modes: &str) -> Option<&str> {
    let (_, rest) = modes.split_once('[')?;
    rest.split_once(']').map(|(mode, _)| mode)
}

/// The mount point that shows the most: the whole hierarchy, which in a container may be mounted beside its own part,
/// or else all of a cgroup namespace (its root is `/`), and not one cgroup by itself.
pub(super) fn mount_of_most(mounts: impl Iterator<Item = (bool, PathBuf)>) -> Option<PathBuf> {
    let mut of_namespace = None;
    for (is_of_namespace, mount) in mounts {
        if shows_all(&mount) {
            return Some(mount);
        }
        if is_of_namespace && of_namespace.is_none() {
            of_namespace = Some(mount);
        }
    }
    of_namespace
}

fn shows_all(mount: &Path) -> bool {
    fs::metadata(mount).is_ok_and(|root| root.ino() == ROOT_INODE)
}

/// Only directories of cgroup v2 have this file.
pub(super) fn is_cgroup2(directory: &Path) -> bool {
    directory.join("cgroup.controllers").is_file()
}

/// The first user namespace maps every id to itself. `ids` is /proc/self/uid_map, empty where there are none.
pub(super) fn is_user_namespace(ids: &str) -> bool {
    let columns: Vec<&str> = ids.split_whitespace().collect();
    !columns.is_empty() && columns != ["0", "0", ALL_IDS]
}
