//! Keeps the hooks attached: the kernel takes them away with the cgroup that is watched, and whoever may load
//! programs can detach them.

use anyhow::{Result, bail};
use tracing::{info, warn};

use super::Daemon;
use crate::{
    metrics::{Metrics, Search},
    probes::Probes,
};

/// Looks for connections that are open already. Once the hooks are there, so that none falls between the two.
pub(super) fn find_candidates(probes: &mut Probes, metrics: &mut Metrics) {
    if let Some(unseen) = probes.ends().unseen() {
        return info!("this kernel tells less than Linux 5.11: {unseen}");
    }
    if let Err(error) = probes.find_candidates() {
        metrics.sight.search_failed(Search::Open);
        warn!(
            "connections that are open already stay unseen until they are opened anew: {error:#} (`closewatch check` tells what this process lacks)"
        );
    }
}

impl Daemon {
    /// Attaches to the cgroup that has come in the place of one that went: a service that restarts gets
    /// a new one; or once more to the same, when another program detached the hooks. What opened before that is a
    /// candidate, as at the start.
    ///
    /// # Errors
    ///
    /// When the whole hierarchy is watched, which never goes: then somebody detached the probes, and this
    /// process may not attach them any more.
    pub(super) fn keep_attached(&mut self) -> Result<()> {
        let attached = self.probes.attached();
        if attached.iter().all(|(_, attached)| *attached) {
            return Ok(());
        }
        if !self.kept.can_attach() {
            bail!(
                "another program detached the probes, and what attaching takes was given up at the start: start closewatch anew"
            );
        }
        let detached = self.probes.has_its_cgroup();
        let again = self.probes.attach_to_cgroup();
        self.metrics.attached(&self.probes.attached());
        match again {
            Ok(()) if detached => {
                warn!(
                    "another program detached the probes: they are attached again, and what closed meanwhile may be judged wrongly"
                );
                find_candidates(&mut self.probes, &mut self.metrics);
            }
            Ok(()) => {
                info!("the watched cgroup was replaced: probes attached to the new one");
                find_candidates(&mut self.probes, &mut self.metrics);
            }
            Err(error) if !self.detached_told => {
                warn!(
                    "the watched cgroup is gone, and nothing is seen until it is there again: {error:#}"
                );
            }
            Err(_) => {}
        }
        self.detached_told = self.probes.attached().iter().any(|(_, attached)| !attached);
        Ok(())
    }
}
