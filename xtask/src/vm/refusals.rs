//! Kernels and privileges on which closewatch does not run: each must be told in a sentence, with its exit code.

use super::Kernel;

/// What `closewatch check` must say somewhere, and end with 3.
pub(super) struct Refusal {
    pub(super) name: &'static str,
    pub(super) kernel: Kernel,
    /// Of the kernel.
    pub(super) command_line: &'static str,
    pub(super) command: &'static str,
    pub(super) words: &'static str,
}

pub(super) const REFUSALS: [Refusal; 4] = [
    Refusal {
        name: "lockdown in confidentiality mode",
        kernel: Kernel::V6_12,
        command_line: "lockdown=confidentiality",
        command: "mount -t securityfs security /sys/kernel/security; closewatch check",
        words: "boot with lockdown=integrity or without it",
    },
    Refusal {
        name: "RLIMIT_MEMLOCK of 64 KiB",
        kernel: Kernel::V5_10,
        command_line: "",
        command: "ulimit -l 64; setpriv --bounding-set=-sys_resource --inh-caps=-sys_resource closewatch check",
        words: "set LimitMEMLOCK=infinity",
    },
    Refusal {
        name: "RLIMIT_MEMLOCK that is enough but for TLS",
        kernel: Kernel::V5_10,
        command_line: "",
        command: "ulimit -l 65536; setpriv --bounding-set=-sys_resource --inh-caps=-sys_resource closewatch check --tls auto",
        words: "TLS cannot be followed here then, all else can",
    },
    Refusal {
        name: "cgroup v2 not mounted",
        kernel: Kernel::V6_1,
        command_line: "",
        command: "umount /sys/fs/cgroup; closewatch check",
        words: "cgroup v2",
    },
];
