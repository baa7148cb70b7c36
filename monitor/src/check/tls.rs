//! Whether TLS can be followed here, and what that takes.

use std::{fs, io};

use caps::{Capability, CapsHashSet};

use super::Finding;
use crate::probes;

/// What each call of a probed function takes longer, as measured: least where the kernel can do the function's first
/// instruction itself, most where it has to let the processor do it step by step.
const PRICE: &str =
    "each call of OpenSSL then takes 1 to 16 µs longer in the processes that are chosen";
/// What it may cost besides, on some kernels.
pub(super) const KILLS: &str = "on this kernel a program that has a filter of system calls (seccomp: most containers, services with \
     SystemCallFilter=) may be killed when TLS is followed in it: boot Linux 6.12.14 or newer of 6.12, or 6.14 or newer, \
     or name programs without such a filter in --tls";
/// What is left to do where a capability is missing.
const REMEDY: &str =
    "run closewatch as root, or with the drop-in closewatch-tls.conf of its systemd unit";

pub(super) struct Facts {
    pub(super) has_uprobes: bool,
    pub(super) capabilities: CapsHashSet,
    /// What the kernel said to a probe for a trial.
    pub(super) refusal: Option<io::Error>,
    /// `kernel.perf_event_paranoid`.
    pub(super) paranoid: String,
    /// A filter of system calls refuses what the kernel does where a probed function returns.
    pub(super) returns_are_filtered: bool,
}

impl Facts {
    pub(super) fn gather(capabilities: CapsHashSet) -> Self {
        let has_uprobes = probes::has_uprobes();
        let paranoid = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid");
        let refusal = has_uprobes.then(probes::try_uprobe).and_then(Result::err);
        let can_try = has_uprobes && refusal.is_none();
        let returns_are_filtered = can_try.then(probes::returns_are_filtered);
        Self {
            has_uprobes,
            capabilities,
            refusal,
            // Where it cannot be tried, nothing is known to be wrong.
            returns_are_filtered: returns_are_filtered
                .is_some_and(|tried| tried.unwrap_or_default()),
            paranoid: paranoid.map_or_else(|_| "unknown".to_owned(), |set| set.trim().to_owned()),
        }
    }

    /// Why TLS cannot be followed; none where it can.
    pub(super) fn missing(&self) -> Option<String> {
        if !self.has_uprobes {
            return Some(
                "this kernel has no uprobes: use one built with CONFIG_UPROBE_EVENTS=y".to_owned(),
            );
        }
        let mut lacking = Vec::new();
        if !self.has_one_of(&[Capability::CAP_PERFMON, Capability::CAP_SYS_ADMIN]) {
            lacking.push("CAP_PERFMON to place probes");
        }
        if !self.has_one_of(&[Capability::CAP_SYS_PTRACE]) {
            lacking.push("CAP_SYS_PTRACE to see what the processes of others have loaded");
        }
        if !lacking.is_empty() {
            return Some(format!(
                "this process needs {}: {REMEDY}",
                lacking.join(" and ")
            ));
        }
        let refusal = self.refusal.as_ref()?;
        if !self.has_one_of(&[Capability::CAP_SYS_ADMIN]) {
            return Some(format!(
                "this kernel takes a probe only from who has CAP_SYS_ADMIN ({refusal}; kernel.perf_event_paranoid is {}): {REMEDY}",
                self.paranoid
            ));
        }
        Some(format!(
            "the kernel refuses a probe ({refusal}; kernel.perf_event_paranoid is {}): a filter of system calls \
             (seccomp) that forbids perf_event_open or a security module of this host is in the way; {REMEDY}",
            self.paranoid
        ))
    }

