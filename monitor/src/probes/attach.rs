//! The hooks: where each program is attached, and whether it still is.

use std::{
    fs::{self, File},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result};
use aya::programs::BtfTracePoint;

use super::{Probes, syscalls::link_to_cgroup};

/// The hooks that carry events, by the names of their programs.
const PROBES: [&str; 4] = [OF_CGROUP[0].0, OF_CGROUP[1].0, STATE[0], STATE[1]];

/// Those of the cgroup, and `BPF_CGROUP_INET_EGRESS` and `BPF_CGROUP_INET_INGRESS`.
pub(super) const OF_CGROUP: [(&str, u32); 2] = [("observe_egress", 1), ("observe_ingress", 0)];

/// The tracepoint's two programs: the second runs where the kernel skips the first.
pub(super) const STATE: [&str; 2] = ["observe_state", "observe_state_nested"];

impl Probes {
    /// Attaches the programs of the tracepoint.
    pub(super) fn attach_to_tracepoint(&mut self) -> Result<()> {
        for name in STATE {
            let program: &mut BtfTracePoint = self.program(name)?;
            program
                .attach()
                .with_context(|| format!("attach {name} to inet_sock_set_state"))?;
        }
        Ok(())
    }

    /// Attaches the hooks of the cgroup to what has its path now.
    ///
    /// # Errors
    ///
    /// When there is none, or the kernel refuses.
    pub(crate) fn attach_to_cgroup(&mut self) -> Result<()> {
        let cgroup = self.cgroup.display();
        let file = File::open(&self.cgroup).with_context(|| format!("open the cgroup {cgroup}"))?;
        let mut links = Vec::new();
        for (name, attach_type) in OF_CGROUP {
            let link = link_to_cgroup(self.descriptor(name)?, file.as_fd(), attach_type);
            links.push(link.with_context(|| format!("attach {name} to the cgroup {cgroup}"))?);
        }
        self.links = links;
        Ok(())
    }

    /// Whether each of `PROBES` is attached. The tracepoint's are as long as this lives. Those of the cgroup
    /// go with it, and a service gets a new one of the same path when it restarts.
    pub(crate) fn attached(&self) -> [(&'static str, bool); PROBES.len()] {
        PROBES.map(|name| {
            let place = OF_CGROUP
                .iter()
                .position(|(of_cgroup, _)| *of_cgroup == name);
            let link = place.and_then(|place| self.links.get(place));
            (name, link.is_none_or(is_attached))
        })
    }
}

/// Whether a link to a cgroup is attached: the kernel says cgroup 0 of one that is not any more.
fn is_attached(link: &OwnedFd) -> bool {
    let facts = fs::read_to_string(format!("/proc/self/fdinfo/{}", link.as_raw_fd()));
    let is_gone = |line: &str| {
        line.strip_prefix("cgroup_id:")
            .is_some_and(|id| id.trim() == "0")
    };
    !facts.unwrap_or_default().lines().any(is_gone)
}
