//! The archive for every other Linux: a program that needs no library of the system, and what belongs to it.

use std::{
    env::consts::ARCH,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{release::Release, tree::place};
use crate::shell::{repository, run_quietly};

/// Makes it below `work` of `tree` with the program `program` in it, and leaves it in `folder`.
pub(crate) fn make(
    release: &Release,
    program: &Path,
    tree: &Path,
    work: &Path,
    folder: &Path,
) -> Result<PathBuf> {
    let name = format!("closewatch-{}-{ARCH}-linux", release.version);
    let top = work.join("tarball");
    let inside = top.join(&name);
    fs::create_dir_all(&top)?;
    run_quietly(Command::new("cp").arg("--archive").arg(tree).arg(&inside))?;
    fs::copy(program, inside.join("usr/bin/closewatch"))?;
    for document in [
        "README.md",
        "CHANGELOG.md",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "LICENSE-GPL2",
    ] {
        place(&repository().join(document), &inside.join(document))?;
    }

    let archive = top.join(format!("{name}.tar"));
    run_quietly(
        Command::new("tar")
            .args([
                "--create",
                "--format=ustar",
                "--sort=name",
                "--numeric-owner",
            ])
            .args(["--owner=0", "--group=0", "--mode=u=rwX,go=rX"])
            .arg(format!("--mtime=@{}", release.epoch))
            .arg(format!("--file={}", archive.display()))
            .arg(format!("--directory={}", top.display()))
            .arg(&name),
    )?;
    run_quietly(
        Command::new("gzip")
            .args(["--best", "--no-name"])
            .arg(&archive),
    )?;
    let package = folder.join(format!("{name}.tar.gz"));
    fs::copy(archive.with_extension("tar.gz"), &package)
        .with_context(|| format!("copy {}", package.display()))?;
    Ok(package)
}
