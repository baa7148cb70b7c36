//! What of the kernel side outlives the daemon: maps and links with a path in a bpffs.
//!
//! In: the directory of `--pin`. Out: below it a directory for the layout of the maps, so that a daemon with
//! another layout does not take them for its own. One daemon at a time has the directory.

use std::{
    fs::{self, DirBuilder, File},
    io::ErrorKind,
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::fs::DirBuilderExt as _,
    },
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::{
    layout::{Layout, is_name},
    load::OBJECT,
    syscalls::{pin, pinned},
};

/// The maps that remember something from one event to the next. The others are begun anew with the programs.
pub(super) const PINNED: [&str; 6] = ["BEGUN", "COUNTS", "EARLY", "EVENTS", "OPENINGS", "SOCKETS"];

/// Whether a map is there for TLS alone. Those are begun anew, too: their probes end with the daemon.
pub(super) fn is_of_tls(map: &str) -> bool {
    map.starts_with("TLS_")
}

/// Kernel: `BPF_FS_MAGIC` in include/uapi/linux/magic.h.
const BPF_FS_MAGIC: u32 = 0xcafe_4a11;
/// The end of the name of a link that is about to take another's place. No dot: bpffs refuses one.
const NEXT: &str = "-next";

/// The directory of `--pin`, while this daemon has it.
pub(crate) struct Pins {
    root: PathBuf,
    /// Of this layout.
    directory: PathBuf,
    /// Nobody else has the lock on the directory while this is open.
    _lock: File,
}

/// What was removed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Removed {
    pub(crate) links: usize,
    pub(crate) maps: usize,
}

