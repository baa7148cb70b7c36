//! The same once more, from the same source in another folder: the packages must be the same to the byte.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use super::{SUMS, packages, programs::Programs, release::Release, remade};
use crate::shell::{announce, repository, run_quietly, target};

/// Copies the repository, builds and packages there, and compares with what is in `folder`.
pub(crate) fn built(release: &Release, folder: &Path) -> Result<()> {
    let other = other();
    announce(format_args!("building once more in {}", other.display()));
    let source = copy(&other.join("a/copy"))?;
    let programs = Programs::build(&source, &other.join("built"), &other.join("programs"))?;
    packaged(release, &programs, folder)?;
    println!("a second build in another folder gave the same bytes");
    Ok(())
}

/// Packages the same programs again, and compares with what is in `folder`.
pub(crate) fn packaged(release: &Release, programs: &Programs, folder: &Path) -> Result<()> {
    let second = remade(&other().join("dist"))?;
    packages(release, programs, &other().join("packaging"), &second)?;
    let sums = |folder: &Path| fs::read_to_string(folder.join(SUMS));
    let (first, second) = (sums(folder)?, sums(&second)?);
    ensure!(
        first == second,
        "made twice of the same source, and not the same:\n{first}\n{second}"
    );
    Ok(())
}

fn other() -> PathBuf {
    target().join("elsewhere")
}

/// All that git knows of, as it is now.
fn copy(to: &Path) -> Result<PathBuf> {
    remade(to)?;
    let tracked = run_quietly(
        Command::new("git")
            .args(["ls-files", "-z"])
            .current_dir(repository()),
    )?;
    for name in tracked.split_terminator('\0') {
        let (file, place) = (repository().join(name), to.join(name));
        // One may have been removed and not committed.
        if !file.exists() {
            continue;
        }
        fs::create_dir_all(place.parent().context("a file outside every folder")?)?;
        fs::copy(&file, &place).with_context(|| format!("copy {}", file.display()))?;
    }
    Ok(to.to_owned())
}
