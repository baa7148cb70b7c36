//! Why a kernel that has all that is asked for does not take the probes.

use std::{fs, io};

use anyhow::Error;
use procfs::{
    process::{LimitValue, Process},
    sys::kernel::Version,
};

use super::facts::lockdown;

/// From here on the memory of maps and programs counts for the cgroup, and no longer towards RLIMIT_MEMLOCK.
const MEMLOCK_UNTIL: (u8, u8) = (5, 11);
/// What a kernel whose lockdown is in confidentiality mode does not know, by its name in the verifier's words.
const FORBIDDEN: &str = "bpf_probe_read_kernel";
/// Its sentence, also where the mode is not shown to this process.
pub(super) const CONFIDENTIAL: &str = "the kernel's lockdown is in confidentiality mode, in which no program may \
                                       read its memory: boot with lockdown=integrity or without it";

/// What is known of why a system call was refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Circumstances {
    /// How much memory may be locked, in bytes, where the kernel counts the probes' and it is limited.
    pub(super) memlock: Option<u64>,
    /// A filter of system calls is on this process.
    pub(super) is_filtered: bool,
    /// The active mode of the kernel's lockdown; none where it is not told.
    pub(super) lockdown: Option<String>,
    /// The security modules, as the kernel lists them.
    pub(super) modules: String,
}

/// The sentence for an error that comes again; none for one that may pass.
pub(super) fn explain(error: &Error) -> Option<String> {
    let errno = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error());
    let told = format!("{error:#}");
    if told.contains(FORBIDDEN) {
        return Some(CONFIDENTIAL.to_owned());
    }
    match errno {
        Some(libc::EPERM) => Some(refused(&told, &Circumstances::gather())),
        // The cgroup went meanwhile, or memory, descriptors or time are short.
        Some(
            libc::ENOENT | libc::ENOMEM | libc::EMFILE | libc::ENFILE | libc::EAGAIN | libc::EINTR,
        ) => None,
        Some(_) | None => Some(format!(
            "the kernel refuses the probes: {told}; please report it"
        )),
    }
}

pub(super) fn refused(told: &str, circumstances: &Circumstances) -> String {
    let Circumstances {
        memlock,
        is_filtered,
        lockdown,
        modules,
    } = circumstances;
    let why = if let Some(bytes) = memlock {
        format!(
            "before Linux 5.11 the probes count as locked memory, of which this process may have {bytes} \
             bytes: set LimitMEMLOCK=infinity in its systemd unit, or run `ulimit -l unlimited` first"
        )
    } else if *is_filtered {
        "the capabilities are there, and a filter of system calls (seccomp) is on this process: let it use \
         bpf, with SystemCallFilter=bpf in its systemd unit or in the container's seccomp profile"
            .to_owned()
    } else {
        format!(
            "the capabilities are there, so a security module of this host forbids it (lockdown: {}; modules: \
             {modules}): allow this process bpf there",
            lockdown.as_deref().unwrap_or("unknown")
        )
    };
    format!("the kernel refuses the probes: {why} ({told})")
}

impl Circumstances {
    fn gather() -> Self {
        let version = Version::current().map(|version| (version.major, version.minor));
        let myself = Process::myself();
        let limited = myself.as_ref().ok().and_then(|myself| {
            match myself.limits().ok()?.max_locked_memory.soft_limit {
                LimitValue::Unlimited => None,
                LimitValue::Value(bytes) => Some(bytes),
            }
        });
        let filter = myself.and_then(|myself| myself.status());
        Self {
            memlock: limited.filter(|_| version.is_ok_and(|version| version < MEMLOCK_UNTIL)),
            is_filtered: filter.is_ok_and(|status| status.seccomp.is_some_and(|mode| mode != 0)),
            lockdown: lockdown(),
            modules: fs::read_to_string("/sys/kernel/security/lsm")
                .map_or_else(|_| "unknown".to_owned(), |list| list.trim().to_owned()),
        }
    }
}