impl Pins {
    /// Takes the directory, and makes it if there is none.
    ///
    /// # Errors
    ///
    /// When it is not in a bpffs, or another daemon has it.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        if !root.exists() {
            // Or a folder would be left where pins cannot be.
            let around = root.parent().filter(|path| !path.as_os_str().is_empty());
            open_bpffs(around.unwrap_or(Path::new(".")), root)?;
            make_directory(root)?;
        }
        let lock = lock(root)?;
        let directory = root.join(Layout::of(OBJECT)?.name(&PINNED));
        make_directory(&directory)?;
        let pins = Self {
            root: root.to_owned(),
            directory,
            _lock: lock,
        };
        pins.remove_half_made()?;
        Ok(pins)
    }

    /// The name of the layout.
    pub(crate) fn layout(&self) -> &str {
        let name = self.directory.file_name().and_then(|name| name.to_str());
        name.unwrap_or_default()
    }

    /// Where a map is or will be pinned.
    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Whether a daemon of this layout has left its maps here.
    pub(super) fn has_maps(&self) -> bool {
        PINNED.iter().all(|name| self.map(name).exists())
    }

    /// The link that is pinned under the name of its program.
    pub(super) fn link(&self, name: &str) -> Result<Option<OwnedFd>> {
        let path = self.directory.join(name);
        pinned(&path).with_context(|| format!("open the pin {}", path.display()))
    }

    /// Pins a link under the name of its program. Another that has the name ends with this, and not before.
    pub(super) fn keep_link(&self, name: &str, link: &OwnedFd) -> Result<()> {
        let [next, path] =
            [format!("{name}{NEXT}"), name.to_owned()].map(|n| self.directory.join(n));
        let kept = pin(link.as_fd(), &next).and_then(|()| fs::rename(&next, &path));
        kept.with_context(|| format!("pin {}", path.display()))
    }

    /// Removes the links whose programs are not to be attached.
    pub(super) fn keep_only(&self, is_wanted: impl Fn(&str) -> bool) -> Result<()> {
        for path in entries(&self.directory)? {
            if !is_map(&path) && !is_wanted(name_of(&path)) {
                remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// What a daemon that was killed in between left.
    fn remove_half_made(&self) -> Result<()> {
        for path in entries(&self.directory)? {
            if name_of(&path).ends_with(NEXT) {
                remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// The directories of other layouts.
    pub(super) fn others(&self) -> Result<Vec<PathBuf>> {
        let mut others = layouts(&self.root)?;
        others.retain(|directory| *directory != self.directory);
        Ok(others)
    }
}

/// Removes all that a daemon has pinned in a directory, and the directory itself.
///
/// # Errors
///
/// When a daemon has it, or something cannot be removed.
pub(crate) fn unpin(root: &Path) -> Result<Removed> {
    let mut removed = Removed::default();
    if !root.exists() {
        return Ok(removed);
    }
    let _lock = lock(root)?;
    for directory in layouts(root)? {
        let other = remove_layout(&directory)?;
        removed.links += other.links;
        removed.maps += other.maps;
    }
    // Somebody else may have made it, and may have something in it.
    let _ = fs::remove_dir(root);
    Ok(removed)
}

/// Removes the pins of one layout: the links first, so that nothing fills the maps any more.
pub(super) fn remove_layout(directory: &Path) -> Result<Removed> {
    let mut removed = Removed::default();
    let (maps, links): (Vec<_>, Vec<_>) = entries(directory)?
        .into_iter()
        .partition(|path| is_map(path));
    for path in &links {
        remove_file(path)?;
        removed.links += 1;
    }
    for path in &maps {
        remove_file(path)?;
        removed.maps += 1;
    }
    fs::remove_dir(directory).with_context(|| format!("remove {}", directory.display()))?;
    Ok(removed)
}

fn layouts(root: &Path) -> Result<Vec<PathBuf>> {
    let mut layouts = entries(root)?;
    layouts.retain(|path| is_name(name_of(path)));
    Ok(layouts)
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let list = || {
        fs::read_dir(directory)?
            .map(|entry| Ok(entry?.path()))
            .collect()
    };
    let list: std::io::Result<Vec<PathBuf>> = list();
    list.with_context(|| format!("list {}", directory.display()))
}

fn name_of(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
}

/// Maps are written in capitals, programs in small letters.
fn is_map(path: &Path) -> bool {
    let mut name = name_of(path).bytes();
    name.all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

fn remove_file(path: &Path) -> Result<()> {
    fs::remove_file(path).with_context(|| format!("remove the pin {}", path.display()))
}

fn make_directory(path: &Path) -> Result<()> {
    let made = DirBuilder::new().mode(0o700).create(path);
    match made {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("make {} for the pins (see --pin)", path.display()))
        }
        _ => Ok(()),
    }
}

/// Opens a directory, which must be in a bpffs for what is said of `pins`.
fn open_bpffs(directory: &Path, pins: &Path) -> Result<File> {
    let shown = pins.display();
    let file = File::open(directory)
        .with_context(|| format!("open {} (see --pin)", directory.display()))?;
    let mut facts = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: `facts` has room for what fstatfs(2) writes, and is read only when that has succeeded.
    let kind = unsafe {
        let failed = libc::fstatfs(file.as_raw_fd(), facts.as_mut_ptr()) != 0;
        (!failed).then(|| facts.assume_init().f_type as u32)
    };
    if kind != Some(BPF_FS_MAGIC) {
        bail!(
            "{shown} is not in a bpffs, and pins are kept nowhere else: give --pin a directory of one (`mount -t bpf bpf /sys/fs/bpf` makes one)"
        );
    }
    Ok(file)
}

/// Takes the directory, as long as the file is open.
fn lock(root: &Path) -> Result<File> {
    let shown = root.display();
    let file = open_bpffs(root, root)?;
    // SAFETY: takes a descriptor that is open, and no memory of ours.
    let locked = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
    if locked != 0 {
        bail!(
            "another closewatch has the pins in {shown}: stop it, or give --pin another directory"
        );
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Begun anew by every daemon: what a new entry of another map looks like, and what a packet is read with.
    const BEGUN_ANEW: [&str; 4] = ["CANDIDATE", "NOTHING_EARLY", "NO_OPENING", "WINDOWS"];

    #[test]
    fn every_map_is_pinned_or_needs_not_be() {
        let layout = Layout::of(OBJECT).unwrap();
        for map in layout.maps().filter(|map| !is_of_tls(map)) {
            assert!(
                PINNED.contains(&map) != BEGUN_ANEW.contains(&map),
                "does {map} remember anything over a restart?"
            );
        }
        assert!(
            PINNED
                .iter()
                .all(|pinned| layout.maps().any(|map| map == *pinned))
        );
    }

    #[test]
    fn pins_are_refused_outside_a_bpffs() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("pins");
        for refused in [directory.path(), &missing] {
            let error = Pins::open(refused).err().unwrap().to_string();
            assert!(error.contains("is not in a bpffs"), "{error}");
        }
        assert!(!missing.exists(), "a folder was left that is of no use");
    }
}
