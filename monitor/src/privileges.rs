//! What the daemon may do, and gives up for good once the probes are attached.
//!
//! In: what the work ahead takes. Out: threads that may do that and no more. Capabilities belong to a thread
//! and are handed to those that it starts, so the order matters: [`bound`] before there is a second thread but that
//! of the log, which is there from the start and bounds itself, [`keep`] in each.

use std::{fmt, io};

use anyhow::{Context as _, Result};
use caps::{CapSet, Capability, CapsHashSet};

/// To place probes, and to open what a process has mapped, whatever became of its path. CAP_SYS_ADMIN does both.
const PLACING: [Capability; 2] = [Capability::CAP_PERFMON, Capability::CAP_CHECKPOINT_RESTORE];
/// To see what the processes of other users have loaded, and to pass through folders to it that are theirs alone:
/// `/proc/PID/map_files` is one.
const LOOKING: [Capability; 2] = [Capability::CAP_SYS_PTRACE, Capability::CAP_DAC_READ_SEARCH];

/// What each thread goes on with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The thread of the loop, and those that encode its answers.
    pub(crate) main: CapsHashSet,
    /// The thread that lists TIME_WAIT.
    pub(crate) time_wait: CapsHashSet,
    /// The thread that follows TLS.
    pub(crate) tls: CapsHashSet,
}

impl Kept {
    /// Of what this thread may do, what is still needed. `cgroup_may_go`: the cgroup that is watched may be
    /// replaced by another, which the probes are then attached to. `tls`: it is followed.
    ///
    /// # Errors
    ///
    /// When the kernel does not tell what this thread may do.
    pub(crate) fn of_now(cgroup_may_go: bool, tls: bool) -> Result<Self> {
        Ok(Self::of(&permitted()?, cgroup_may_go, tls))
    }

    fn of(permitted: &CapsHashSet, cgroup_may_go: bool, tls: bool) -> Self {
        let mut kept = Self::default();
        if cgroup_may_go && permitted.contains(&Capability::CAP_NET_ADMIN) {
            kept.main.insert(Capability::CAP_NET_ADMIN);
        }
        // The first is for entering a namespace; the second, to find the one of a foreign process, is
        // nothing without it.
        if permitted.contains(&Capability::CAP_SYS_ADMIN) {
            let namespaces = [Capability::CAP_SYS_ADMIN, Capability::CAP_SYS_PTRACE];
            let namespaces = namespaces.into_iter().filter(|cap| permitted.contains(cap));
            kept.time_wait.extend(namespaces);
        }
        if tls {
            kept.tls = permitted.intersection(&PLACING.into()).copied().collect();
            if kept.tls.len() < PLACING.len() && permitted.contains(&Capability::CAP_SYS_ADMIN) {
                kept.tls = [Capability::CAP_SYS_ADMIN].into();
            }
            kept.tls.extend(permitted.intersection(&LOOKING.into()));
        }
        kept
    }

    /// Reduces this thread to what the loop needs, for good. `works` tries what the loop will do: before
    /// Linux 5.19 the kernel may ask for CAP_BPF at each look into a map (`kernel.unprivileged_bpf_disabled`), which is
    /// then kept.
    ///
    /// # Errors
    ///
    /// When the kernel does not take the capabilities away.
    pub(crate) fn settle(&mut self, works: impl Fn() -> bool) -> Result<()> {
        set(CapSet::Effective, &self.main)?;
        if !works() {
            self.main.extend(maps_of(&permitted()?));
        }
        keep(&self.main)
    }

    /// What following TLS takes: `works` tries it. From Linux 6.16, 6.12.39, 6.1.146 and 5.10.240 on, and where
    /// `kernel.perf_event_paranoid` is 3, the kernel asks for CAP_SYS_ADMIN for each probe in a program's code, which is then
    /// kept where it was given.
    ///
    /// # Errors
    ///
    /// When the kernel does not take capabilities away for the trial.
    pub(crate) fn settle_tls(&mut self, works: impl Fn() -> bool) -> Result<()> {
        set(CapSet::Effective, &self.tls)?;
        if !works() {
            // Which then stands for the others, but for these.
            if permitted()?.contains(&Capability::CAP_SYS_ADMIN) {
                self.tls.retain(|capability| LOOKING.contains(capability));
                self.tls.insert(Capability::CAP_SYS_ADMIN);
            }
        }
        Ok(())
    }

    /// Whether the probes can be attached once more.
    pub(crate) fn can_attach(&self) -> bool {
        self.main.contains(&Capability::CAP_NET_ADMIN)
    }
}

/// What gives access to maps: CAP_SYS_ADMIN does, too, where that is all there is.
fn maps_of(permitted: &CapsHashSet) -> Option<Capability> {
    first_of(&[Capability::CAP_BPF, Capability::CAP_SYS_ADMIN], permitted)
}

fn first_of(wanted: &[Capability], permitted: &CapsHashSet) -> Option<Capability> {
    let mut wanted = wanted.iter().copied();
    wanted.find(|capability| permitted.contains(capability))
}

