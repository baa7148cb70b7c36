//! `perf_event_open` of uprobes: a program at an instruction of a file, for one process or for all.

use std::{
    ffi::CString,
    fs::{self, File},
    io::{Error, Result as IoResult},
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    path::Path,
    process,
};

use anyhow::{Context as _, Result};

/// Where the kernel describes this kind of probe.
const DESCRIPTION: &str = "/sys/bus/event_source/devices/uprobe";

// Kernel: include/uapi/linux/perf_event.h.
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 8;
const PERF_EVENT_IOC_ENABLE: libc::c_ulong = 0x2400;
const PERF_EVENT_IOC_SET_BPF: libc::c_ulong = 0x4004_2408;

/// The first version of `struct perf_event_attr` that has all that uprobes take.
#[derive(Default)]
#[repr(C)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_type: u32,
    uprobe_path: u64,
    probe_offset: u64,
}

/// How this kernel numbers its probes.
pub(super) struct Uprobes {
    kind: u32,
    /// In `config`.
    return_bit: u32,
}

/// Where a program is to run.
pub(super) struct Where<'a> {
    pub(super) file: BorrowedFd<'a>,
    /// Of the instruction, in the file.
    pub(super) offset: u64,
    /// At the return of the function that begins there, and not at its beginning.
    pub(super) is_return: bool,
    /// None: in all that run the file.
    pub(super) process: Option<u32>,
}

/// Whether this kernel has uprobes.
pub(crate) fn has_uprobes() -> bool {
    fs::exists(DESCRIPTION).unwrap_or(false)
}

/// Places a probe and takes it away: at the first byte of this program's file, which is not run.
///
/// # Errors
///
/// When the kernel refuses.
pub(crate) fn try_uprobe() -> IoResult<()> {
    let file = File::open("/proc/self/exe")?;
    let uprobes = Uprobes::find().map_err(Error::other)?;
    let place = Where {
        file: file.as_fd(),
        offset: 0,
        is_return: false,
        process: Some(process::id()),
    };
    uprobes.open(&place).map(drop)
}

impl Uprobes {
    /// # Errors
    ///
    /// When this kernel has no uprobes.
    pub(super) fn find() -> Result<Self> {
        let read = |file: &str| {
            let path = Path::new(DESCRIPTION).join(file);
            fs::read_to_string(&path)
                .with_context(|| format!("read {} (CONFIG_UPROBE_EVENTS)", path.display()))
        };
        let kind = read("type")?;
        let bit = read("format/retprobe")?;
        let bit = bit.trim().strip_prefix("config:").unwrap_or_default();
        Ok(Self {
            kind: kind.trim().parse().context("read the number of uprobes")?,
            return_bit: bit.parse().context("read the bit of uretprobes")?,
        })
    }

    /// Attaches a program, until the descriptor is closed.
    pub(super) fn attach(&self, program: BorrowedFd<'_>, place: Where<'_>) -> IoResult<OwnedFd> {
        let event = self.open(&place)?;
        let program = program.as_raw_fd();
        // SAFETY: both take descriptors that are open, and numbers; neither changes memory of ours.
        unsafe {
            control(&event, PERF_EVENT_IOC_SET_BPF, program)?;
            control(&event, PERF_EVENT_IOC_ENABLE, 0)?;
        }
        Ok(event)
    }

    /// Places a probe without a program, until the descriptor is closed.
    pub(super) fn open(&self, place: &Where<'_>) -> IoResult<OwnedFd> {
        // The file that is open, whatever has its path by now, and whether or not this process sees that path.
        let path = CString::new(format!("/proc/thread-self/fd/{}", place.file.as_raw_fd()))?;
        let attributes = Attributes {
            kind: self.kind,
            size: size_of::<Attributes>() as u32,
            config: u64::from(place.is_return) << self.return_bit,
            uprobe_path: path.as_ptr() as u64,
            probe_offset: place.offset,
            ..Attributes::default()
        };
        // Of one process on every CPU; or of all, and then on one, which stands for every other.
        let (process, cpu) = match place.process {
            Some(process) => (process.cast_signed(), -1),
            None => (-1, 0),
        };
        // SAFETY: the attributes are of the size that they say; `path` outlives the call, which gives a descriptor
        // that nobody else owns.
        unsafe {
            let fd = libc::syscall(
                libc::SYS_perf_event_open,
                &raw const attributes,
                process,
                cpu,
                -1,
                PERF_FLAG_FD_CLOEXEC,
            );
            if fd < 0 {
                return Err(Error::last_os_error());
            }
            Ok(OwnedFd::from_raw_fd(fd as i32))
        }
    }
}

/// # Safety
///
/// `request` takes a number as its argument.
unsafe fn control(event: &OwnedFd, request: libc::c_ulong, argument: i32) -> IoResult<()> {
    // SAFETY: the caller's. musl and glibc differ in the type of a request.
    let result = unsafe { libc::ioctl(event.as_raw_fd(), request as _, argument) };
    if result < 0 {
        return Err(Error::last_os_error());
    }
    Ok(())
}
