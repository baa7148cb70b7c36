//! The WebSocket libraries that closewatch is tried against, from PyPI and npm, under `target/peers`.
//!
//! Installed again only when the lists of versions change.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    shell::{announce, repository, run_quietly, target},
    venv::{self, same},
};

/// Python with the libraries of `requirements.txt`: a virtual environment's, once `python` has made it.
pub(crate) fn interpreter() -> PathBuf {
    venv().join("bin/python")
}

pub(crate) fn python() -> Result<PathBuf> {
    let list = lists().join("requirements.txt");
    venv::python(&venv(), &list, "Python's WebSocket libraries")
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