fn names(capabilities: &CapsHashSet) -> String {
    let mut names: Vec<_> = capabilities.iter().map(ToString::to_string).collect();
    names.sort();
    names.join(" and ")
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut reasons = Vec::new();
        if self.can_attach() {
            reasons.push(
                "CAP_NET_ADMIN (to watch the cgroup that may take the place of --cgroup)"
                    .to_owned(),
            );
        }
        if let Some(capability) = maps_of(&self.main) {
            reasons.push(format!(
                "{capability} (this kernel wants it for reading the probes' counters)"
            ));
        }
        if !self.time_wait.is_empty() {
            reasons.push(format!(
                "{} (the thread time-wait, to count TIME_WAIT in other network namespaces)",
                names(&self.time_wait)
            ));
        }
        if !self.tls.is_empty() {
            reasons.push(format!(
                "{} (the thread tls, to place probes in the TLS libraries of whatever starts)",
                names(&self.tls)
            ));
        }
        if reasons.is_empty() {
            return f.write_str("none");
        }
        f.write_str(&reasons.join(", "))
    }
}

/// From now on nothing that this thread and those after it start can have more than they have.
///
/// # Errors
///
/// When the kernel refuses.
pub(crate) fn bound() -> Result<()> {
    // SAFETY: this command of prctl takes numbers only, and changes no memory.
    let result = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    if result != 0 {
        return Err(io::Error::last_os_error()).context("set no_new_privs");
    }
    // Only who has CAP_SETPCAP, as root has, may lower the bounds. The systemd unit has set them.
    if permitted()?.contains(&Capability::CAP_SETPCAP) {
        caps::clear(None, CapSet::Bounding).context("clear the bounding set")?;
    }
    caps::clear(None, CapSet::Ambient).context("clear the ambient capabilities")?;
    set(CapSet::Inheritable, &CapsHashSet::new())
}

/// Reduces the calling thread to these capabilities, for good.
///
/// # Errors
///
/// When the kernel refuses, as a filter of system calls may make it.
pub(crate) fn keep(kept: &CapsHashSet) -> Result<()> {
    set(CapSet::Effective, kept)?;
    set(CapSet::Permitted, kept)
}

fn permitted() -> Result<CapsHashSet> {
    caps::read(None, CapSet::Permitted).context("read the capabilities")
}

fn set(set: CapSet, capabilities: &CapsHashSet) -> Result<()> {
    caps::set(None, set, capabilities)
        .context("give up capabilities (does a filter of system calls refuse capset?)")
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn what_nothing_needs_goes() {
        let unit = [
            Capability::CAP_BPF,
            Capability::CAP_PERFMON,
            Capability::CAP_NET_ADMIN,
        ];
        let unit = CapsHashSet::from(unit);
        let kept = Kept::of(&unit, false, false);
        assert_eq!(kept, Kept::default());
        assert_eq!(kept.to_string(), "none");
        assert!(!kept.can_attach());

        let kept = Kept::of(&unit, true, false);
        assert_eq!(kept.main, CapsHashSet::from([Capability::CAP_NET_ADMIN]));
        assert!(kept.can_attach());
        assert!(kept.time_wait.is_empty());
    }

    #[test]
    fn namespaces_are_for_one_thread() {
        let kept = Kept::of(&caps::all(), false, false);
        assert!(kept.main.is_empty());
        let namespaces = [Capability::CAP_SYS_ADMIN, Capability::CAP_SYS_PTRACE];
        assert_eq!(kept.time_wait, CapsHashSet::from(namespaces));
        assert!(
            kept.to_string()
                .starts_with("CAP_SYS_ADMIN and CAP_SYS_PTRACE (the thread"),
            "{kept}"
        );

        let useless = CapsHashSet::from([Capability::CAP_SYS_PTRACE]);
        assert_eq!(Kept::of(&useless, false, false), Kept::default());
    }

    #[test]
    fn tls_is_for_one_thread() {
        let drop_in = [
            Capability::CAP_BPF,
            Capability::CAP_CHECKPOINT_RESTORE,
            Capability::CAP_DAC_READ_SEARCH,
            Capability::CAP_PERFMON,
            Capability::CAP_SYS_PTRACE,
        ];
        let kept = Kept::of(&drop_in.into(), false, true);
        assert!(kept.main.is_empty() && kept.time_wait.is_empty());
        assert_eq!(
            kept.tls,
            CapsHashSet::from_iter(drop_in[1..].iter().copied())
        );
        let told = "CAP_CHECKPOINT_RESTORE and CAP_DAC_READ_SEARCH and CAP_PERFMON and CAP_SYS_PTRACE (the thread tls";
        assert!(kept.to_string().starts_with(told), "{kept}");

        let old = CapsHashSet::from([Capability::CAP_SYS_ADMIN]);
        assert_eq!(Kept::of(&old, false, true).tls, old);
        assert!(Kept::of(&caps::all(), false, false).tls.is_empty());
    }

    /// On a thread of its own, which ends with what it has left.
    #[test]
    fn kernel_that_wants_cap_bpf_gets_it() {
        thread::spawn(|| {
            let before = permitted().unwrap();
            let mut kept = Kept::of_now(false, true).unwrap();
            kept.settle_tls(|| true).unwrap();
            let least = kept.tls.clone();
            kept.settle_tls(|| false).unwrap();
            let mut most = before
                .intersection(&LOOKING.into())
                .copied()
                .collect::<CapsHashSet>();
            let may_all = most.insert(Capability::CAP_SYS_ADMIN) && before.is_superset(&most);
            assert_eq!(kept.tls, if may_all { most } else { least });
            kept.settle(|| false).unwrap();
            assert_eq!(kept.main, maps_of(&before).into_iter().collect());
            assert_eq!(permitted().unwrap(), kept.main);

            let mut kept = Kept::of_now(false, false).unwrap();
            kept.settle(|| true).unwrap();
            assert_eq!(permitted().unwrap(), CapsHashSet::new());
            assert!(
                keep(&caps::all()).is_err(),
                "what is gone does not come back"
            );
        })
        .join()
        .unwrap();
    }
}
