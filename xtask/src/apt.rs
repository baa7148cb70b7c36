//! Debian packages: installed only when missing, said beforehand, and nothing else changes.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::shell::{announce, as_root, find, run_quietly};

/// Installs packages, and keeps the services that some bring from being started or enabled:
/// they are wanted as programs.
const INSTALL: &str = r#"
set -e
export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d
restore() {
    rm -f $policy
    if [ -e $policy.closewatch ]; then mv $policy.closewatch $policy; fi
}
trap restore EXIT
trap 'exit 1' INT TERM HUP
if [ -e $policy ]; then mv $policy $policy.closewatch; fi
printf '#!/bin/sh\nexit 101\n' >$policy
chmod 755 $policy

apt-get update -qq
apt-get install -qq --no-install-recommends -o DPkg::Lock::Timeout=300 "$@"
for package; do
    if [ -e /lib/systemd/system/$package.service ] && command -v systemctl >/dev/null; then
        systemctl disable --quiet $package
    fi
done
"#;

pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let missing: Vec<_> = packages.iter().filter(|name| !installed(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing
        .iter()
        .map(|name| **name)
        .collect::<Vec<_>>()
        .join(" ");
    ensure!(
        find("apt-get").is_some(),
        "this system has no apt-get: install what Debian calls {names}, and run this again"
    );
    announce(format_args!("installing {names} with apt-get, as root"));
    run_quietly(as_root("sh")?.args(["-c", INSTALL, "sh"]).args(missing))
        .map(drop)
        .with_context(|| {
            format!("apt-get did not install {names}; install them by hand, and run this again")
        })
}

fn installed(package: &str) -> bool {
    Command::new("dpkg-query")
        .args(["--show", "--showformat=${db:Status-Status}", package])
        .output()
        .is_ok_and(|answer| answer.stdout == b"installed")
}
