//! The bill of materials, and the licences of what is linked in, by CycloneDX' Python library.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::release::Release;
use crate::{
    libraries,
    shell::{repository, run_quietly, target},
};

/// Writes the bill into `folder`, and the licences to `notices`.
pub(crate) fn write(release: &Release, folder: &Path, notices: &Path) -> Result<PathBuf> {
    let bill = folder.join(format!("closewatch-{}.cdx.json", release.version));
    run_quietly(
        Command::new(python()?)
            .arg("-B")
            .arg(scripts().join("sbom.py"))
            .args([release.version, &release.epoch.to_string()])
            .arg(rust_target()?)
            .arg(&bill)
            .arg(notices),
    )
    .context("the bill of materials was not made")?;
    Ok(bill)
}

/// A Python with CycloneDX' library; a linter of container files is beside it.
pub(crate) fn python() -> Result<PathBuf> {
    libraries::python(
        &target().join("packaging-tools"),
        &scripts().join("requirements.txt"),
        "CycloneDX' library and hadolint",
    )
}

fn scripts() -> PathBuf {
    repository().join("deploy/packaging")
}

/// Rust's name of this machine's kind.
fn rust_target() -> Result<String> {
    let rustc = run_quietly(Command::new("rustc").arg("-vV").current_dir(repository()))?;
    rustc
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .context("rustc -vV names no host")
}
