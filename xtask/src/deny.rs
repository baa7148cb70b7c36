//! The libraries that are linked in: their licences, where they come from, what is known to be wrong with them.
//!
//! By cargo-deny, which is built once into `target/tools`. Advisories come from no package registry: they are checked
//! only where a copy of their database is at hand.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::shell::{announce, cargo, repository, run, run_quietly, target};

const CARGO_DENY: &str = "0.20.2";
/// Names a clone of the RustSec advisory database.
const DATABASE: &str = "CLOSEWATCH_ADVISORY_DB";
/// Where cargo-deny looks for that database, which it names after the address it comes from.
const DATABASE_NAME: &str = "advisory-db-3157b0e258782691";

pub(crate) fn check() -> Result<()> {
    let deny = cargo_deny()?;
    let mut check = Command::new(&deny);
    run(check
        .args(["--offline", "--log-level", "error", "check"])
        .args(["bans", "licenses", "sources"])
        .current_dir(repository()))?;
    let Some(database) = env::var_os(DATABASE).map(PathBuf::from) else {
        println!("no advisory database here, not checked ({DATABASE} names one)");
        return Ok(());
    };
    run(Command::new(&deny)
        .args(["--offline", "--config"])
        .arg(with_database(&database)?)
        .args(["check", "advisories"])
        .current_dir(repository()))
}

/// The program, built if it is missing or of another version.
fn cargo_deny() -> Result<PathBuf> {
    let tools = target().join("tools");
    let program = tools.join("bin/cargo-deny");
    let version = Command::new(&program).arg("--version").output();
    let is_there = version.is_ok_and(|version| {
        String::from_utf8_lossy(&version.stdout).trim_end() == format!("cargo-deny {CARGO_DENY}")
    });
    if !is_there {
        announce(format_args!(
            "building cargo-deny {CARGO_DENY} into {} (a minute or two)",
            tools.display()
        ));
        // Not optimised: it has a second of work.
        let mut install = cargo(["install", "cargo-deny", "--version", CARGO_DENY, "--locked"]);
        run_quietly(
            install
                .args([
                    "--no-default-features",
                    "--debug",
                    "--force",
                    "--quiet",
                    "--root",
                ])
                .arg(&tools)
                .env("CARGO_PROFILE_DEV_DEBUG", "0"),
        )
        .context("cargo-deny did not build")?;
    }
    Ok(program)
}

/// Our configuration, with the database at `folder`.
fn with_database(folder: &Path) -> Result<PathBuf> {
    ensure!(
        folder.join("crates").is_dir(),
        "{} is no clone of the advisory database: it has no folder `crates`",
        folder.display()
    );
    let databases = target().join("advisories");
    fs::create_dir_all(&databases)?;
    let link = databases.join(DATABASE_NAME);
    if link.is_symlink() {
        fs::remove_file(&link)?;
    }
    symlink(folder.canonicalize()?, &link)?;

    let ours = fs::read_to_string(repository().join("deny.toml"))?;
    let section = "[advisories]\n";
    ensure!(
        ours.contains(section),
        "deny.toml has no section for advisories"
    );
    let here = format!("{section}db-path = {:?}\n", databases.display().to_string());
    let configuration = target().join("deny.toml");
    fs::write(&configuration, ours.replace(section, &here))?;
    Ok(configuration)
}