    /// What is not seen all the same.
    fn unseen(&self) -> &'static str {
        let may_open_mappings = [
            Capability::CAP_CHECKPOINT_RESTORE,
            Capability::CAP_SYS_ADMIN,
        ];
        let may_pass = [Capability::CAP_DAC_READ_SEARCH];
        if !self.has_one_of(&may_pass) {
            "; of other users, libraries that are deleted or in folders of their own are not seen without CAP_DAC_READ_SEARCH"
        } else if !self.has_one_of(&may_open_mappings) {
            "; libraries that were deleted while in use are not seen without CAP_CHECKPOINT_RESTORE"
        } else {
            ""
        }
    }

    /// What may happen to programs.
    fn danger(&self) -> String {
        if self.returns_are_filtered {
            format!("; {KILLS}")
        } else {
            String::new()
        }
    }

    fn has_one_of(&self, capabilities: &[Capability]) -> bool {
        let mut capabilities = capabilities.iter();
        capabilities.any(|capability| self.capabilities.contains(capability))
    }
}

/// `wanted`: somebody asked for it, so that it must work.
pub(super) fn finding(facts: &Facts, wanted: bool) -> Finding {
    let missing = facts.missing();
    let met = missing.is_none() || !wanted;
    let sentence = match (missing, wanted) {
        (None, true) => format!(
            "TLS can be followed: {PRICE}{}{}",
            facts.unseen(),
            facts.danger()
        ),
        (Some(missing), true) => format!("TLS cannot be followed: {missing}"),
        (None, false) => format!(
            "TLS is not followed, and with --tls it could be: {PRICE}{}{}",
            facts.unseen(),
            facts.danger()
        ),
        (Some(missing), false) => {
            format!("TLS is not followed, and with --tls it could not be: {missing}")
        }
    };
    Finding { met, sentence }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Facts {
        let capabilities = [
            Capability::CAP_PERFMON,
            Capability::CAP_SYS_PTRACE,
            Capability::CAP_CHECKPOINT_RESTORE,
            Capability::CAP_DAC_READ_SEARCH,
        ];
        Facts {
            has_uprobes: true,
            capabilities: capabilities.into(),
            refusal: None,
            paranoid: "2".to_owned(),
            returns_are_filtered: false,
        }
    }

    #[test]
    fn danger_is_told_where_there_is_one() {
        for wanted in [true, false] {
            assert!(!finding(&good(), wanted).sentence.contains("killed"));
            let facts = Facts {
                returns_are_filtered: true,
                ..good()
            };
            let finding = finding(&facts, wanted);
            assert!(
                finding.met && finding.sentence.contains("may be killed"),
                "{finding}"
            );
        }
    }

    #[test]
    fn price_is_told_before_anybody_pays_it() {
        for wanted in [true, false] {
            let finding = finding(&good(), wanted);
            assert!(
                finding.met && finding.sentence.contains("1 to 16 µs"),
                "{finding}"
            );
        }
    }

    #[test]
    fn what_is_missing_counts_only_where_tls_is_wanted() {
        let without = |gone: Capability| {
            let mut facts = good();
            facts.capabilities.remove(&gone);
            facts
        };
        let refused = |errno| Facts {
            refusal: Some(io::Error::from_raw_os_error(errno)),
            ..good()
        };
        for (facts, remedy) in [
            (without(Capability::CAP_PERFMON), "needs CAP_PERFMON"),
            (without(Capability::CAP_SYS_PTRACE), "needs CAP_SYS_PTRACE"),
            (refused(libc::EACCES), "only from who has CAP_SYS_ADMIN"),
            (
                Facts {
                    capabilities: caps::all(),
                    ..refused(libc::EACCES)
                },
                "perf_event_paranoid is 2",
            ),
            (
                Facts {
                    has_uprobes: false,
                    ..good()
                },
                "CONFIG_UPROBE_EVENTS=y",
            ),
        ] {
            let wanted = finding(&facts, true);
            assert!(!wanted.met && wanted.sentence.contains(remedy), "{wanted}");
            let unwanted = finding(&facts, false);
            assert!(
                unwanted.met && unwanted.sentence.contains(remedy),
                "{unwanted}"
            );
        }
        let sentence = finding(&without(Capability::CAP_CHECKPOINT_RESTORE), true).sentence;
        assert!(sentence.contains("deleted while in use"), "{sentence}");
        let sentence = finding(&without(Capability::CAP_DAC_READ_SEARCH), true).sentence;
        assert!(sentence.contains("folders of their own"), "{sentence}");
    }
}
