//! What this kernel and this process can do, in sentences.
//!
//! In: facts about the host. Out: one [`Finding`] for each prerequisite, with its remedy, and the
//! cgroups to work with. Changes nothing. `closewatch run` refuses with the same sentences.

use std::{
    error::Error,
    fmt,
    io::{self, Write},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use caps::{Capability, CapsHashSet};
use tracing::warn;

use self::{
    facts::{BTF, Facts, gather},
    refusal::{CONFIDENTIAL, explain},
};
use crate::{
    config::{Follow, Scope},
    probes::{Probes, Rejected},
    tls::Chosen,
};

mod facts;
mod refusal;
mod tls;

/// The oldest that the probes were made for; what it takes to load them, the probes themselves say.
const KERNEL_MIN: (u8, u8) = (5, 10);

/// The kernel frees maps that nobody has any more well within this.
const FREED_WITHIN: Duration = Duration::from_millis(200);

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

/// This host, or what this process may do, is not enough to run on: trying again changes nothing.
#[derive(Debug)]
pub(crate) struct Unfit(String);

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Unfit {}

/// `closewatch check`: prints every finding. An error if one is missing.
pub(crate) fn print(scope: &Scope, follow: &[Follow]) -> Result<()> {
    let facts = gather(scope)?;
    let mut findings = judge(&facts);
    if findings.iter().all(|finding| finding.met) {
        let chosen = chosen_of_tls(follow, &facts);
        let is_wanted = !matches!(chosen, Ok(None));
        let probes = probes(is_wanted);
        let is_refused = is_wanted && !probes.met;
        findings.push(probes);
        match chosen {
            // Why TLS cannot be followed has been said.
            Ok(_) if is_refused => {}
            Ok(_) => {
                let facts = tls::Facts::gather(facts.capabilities);
                findings.push(tls::finding(&facts, is_wanted));
            }
            Err(error) => findings.push(Finding {
                met: false,
                sentence: format!("{error:#}"),
            }),
        }
    }
    let mut out = io::stdout().lock();
    for finding in &findings {
        writeln!(out, "{finding}").context("write to stdout")?;
    }
    if findings.iter().any(|finding| !finding.met) {
        return Err(Unfit("`closewatch run` would not work here".to_owned()).into());
    }
    Ok(())
}

/// What `closewatch run` works with; of TLS, what it is to follow.
///
/// # Errors
///
/// [`Unfit`] with a sentence for each thing that is missing, or that the host cannot be looked at.
pub(crate) fn require(scope: &Scope, follow: &[Follow]) -> Result<(Cgroup, Option<Chosen>)> {
    let facts = gather(scope)?;
    refuse(&judge(&facts))?;
    if !facts.is_whole {
        warn!("only the part of a cgroup namespace is watched: see `closewatch check`");
    }
    let chosen = chosen_of_tls(follow, &facts).map_err(|error| Unfit(format!("{error:#}")))?;
    if chosen.is_some() {
        let facts = tls::Facts::gather(facts.capabilities.clone());
        refuse(&[tls::finding(&facts, true)])?;
        if facts.returns_are_filtered {
            warn!("{}", tls::KILLS);
        }
    }
    Ok((facts.cgroup()?, chosen))
}

fn chosen_of_tls(follow: &[Follow], facts: &Facts) -> Result<Option<Chosen>> {
    let mount = facts.cgroup_mount.as_deref();
    Chosen::of(follow, mount.context("cgroup v2 is not mounted")?)
}

/// What to say of probes that the kernel did not take: [`Unfit`] where it would not take them the next time
/// either. `tls`: they were those for TLS, too.
pub(crate) fn refused(error: anyhow::Error, tls: bool) -> anyhow::Error {
    match explain(&error) {
        Some(sentence) if error.is::<Rejected>() => Unfit(advise(sentence, tls)).into(),
        _ => error,
    }
}

/// Adds to why probes are refused, `tls` among them, that the kernel takes the others, where it does.
fn advise(mut sentence: String, tls: bool) -> String {
    if tls {
        // What it took of them counts until it is freed, which another thread of the kernel does.
        thread::sleep(FREED_WITHIN);
        if Probes::load(None, false).is_ok() {
            sentence += "; TLS cannot be followed here then, all else can: leave --tls out";
        }
    }
    sentence
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
        return Err(Unfit(format!("cannot watch this host: {}", missing.join("; "))).into());
    }
    Ok(())
}

fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![
        kernel(facts.kernel),
        mount(
            facts.cgroup_mount.as_deref(),
            facts.is_whole,
            facts.cgroup_v1,
        ),
    ];
    if let Some((path, is_cgroup2)) = &facts.cgroup_chosen {
        findings.push(chosen(path, *is_cgroup2));
    }
    findings.push(btf(facts.btf));
    if facts.is_confidential {
        findings.push(Finding {
            met: false,
            sentence: CONFIDENTIAL.to_owned(),
        });
    }
    findings.push(if facts.is_user_namespace {
        user_namespace()
    } else {
        capabilities(&facts.capabilities)
    });
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

fn mount(mount: Option<&Path>, is_whole: bool, cgroup_v1: bool) -> Finding {
    let sentence = match mount {
        Some(mount) if is_whole => format!("cgroup v2 is mounted at {}", mount.display()),
        Some(mount) => format!(
            "cgroup v2 is mounted at {}, but shows only the part of a cgroup namespace: nothing \
             outside it is watched (share the host's cgroup namespace to watch the host)",
            mount.display()
        ),
        None if cgroup_v1 => {
            "only cgroup v1 is mounted: boot with systemd.unified_cgroup_hierarchy=1, or run `mkdir \
             /run/cgroup2 && mount -t cgroup2 none /run/cgroup2`"
                .to_owned()
        }
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

fn user_namespace() -> Finding {
    Finding {
        met: false,
        sentence:
            "this process is in a user namespace, where capabilities, root's too, do not reach the \
                   kernel's probes: run it in the host's user namespace"
                .to_owned(),
    }
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
fn probes(tls: bool) -> Finding {
    let loaded = Probes::load(None, tls);
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
        Err(error) => {
            let sentence = explain(error);
            let sentence = sentence.unwrap_or_else(|| format!("the probes do not load: {error:#}"));
            advise(sentence, tls)
        }
    };
    Finding {
        met: loaded.is_ok(),
        sentence,
    }
}

#[cfg(test)]
mod tests;
