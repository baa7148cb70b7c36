//! Which programs this kernel can run.
//!
//! Packets are followed by the same two programs everywhere. For the end of a socket there are two ways, and
//! which one this kernel has is found by trying: version numbers say little of kernels with changes of their
//! own.

use std::{env, fmt};

/// How the end of a socket is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    /// The tracepoint `inet_sock_set_state`, whose programs reach the storage of sockets from Linux 5.11 on.
    Tracepoint,
    /// The callbacks of `sock_ops` and `cgroup/sock_release`.
    Callbacks,
}

/// Where a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The tracepoint `inet_sock_set_state`.
    State,
    /// The watched cgroup, with this attach type.
    Cgroup(u32),
}

// Kernel: `enum bpf_attach_type`.
pub(super) const INGRESS: Place = Place::Cgroup(0);
pub(super) const EGRESS: Place = Place::Cgroup(1);
pub(super) const OPERATIONS: Place = Place::Cgroup(3);
pub(super) const RELEASE: Place = Place::Cgroup(34);

/// A program, by its name, and where it is attached.
pub(super) type Hook = (&'static str, Place);

/// What follows packets.
pub(super) const PACKETS: [Hook; 2] = [("observe_egress", EGRESS), ("observe_ingress", INGRESS)];

/// Of the tracepoint's two programs the second runs where the kernel skips the first.
pub(super) const TRACEPOINT: [Hook; 2] = [
    ("observe_state", Place::State),
    ("observe_state_nested", Place::State),
];

const CALLBACKS: [Hook; 2] = [("observe_end", OPERATIONS), ("observe_close", RELEASE)];

/// Tests set this to `callbacks`, to run on any kernel what the oldest ones run.
const FORCED: &str = "CLOSEWATCH_TEST_ENDS";

impl Ends {
    /// Whether a test wants the tracepoint left alone.
    pub(super) fn forced() -> bool {
        env::var_os(FORCED).is_some_and(|ends| ends == "callbacks")
    }

    /// What sees the end.
    pub(super) fn hooks(self) -> [Hook; 2] {
        match self {
            Self::Tracepoint => TRACEPOINT,
            Self::Callbacks => CALLBACKS,
        }
    }

    /// What this kernel does not let be seen, in a sentence; none where it lets everything.
    pub(crate) fn unseen(self) -> Option<&'static str> {
        match self {
            Self::Tracepoint => None,
            Self::Callbacks => Some(
                "connections that were open before the start are not adopted; those established before it \
                 whose WebSocket opens later end without a record, counted as swept; who called shutdown \
                 is not known",
            ),
        }
    }
}

impl fmt::Display for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tracepoint => "by the tracepoint inet_sock_set_state",
            Self::Callbacks => "by sock_ops and cgroup/sock_release",
        })
    }
}
