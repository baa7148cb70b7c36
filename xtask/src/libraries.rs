//! Libraries of Python and Node below `target`, installed again only when their list of versions changes.

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
fn same(list: &Path, installed: &Path) -> bool {
    fs::read(installed).is_ok_and(|installed| fs::read(list).is_ok_and(|list| list == installed))
}

/// The Python of the virtual environment `venv`, with the libraries of `list`.
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

/// The `node_modules` below `folder`, with the libraries of `lists`' package-lock.json.
pub(crate) fn node_modules(folder: &Path, lists: &Path, what: &str) -> Result<PathBuf> {
    let modules = folder.join("node_modules");
    let list = lists.join("package-lock.json");
    let installed = modules.join("package-lock.json");
    if same(&list, &installed) {
        return Ok(modules);
    }
    announce(format_args!("installing {what} into {}", folder.display()));
    fs::create_dir_all(folder)?;
    for name in ["package.json", "package-lock.json"] {
        let list = lists.join(name);
        fs::copy(&list, folder.join(name)).with_context(|| format!("copy {}", list.display()))?;
    }
    run_quietly(
        Command::new("npm")
            .args(["ci", "--no-audit", "--no-fund"])
            .current_dir(folder),
    )
    .with_context(|| format!("npm did not install {what}"))?;
    fs::copy(&list, &installed)?;
    Ok(modules)
}
