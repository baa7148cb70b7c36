//! The Debian package, by Debian's own helpers: what its scripts do about units and users is theirs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{of_kind, release::Release, tree::place};
use crate::shell::{repository, run, run_quietly};

/// Makes it below `work` of what `tree` has, and leaves it in `folder`.
pub(crate) fn make(release: &Release, tree: &Path, work: &Path, folder: &Path) -> Result<PathBuf> {
    let source = work.join("deb");
    let debian = source.join("debian");
    let described = repository().join("deploy/packaging/debian");
    fs::create_dir_all(&debian)?;
    for file in fs::read_dir(&described)? {
        let file = file?;
        fs::copy(file.path(), debian.join(file.file_name()))?;
    }
    fs::write(debian.join("changelog"), changelog(release)?)?;
    for document in ["README.md", "CHANGELOG.md"] {
        place(&repository().join(document), &source.join(document))?;
    }
    copy(tree, &source.join("tree"))?;
    // Its helpers put units where Debian 12 has them, from here.
    let units = source.join("tree/usr/lib/systemd/system");
    for unit in fs::read_dir(&units)? {
        let unit = unit?;
        fs::copy(unit.path(), debian.join(unit.file_name()))?;
    }

    run_quietly(
        Command::new("dpkg-buildpackage")
            .args(["--build=binary", "--no-sign", "--no-check-builddeps"])
            .current_dir(&source)
            .env("SOURCE_DATE_EPOCH", release.epoch.to_string())
            .env("LC_ALL", "C"),
    )?;
    let architecture = run_quietly(Command::new("dpkg").arg("--print-architecture"))?;
    let name = format!(
        "closewatch_{}-1_{}.deb",
        release.version,
        architecture.trim_end()
    );
    let package = folder.join(&name);
    fs::copy(work.join(&name), &package).with_context(|| format!("copy {name}"))?;
    Ok(package)
}

/// Debian's checker finds nothing in the package in `folder` that is not overridden with a reason.
pub(crate) fn check(folder: &Path) -> Result<()> {
    run(Command::new("lintian")
        .args(["--fail-on", "error,warning", "--tag-display-limit", "0"])
        .args(of_kind(folder, "deb")?))
}

/// Debian's form of a changelog, which names the version; what changed is in ours.
fn changelog(release: &Release) -> Result<String> {
    Ok(format!(
        "closewatch ({}-1) unstable; urgency=medium\n\n  * What changed is told in changelog.gz.\n\n -- {}  {}\n",
        release.version,
        maintainer()?,
        release.date("--rfc-email")?
    ))
}

/// As the package itself names them.
fn maintainer() -> Result<String> {
    let control = fs::read_to_string(repository().join("deploy/packaging/debian/control"))?;
    let mut lines = control.lines();
    lines
        .find_map(|line| line.strip_prefix("Maintainer: "))
        .map(str::to_owned)
        .context("deploy/packaging/debian/control names no Maintainer")
}

fn copy(tree: &Path, to: &Path) -> Result<()> {
    run_quietly(Command::new("cp").arg("--archive").arg(tree).arg(to)).map(drop)
}
