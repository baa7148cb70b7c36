//! The program, built twice: for the system's C library, and with all in it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    reproducible,
    shell::{run, run_quietly},
};

pub(crate) struct Programs {
    /// Uses the C library of the system: who mends that one mends this.
    pub(crate) dynamic: PathBuf,
    /// Needs no library of the system, whichever it has.
    pub(crate) complete: PathBuf,
}

impl Programs {
    /// Builds the repository at `source` into its `target`, and leaves the programs in `folder`.
    pub(crate) fn build(source: &Path, target: &Path, folder: &Path) -> Result<Self> {
        let built = target.join("release/closewatch");
        let programs = Self {
            dynamic: folder.join("closewatch.dynamic"),
            complete: folder.join("closewatch.complete"),
        };
        fs::create_dir_all(folder)?;
        // Only the last crate is compiled and linked differently; the other build then takes its place again.
        run(reproducible::cargo("rustc", source)?
            .args([
                "--bin",
                "closewatch",
                "--",
                "-C",
                "target-feature=+crt-static",
            ])
            .env("CARGO_TARGET_DIR", target))?;
        strip(&built, &programs.complete)?;
        run(reproducible::cargo("build", source)?.env("CARGO_TARGET_DIR", target))?;
        strip(&built, &programs.dynamic)?;
        needs_no_library(&programs.complete)?;
        Ok(programs)
    }
}

/// The program without its symbols, in `folder`.
pub(crate) fn stripped(built: &Path, folder: &Path) -> Result<PathBuf> {
    let program = folder.join("closewatch.dynamic");
    strip(built, &program)?;
    Ok(program)
}

fn strip(built: &Path, program: &Path) -> Result<()> {
    run_quietly(
        Command::new("strip")
            .arg("--strip-unneeded")
            .arg("-o")
            .arg(program)
            .arg(built),
    )
    .map(drop)
    .with_context(|| format!("strip {}", built.display()))
}

/// It names no dynamic loader and no library, so nothing is looked for where it is installed.
fn needs_no_library(program: &Path) -> Result<()> {
    let headers = run_quietly(
        Command::new("readelf")
            .args(["--wide", "--program-headers", "--dynamic"])
            .arg(program)
            .env("LC_ALL", "C"),
    )?;
    ensure!(
        !headers.contains("INTERP") && !headers.contains("(NEEDED)"),
        "{} needs libraries of the system:\n{headers}",
        program.display()
    );
    Ok(())
}
