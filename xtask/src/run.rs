//! `cargo xtask run`: from a clone to a daemon in the foreground.

use std::{env, ffi::OsString, os::unix::process::CommandExt as _};

use anyhow::{Context as _, Result};

use crate::{daemon, setup, shell::as_root};

pub(crate) fn run(flags: &[OsString]) -> Result<()> {
    setup::setup()?;
    let closewatch = daemon::build()?;
    let mut daemon = as_root(&closewatch)?;

    let listen = listen(flags);
    eprintln!("its page:                     http://{listen}/");
    eprintln!("for Prometheus:               http://{listen}/metrics");
    eprintln!(
        "what this kernel allows:      {} check",
        closewatch.display()
    );
    eprintln!("Ctrl-C ends it.");

    // In our place rather than below us: signals reach the daemon, or sudo, which hands them on.
    Err(daemon.arg("run").args(flags).exec()).context("start closewatch")
}

/// The address that the daemon will take: its flag, its variable, its default.
fn listen(flags: &[OsString]) -> String {
    let flags: Vec<_> = flags.iter().map(|flag| flag.to_string_lossy()).collect();
    let follows = flags
        .windows(2)
        .find(|pair| pair[0] == "--listen")
        .map(|pair| pair[1].to_string());
    let joined = || {
        flags
            .iter()
            .find_map(|flag| Some(flag.strip_prefix("--listen=")?.to_owned()))
    };
    follows
        .or_else(joined)
        .or_else(|| env::var("CLOSEWATCH_LISTEN").ok())
        .unwrap_or_else(|| "127.0.0.1:16455".to_owned())
}
