//! Builds that give the same bytes wherever they are made: in another folder, by another user.
//!
//! What would tell them apart is paths: those of the repository, of cargo's folder and of the toolchain, which
//! panics name. The compiler writes others in their place. The kernel object does the same in `monitor/build.rs`.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::shell::{run, run_quietly};

/// Between flags in `CARGO_ENCODED_RUSTFLAGS`.
const SEPARATOR: &str = "\u{1f}";

/// A `cargo build` or `cargo rustc` (`verb`) of the daemon for use, from the repository at `source`.
pub(crate) fn cargo(verb: &str, source: &Path) -> Result<Command> {
    // The folders of foreign sources are known once these are there.
    run(Command::new("cargo")
        .args(["fetch", "--locked", "--quiet"])
        .current_dir(source))?;
    let flags: Vec<OsString> = names(source)?
        .into_iter()
        .map(|(folder, name)| {
            let mut flag = OsString::from("--remap-path-prefix=");
            flag.push(folder);
            flag.push("=");
            flag.push(name);
            flag
        })
        .collect();
    let mut cargo = Command::new("cargo");
    cargo
        .args([verb, "--locked", "--release", "--package", "monitor"])
        .current_dir(source)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join(OsStr::new(SEPARATOR)));
    Ok(cargo)
}

/// What is written in the place of each folder; where two fit, of the later one.
fn names(source: &Path) -> Result<Vec<(PathBuf, &'static str)>> {
    let sysroot = run_quietly(
        Command::new("rustc")
            .args(["--print", "sysroot"])
            .current_dir(source),
    )?;
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(env::home_dir()?.join(".cargo")))
        .context("neither CARGO_HOME nor HOME is set")?;
    let mut names = vec![
        (home.clone(), "/cargo"),
        (source.to_owned(), "/closewatch"),
        (PathBuf::from(sysroot.trim_end()), "/rust"),
    ];
    // Their own names tell where the registry is.
    let registries = home.join("registry/src");
    for registry in
        fs::read_dir(&registries).with_context(|| format!("read {}", registries.display()))?
    {
        names.push((registry?.path(), "/crates"));
    }
    Ok(names)
}
