//! The RPM package, by rpmbuild.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{of_kind, release::Release, remade};
use crate::shell::{as_root, repository, run, run_quietly};

const INSTALL: &str = include_str!("rpm/install.sh");

/// Makes it below `work` of what `tree` has, and leaves it in `folder`.
pub(crate) fn make(release: &Release, tree: &Path, work: &Path, folder: &Path) -> Result<PathBuf> {
    let top = work.join("rpm");
    fs::create_dir_all(&top)?;
    let define = |name: &str, value: &str| ["--define".to_owned(), format!("{name} {value}")];
    let documents = repository();
    run_quietly(
        Command::new("rpmbuild")
            .arg("-bb")
            .args(define("_topdir", &top.display().to_string()))
            .args(define("tree", &tree.display().to_string()))
            .args(define("documents", &documents.display().to_string()))
            .args(define("released", release.version))
            .args(define("released_on", &release.date("+%a %b %d %Y")?))
            // Neither when nor where it was built.
            .args(define("_buildhost", "localhost"))
            .args(define("use_source_date_epoch_as_buildtime", "1"))
            .args(define("clamp_mtime_to_source_date_epoch", "1"))
            .arg(repository().join("deploy/packaging/rpm/closewatch.spec"))
            .env("SOURCE_DATE_EPOCH", release.epoch.to_string())
            .env("LC_ALL", "C"),
    )?;
    let machine = std::env::consts::ARCH;
    let name = format!("closewatch-{}-1.{machine}.rpm", release.version);
    let package = folder.join(&name);
    fs::copy(top.join("RPMS").join(machine).join(&name), &package)
        .with_context(|| format!("copy {name}"))?;
    Ok(package)
}

/// The checker of RPM packages finds nothing in the one in `folder` that is not answered in its list of reasons.
pub(crate) fn check(folder: &Path) -> Result<()> {
    let reasons = repository().join("deploy/packaging/rpm/rpmlint.toml");
    run(Command::new("rpmlint")
        .arg("--strict")
        .arg("--config")
        .arg(reasons)
        .args(of_kind(folder, "rpm")?))
}

/// rpm installs the one in `folder`, upgrades it to a newer one made of the same tree in `work`, and erases it: its
/// scripts do what they are for, and what an operator changed stays. It returns how much was looked at.
pub(crate) fn installed(release: &Release, work: &Path, folder: &Path) -> Result<usize> {
    let newer = Release {
        version: "9999",
        epoch: release.epoch,
    };
    let place = remade(&work.join("installed"))?;
    let newer = make(&newer, &work.join("tree"), &place, &place)?;
    let mounted = remade(&place.join("root"))?;
    let mut install = as_root("unshare")?;
    install.args(["--mount", "--fork", "sh", "-c", INSTALL, "sh"]);
    install
        .arg(mounted)
        .args(of_kind(folder, "rpm")?)
        .arg(newer);
    let said =
        run_quietly(&mut install).context("the RPM package is not installed as it should be")?;
    print!("{said}");
    Ok(said.lines().filter(|line| line.starts_with("ok ")).count())
}
