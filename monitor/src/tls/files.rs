//! The files that processes run, and what functions of TLS each of them has: read once for each file.
//!
//! In: mappings. Out: what is known of their files. A file is read anew when its size or one of its times has changed,
//! and forgotten when nobody has mapped it any more.

use std::{
    collections::HashMap,
    fs::{self, File, Metadata},
    io,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::PathBuf,
    rc::Rc,
};

use tracing::{debug, warn};

use super::{
    maps::{Key, Mapped},
    symbols,
};
use crate::probes::Function;

/// Kernel: `OVERLAYFS_SUPER_MAGIC` in include/uapi/linux/magic.h.
const OVERLAYFS_SUPER_MAGIC: u32 = 0x794c_7630;

/// A file by what it is below overlays: there the kernel's probes are on the file of the layer, which several
/// overlays show, each with a device of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    /// None in an overlay.
    device: Option<u64>,
    inode: u64,
    stamp: Stamp,
}

/// What changes when a file gets other contents, or its inode to another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Stamp {
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Identity {
    /// Its device and inode, where that is how it is seen.
    pub(super) fn on_device(&self) -> Option<(u64, u64)> {
        Some((self.device?, self.inode))
    }
}

/// A file that has functions of TLS.
#[derive(Debug)]
pub(super) struct Library {
    pub(super) identity: Identity,
    /// As the process sees it that was found first.
    pub(super) path: PathBuf,
    pub(super) functions: Vec<(Function, u64)>,
    /// Which OpenSSL it says that it is.
    pub(super) version: Option<String>,
    /// Where their probes go.
    pub(super) places: Vec<(Function, u64)>,
}

impl Library {
    pub(super) fn has(&self, function: Function) -> bool {
        self.functions.iter().any(|(other, _)| *other == function)
    }

    /// Whether it speaks TLS, and is not only what another such library stands on.
    pub(super) fn speaks_tls(&self) -> bool {
        self.has(Function::Write)
    }

    /// The first function that it lacks though it should have it.
    pub(super) fn lacks(&self) -> Option<Function> {
        // The last may be in another file.
        let needed = Function::ALL.into_iter();
        let mut needed =
            needed.filter(|function| !function.is_optional() && *function != Function::BioWrite);
        needed.find(|function| self.speaks_tls() && !self.has(*function))
    }
}

#[derive(Default)]
pub(super) struct Files {
    known: HashMap<Key, Known>,
    round: u64,
    /// How many could not be opened, since the start.
    pub(super) unreadable: u64,
}

struct Known {
    stamp: Option<Stamp>,
    library: Option<Rc<Library>>,
    /// The round in which it was looked at last.
    round: u64,
}

impl Files {
    /// Begins a round, in which each file is looked at once, however many have mapped it.
    pub(super) fn begin(&mut self) {
        self.round += 1;
    }

    /// Forgets what nobody has mapped any more, after a round in which all processes were looked at.
    pub(super) fn forget(&mut self) {
        self.known.retain(|_, known| known.round == self.round);
    }

    /// What is known of a file that a process has mapped; none where it has nothing to do with TLS.
    pub(super) fn library(&mut self, pid: u32, mapped: &Mapped) -> Option<Rc<Library>> {
        let round = self.round;
        if let Some(known) = self.known.get_mut(&mapped.key) {
            if known.round == round {
                return known.library.clone();
            }
            let stamp = metadata(pid, mapped)
                .ok()
                .map(|metadata| Stamp::of(&metadata));
            // The process may have ended meanwhile, and somebody else may show what became of the file.
            if stamp.is_none() || stamp == known.stamp {
                known.round = round;
                return known.library.clone();
            }
        }
        let (stamp, library) = match look(pid, mapped) {
            Ok((stamp, library)) => (Some(stamp), library),
            Err(error) => {
                // Or the process has ended, or unmapped it.
                let is_gone = error.kind() == io::ErrorKind::NotFound
                    || error.raw_os_error() == Some(libc::ESRCH);
                if !is_gone {
                    let file = mapped.path.display();
                    if self.unreadable == 0 {
                        warn!(%file, process = pid, "whether TLS is in this file, and others perhaps, is not known: {error}");
                    } else {
                        debug!(%file, process = pid, "whether TLS is in this file is not known: {error}");
                    }
                    self.unreadable += 1;
                }
                (None, None)
            }
        };
        let library = library.map(Rc::new);
        let known = Known {
            stamp,
            library: library.clone(),
            round,
        };
        self.known.insert(mapped.key, known);
        library
    }
}

fn look(pid: u32, mapped: &Mapped) -> io::Result<(Stamp, Option<Library>)> {
    let file = open(pid, mapped)?;
    let metadata = file.metadata()?;
    let stamp = Stamp::of(&metadata);
    let functions = symbols::functions(&file);
    if functions.is_empty() {
        return Ok((stamp, None));
    }
    let identity = Identity {
        device: (!is_in_overlay(&file)).then_some(metadata.dev()),
        inode: metadata.ino(),
        stamp,
    };
    let library = Library {
        identity,
        path: mapped.path.clone(),
        version: symbols::version(&file),
        places: symbols::places(&file, &functions),
        functions,
    };
    Ok((stamp, Some(library)))
}

/// Opens the very file that a process has mapped: also where it is deleted, or out of this process's sight. Without the
/// privilege for that, by its path as the process sees it, which must still be that file's.
pub(super) fn open(pid: u32, mapped: &Mapped) -> io::Result<File> {
    let refused = match File::open(mapping(pid, mapped)) {
        Ok(file) => return Ok(file),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => error,
        Err(error) => return Err(error),
    };
    if mapped.is_deleted {
        return Err(refused);
    }
    let file = File::open(seen(pid, mapped))?;
    if file.metadata()?.ino() != mapped.key.inode {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(file)
}

fn metadata(pid: u32, mapped: &Mapped) -> io::Result<Metadata> {
    match fs::metadata(mapping(pid, mapped)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !mapped.is_deleted => {
            fs::metadata(seen(pid, mapped))
        }
        found => found,
    }
}

fn mapping(pid: u32, mapped: &Mapped) -> String {
    format!("/proc/{pid}/map_files/{}", mapped.range)
}

fn seen(pid: u32, mapped: &Mapped) -> PathBuf {
    let below = mapped.path.strip_prefix("/").unwrap_or(&mapped.path);
    PathBuf::from(format!("/proc/{pid}/root")).join(below)
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

fn is_in_overlay(file: &File) -> bool {
    let mut facts = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: `facts` has room for what fstatfs(2) writes, and is read only when that has succeeded.
    unsafe {
        libc::fstatfs(file.as_raw_fd(), facts.as_mut_ptr()) == 0
            && facts.assume_init().f_type as u32 == OVERLAYFS_SUPER_MAGIC
    }
}
