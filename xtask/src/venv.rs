//! Python's virtual environments below `target`, one for each list of libraries.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    apt,
    shell::{announce, find, run_quietly},
};

/// Whether one list of versions is the other.
pub(crate) fn same(list: &Path, installed: &Path) -> bool {
    fs::read(installed).is_ok_and(|installed| fs::read(list).is_ok_and(|list| list == installed))
}

/// The Python of `venv`, with the libraries of `list`: installed again only when that changes.
pub(crate) fn python(venv: &Path, list: &Path, what: &str) -> Result<PathBuf> {
    let python = venv.join("bin/python");
    let installed = venv.join("requirements.txt");
    if same(list, &installed) {
        return Ok(python);
    }
    ensure!(
        find("python3").is_some(),
        "python3 is missing: install Python 3.11 or newer"
    );
    let complete = Command::new("python3")
        .args(["-c", "import ensurepip"])
        .output()?;
    if !complete.status.success() {
        apt::install(&["python3-venv"])?;
    }
    announce(format_args!("installing {what} into {}", venv.display()));
    run_quietly(
        Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(venv),
    )?;
    run_quietly(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--requirement"])
            .arg(list),
    )
    .with_context(|| format!("pip did not install {what}"))?;
    fs::copy(list, &installed)?;
    Ok(python)
}
