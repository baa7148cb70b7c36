//! The WebSocket libraries that closewatch is tried against, from PyPI and npm, under `target/peers`.
//!
//! Installed again only when the lists of versions change.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    apt,
    shell::{announce, find, repository, run_quietly, target},
};

/// Python with the libraries of `requirements.txt`: a virtual environment's, once `python` has made it.
pub(crate) fn interpreter() -> PathBuf {
    venv().join("bin/python")
}

pub(crate) fn python() -> Result<PathBuf> {
    let (venv, python) = (venv(), interpreter());
    let list = lists().join("requirements.txt");
    let installed = venv.join("requirements.txt");
    if same(&list, &installed) {
        return Ok(python);
    }
    ensure!(
        find("python3").is_some(),
        "python3 is missing: install Python 3.9 or newer"
    );
    let complete = Command::new("python3")
        .args(["-c", "import ensurepip"])
        .output()?;
    if !complete.status.success() {
        apt::install(&["python3-venv"])?;
    }
    announce("installing Python's WebSocket libraries into target/peers/venv");
    run_quietly(
        Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&venv),
    )?;
    run_quietly(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--requirement"])
            .arg(&list),
    )
    .context("pip did not install the WebSocket libraries")?;
    fs::copy(&list, &installed)?;
    Ok(python)
}

/// The `node_modules` folder with the libraries of `package-lock.json`.
pub(crate) fn node_modules() -> Result<PathBuf> {
    let folder = target().join("peers/node");
    let modules = folder.join("node_modules");
    let list = lists().join("package-lock.json");
    let installed = modules.join("package-lock.json");
    if same(&list, &installed) {
        return Ok(modules);
    }
    announce("installing Node's WebSocket libraries into target/peers/node");
    fs::create_dir_all(&folder)?;
    for name in ["package.json", "package-lock.json"] {
        let list = lists().join(name);
        fs::copy(&list, folder.join(name)).with_context(|| format!("copy {}", list.display()))?;
    }
    run_quietly(
        Command::new("npm")
            .args(["ci", "--no-audit", "--no-fund"])
            .current_dir(&folder),
    )
    .context("npm did not install the WebSocket libraries")?;
    fs::copy(&list, &installed)?;
    Ok(modules)
}

fn venv() -> PathBuf {
    target().join("peers/venv")
}

fn lists() -> PathBuf {
    repository().join("monitor/tests/peers")
}

fn same(list: &Path, installed: &Path) -> bool {
    fs::read(installed).is_ok_and(|installed| fs::read(list).is_ok_and(|list| list == installed))
}
