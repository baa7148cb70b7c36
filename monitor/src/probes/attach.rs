//! The hooks: where each program is attached, and whether it still is.

use std::{
    fs::{self, File},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result};
use aya::programs::BtfTracePoint;

use super::{
    Probes,
    syscalls::link_to_cgroup,
    variant::{Hook, PACKETS, Place},
};

impl Probes {
    /// The hooks, in the order in which they are attached: the socket's end first, so that no connection is
    /// ever begun whose end would not be seen.
    fn hooks(&self) -> impl Iterator<Item = Hook> + use<> {
        self.ends.hooks().into_iter().chain(PACKETS)
    }

    /// Attaches the programs of the tracepoint.
    pub(super) fn attach_to_tracepoint(&mut self) -> Result<()> {
        for (name, place) in self.hooks() {
            if place != Place::State {
                continue;
            }
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
        for (name, place) in self.hooks() {
            if let Place::Cgroup(attach_type) = place {
                let link = link_to_cgroup(self.descriptor(name)?, file.as_fd(), attach_type);
                let link = link.with_context(|| format!("attach {name} to the cgroup {cgroup}"))?;
                links.push((name, link));
            }
        }
        self.links = links;
        Ok(())
    }

    /// Whether each hook is attached. The tracepoint's are as long as this lives. Those of the cgroup
    /// go with it, and a service gets a new one of the same path when it restarts.
    pub(crate) fn attached(&self) -> Vec<(&'static str, bool)> {
        let of_cgroup = |name| self.links.iter().find(|(other, _)| *other == name);
        self.hooks()
            .map(|(name, _)| {
                (
                    name,
                    of_cgroup(name).is_none_or(|(_, link)| is_attached(link)),
                )
            })
            .collect()
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
