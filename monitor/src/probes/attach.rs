//! The hooks: where each program is attached, and whether it still is.

use std::{
    fs::{self, File},
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt as _,
    },
};

use anyhow::{Context as _, Result};

use super::{
    Probes,
    syscalls::{link_to_cgroup, link_to_tracepoint, update_link},
    variant::{Hook, PACKETS, Place},
};

impl Probes {
    /// The hooks, in the order in which they are attached: the socket's end first, so that no connection is
    /// ever begun whose end would not be seen.
    fn hooks(&self) -> impl Iterator<Item = Hook> + use<> {
        self.ends.hooks().into_iter().chain(PACKETS)
    }

    /// Attaches every hook. Returns whether all of them were attached before, by a daemon that has pinned them.
    pub(super) fn attach_hooks(&mut self) -> Result<bool> {
        let cgroup = self.open_cgroup()?;
        let mut links = Vec::new();
        let mut all_were_attached = true;
        for (name, place) in self.hooks() {
            let (link, was_attached) = self.attach_hook(name, place, &cgroup)?;
            links.push((name, link));
            all_were_attached &= was_attached;
        }
        self.links = links;
        self.watched = inode(&cgroup);
        if let Some(pins) = &self.pins {
            // Another variant of the programs may have other hooks.
            pins.keep_only(|name| self.hooks().any(|(hook, _)| hook == name))?;
        }
        Ok(all_were_attached)
    }

    /// Attaches the hooks of the cgroup to what has its path now.
    ///
    /// # Errors
    ///
    /// When there is none, or the kernel refuses.
    pub(crate) fn attach_to_cgroup(&mut self) -> Result<()> {
        let cgroup = self.open_cgroup()?;
        for (index, (name, place)) in self.hooks().enumerate() {
            if place != Place::State {
                self.links[index].1 = self.attach_hook(name, place, &cgroup)?.0;
            }
        }
        self.watched = inode(&cgroup);
        Ok(())
    }

    /// Whether the cgroup that the hooks were attached to still has its path.
    pub(crate) fn has_its_cgroup(&self) -> bool {
        let there = self.open_cgroup().ok();
        there.is_some_and(|cgroup| inode(&cgroup) == self.watched)
    }

    fn open_cgroup(&self) -> Result<File> {
        let cgroup = &self.cgroup;
        File::open(cgroup).with_context(|| format!("open the cgroup {}", cgroup.display()))
    }

    /// Attaches one program, in the place of the pinned one if there is one, and pins it if pins are wanted.
    /// Returns also whether there was one.
    fn attach_hook(&self, name: &str, place: Place, cgroup: &File) -> Result<(OwnedFd, bool)> {
        let program = self.descriptor(name)?;
        let pins = self.pins.as_ref();
        let pinned = match pins {
            Some(pins) => pins.link(name)?,
            None => None,
        };
        let was_attached = pinned.is_some();
        let link = match place {
            Place::State => link_to_tracepoint(program)
                .with_context(|| format!("attach {name} to inet_sock_set_state"))?,
            Place::Cgroup(attach_type) => {
                if let Some(link) = pinned.filter(|link| is_of(link, cgroup)) {
                    update_link(link.as_fd(), program)
                        .with_context(|| format!("put {name} in the place of its predecessor"))?;
                    return Ok((link, true));
                }
                self.link_to(name, program, cgroup.as_fd(), attach_type)?
            }
        };
        if let Some(pins) = pins {
            pins.keep_link(name, &link)?;
        }
        // A link to another cgroup has not seen this one's packets.
        Ok((link, was_attached && place == Place::State))
    }

    fn link_to(
        &self,
        name: &str,
        program: BorrowedFd<'_>,
        cgroup: BorrowedFd<'_>,
        attach_type: u32,
    ) -> Result<OwnedFd> {
        let path = self.cgroup.display();
        link_to_cgroup(program, cgroup, attach_type)
            .with_context(|| format!("attach {name} to the cgroup {path}"))
    }

    /// Whether each hook is attached. The tracepoint's are as long as this lives. Those of the cgroup
    /// go with it, and a service gets a new one of the same path when it restarts.
    pub(crate) fn attached(&self) -> Vec<(&'static str, bool)> {
        let is_gone = |name| {
            let mut links = self.links.iter();
            links.any(|(other, link)| *other == name && cgroup_id(link) == Some(0))
        };
        self.hooks()
            .map(|(name, _)| (name, !is_gone(name)))
            .collect()
    }
}

/// The id of a cgroup.
fn inode(cgroup: &File) -> Option<u64> {
    cgroup.metadata().map(|metadata| metadata.ino()).ok()
}

/// Whether a link is attached to this very cgroup, and not to one that had its path before.
fn is_of(link: &OwnedFd, cgroup: &File) -> bool {
    let watched = inode(cgroup);
    watched.is_some() && cgroup_id(link) == watched
}

/// The cgroup that a link is attached to; 0 when that is gone.
fn cgroup_id(link: &OwnedFd) -> Option<u64> {
    let facts = fs::read_to_string(format!("/proc/self/fdinfo/{}", link.as_raw_fd())).ok()?;
    let id = facts
        .lines()
        .find_map(|line| line.strip_prefix("cgroup_id:"))?;
    id.trim().parse().ok()
}
