//! What this kernel and this process can do, in sentences.
//!
//! In: facts about the host. Out: one [`Finding`] for each prerequisite, with its remedy, and the
//! cgroups to work with. Changes nothing. `closewatch run` refuses with the same sentences.

use std::{
    fmt, fs,
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use caps::{CapSet, Capability, CapsHashSet};
use procfs::{process::Process, sys::kernel::Version};
use tracing::warn;

use crate::{config::Scope, probes::Probes};

/// The oldest that the probes were made for; what it takes to load them, the probes themselves say.
const KERNEL_MIN: (u8, u8) = (5, 10);
const BTF: &str = "/sys/kernel/btf/vmlinux";
/// The inode of the root of a cgroup hierarchy.
const ROOT_INODE: u64 = 1;

/// Where the probes go, and where the names of cgroups start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cgroup {
    /// What the probes are attached to.
    pub(crate) watched: PathBuf,
    /// The mount point of cgroup v2.
    pub(crate) mount: PathBuf,
}

/// One prerequisite: met, or missing with its remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    met: bool,
    sentence: String,
}

/// What is known of the host.
struct Facts {
    kernel: (u8, u8),
    cgroup_mount: Option<PathBuf>,
    /// The mount shows the whole hierarchy, and not the part of a cgroup namespace.
    is_whole: bool,
    /// `--cgroup`, and whether it is a directory of cgroup v2.
    cgroup_chosen: Option<(PathBuf, bool)>,
    btf: bool,
    capabilities: CapsHashSet,
}

/// `closewatch check`: prints every finding. An error if one is missing.
pub(crate) fn print(scope: &Scope) -> Result<()> {
    let mut findings = judge(&gather(scope)?);
    if findings.iter().all(|finding| finding.met) {
        findings.push(probes());
    }
    let mut out = io::stdout().lock();
    for finding in &findings {
        writeln!(out, "{finding}").context("write to stdout")?;
    }
    if findings.iter().any(|finding| !finding.met) {
        bail!("`closewatch run` would not work here");
    }
    Ok(())
}

/// What `closewatch run` works with. An error says what is missing.
pub(crate) fn require(scope: &Scope) -> Result<Cgroup> {
    let facts = gather(scope)?;
    refuse(&judge(&facts))?;
    if !facts.is_whole {
        warn!("only the part of a cgroup namespace is watched: see `closewatch check`");
    }
    facts.cgroup()
}

impl Facts {
    fn cgroup(self) -> Result<Cgroup> {
        let mount = self.cgroup_mount.context("cgroup v2 is not mounted")?;
        let watched = self
            .cgroup_chosen
            .map_or_else(|| mount.clone(), |(path, _)| path);
        Ok(Cgroup { watched, mount })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.met { "ok     " } else { "missing" };
        write!(f, "{word}  {}", self.sentence)
    }
}

fn refuse(findings: &[Finding]) -> Result<()> {
    let missing: Vec<&str> = findings
        .iter()
        .filter(|f| !f.met)
        .map(|f| f.sentence.as_str())
        .collect();
    if !missing.is_empty() {
        bail!("cannot watch this host: {}", missing.join("; "));
    }
    Ok(())
}

fn gather(scope: &Scope) -> Result<Facts> {
    let kernel = Version::current().context("read the kernel version from /proc/sys/kernel")?;
    let mounts = Process::myself()
        .and_then(|myself| myself.mountinfo())
        .context("read /proc/self/mountinfo")?;
    let mounts = mounts
        .into_iter()
        .filter(|mount| mount.fs_type == "cgroup2")
        .map(|mount| (mount.root == "/", mount.mount_point));
    let cgroup_mount = mount_of_most(mounts);
    Ok(Facts {
        kernel: (kernel.major, kernel.minor),
        is_whole: cgroup_mount.as_deref().is_some_and(shows_all),
        cgroup_mount,
        cgroup_chosen: scope.cgroup.clone().map(|path| {
            let is_cgroup2 = is_cgroup2(&path);
            (path, is_cgroup2)
        }),
        btf: fs::exists(BTF).unwrap_or(false),
        capabilities: caps::read(None, CapSet::Effective).context("read the capabilities")?,
    })
}

/// The mount point that shows the most: the whole hierarchy, which in a container may be mounted beside its own part,
/// or else all of a cgroup namespace (its root is `/`), and not one cgroup by itself.
fn mount_of_most(mounts: impl Iterator<Item = (bool, PathBuf)>) -> Option<PathBuf> {
    let mut of_namespace = None;
    for (is_of_namespace, mount) in mounts {
        if shows_all(&mount) {
            return Some(mount);
        }
        if is_of_namespace && of_namespace.is_none() {
            of_namespace = Some(mount);
        }
    }
    of_namespace
}

fn shows_all(mount: &Path) -> bool {
    fs::metadata(mount).is_ok_and(|root| root.ino() == ROOT_INODE)
}

/// Only directories of cgroup v2 have this file.
fn is_cgroup2(directory: &Path) -> bool {
    directory.join("cgroup.controllers").is_file()
}

fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![
        kernel(facts.kernel),
        mount(facts.cgroup_mount.as_deref(), facts.is_whole),
    ];
    if let Some((path, is_cgroup2)) = &facts.cgroup_chosen {
        findings.push(chosen(path, *is_cgroup2));
    }
    findings.push(btf(facts.btf));
    findings.push(capabilities(&facts.capabilities));
    findings
}

fn kernel((major, minor): (u8, u8)) -> Finding {
    let (min_major, min_minor) = KERNEL_MIN;
    let met = (major, minor) >= KERNEL_MIN;
    let sentence = if met {
        format!("Linux {major}.{minor} is new enough")
    } else {
        format!(
            "Linux {major}.{minor} is too old for the probes: boot {min_major}.{min_minor} or newer"
        )
    };
    Finding { met, sentence }
}

fn mount(mount: Option<&Path>, is_whole: bool) -> Finding {
    let sentence = match mount {
        Some(mount) if is_whole => format!("cgroup v2 is mounted at {}", mount.display()),
        Some(mount) => format!(
            "cgroup v2 is mounted at {}, but shows only the part of a cgroup namespace: nothing \
             outside it is watched (share the host's cgroup namespace to watch the host)",
            mount.display()
        ),
        None => {
            "cgroup v2 is not mounted: run `mount -t cgroup2 none /sys/fs/cgroup`, or boot with \
                 systemd.unified_cgroup_hierarchy=1"
                .to_owned()
        }
    };
    Finding {
        met: mount.is_some(),
        sentence,
    }
}

fn chosen(path: &Path, is_cgroup2: bool) -> Finding {
    let path = path.display();
    let sentence = if is_cgroup2 {
        format!("{path} is a cgroup v2")
    } else {
        format!("{path} is no directory of cgroup v2: give --cgroup one, or leave it out")
    };
    Finding {
        met: is_cgroup2,
        sentence,
    }
}

fn btf(met: bool) -> Finding {
    let sentence = if met {
        format!("{BTF} describes the kernel's types")
    } else {
        format!("{BTF} is not there: use a kernel built with CONFIG_DEBUG_INFO_BTF=y")
    };
    Finding { met, sentence }
}

fn capabilities(effective: &CapsHashSet) -> Finding {
    let needed = [
        Capability::CAP_BPF,
        Capability::CAP_PERFMON,
        Capability::CAP_NET_ADMIN,
    ];
    let all_of_them = effective.contains(&Capability::CAP_SYS_ADMIN);
    let missing: Vec<String> = needed
        .iter()
        .filter(|capability| !all_of_them && !effective.contains(capability))
        .map(ToString::to_string)
        .collect();
    let sentence = if missing.is_empty() {
        "this process may load and attach the probes".to_owned()
    } else {
        format!(
            "this process needs {} to load and attach the probes: run it as root, or with \
             AmbientCapabilities= in its systemd unit",
            missing.join(", ")
        )
    };
    Finding {
        met: missing.is_empty(),
        sentence,
    }
}

/// The last word is the kernel's: loads every program, and attaches none.
fn probes() -> Finding {
    let loaded = Probes::load(None);
    let sentence = match &loaded {
        Ok(probes) => {
            let verified: Vec<String> = probes
                .verified()
                .into_iter()
                .map(|(name, instructions)| {
                    let instructions = instructions.map_or("?".to_owned(), |n| n.to_string());
                    format!("{name} {instructions}")
                })
                .collect();
            let ends = probes.ends();
            let unseen = ends.unseen().map_or(String::new(), |unseen| {
                format!("; this kernel tells less than Linux 5.11: {unseen}")
            });
            format!(
                "the kernel accepts the probes, and lets the end of a socket be seen {ends}{unseen} (instructions verified: {})",
                verified.join(", ")
            )
        }
        Err(error) => format!("the kernel refuses the probes: {error:#}; please report it"),
    };
    Finding {
        met: loaded.is_ok(),
        sentence,
    }
}

#[cfg(test)]
mod tests;
