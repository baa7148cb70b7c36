//! The daemon, built and started by us.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{
    reproducible,
    shell::{repository, run, run_quietly, target},
};

/// Builds both halves for use, as the calling user.
pub(crate) fn build() -> Result<PathBuf> {
    run(&mut reproducible::cargo("build", repository())?)?;
    Ok(binary())
}

pub(crate) fn binary() -> PathBuf {
    target().join("release/closewatch")
}

/// A running daemon; dropping it ends it.
pub(crate) struct Daemon {
    process: Child,
    log: PathBuf,
}

impl Daemon {
    pub(crate) fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let output = File::create(log)?;
        let process = command
            .env("CLOSEWATCH_LOG", "info")
            .args(["--listen", "127.0.0.1:0", "--log-format", "json"])
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("start closewatch")?;
        Ok(Self {
            process,
            log: log.to_owned(),
        })
    }

    /// Where it serves, as its log says; none until it does.
    pub(crate) fn address(&mut self) -> Result<Option<SocketAddr>> {
        let log = self.log();
        if let Some(status) = self.process.try_wait()? {
            bail!("closewatch ended at once ({status}):\n{log}");
        }
        // The last line may be half written.
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let address = lines
            .filter_map(|line| line["fields"]["listen"].as_str()?.parse().ok())
            .next();
        Ok(address)
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Asks it to finish, which writes what it still holds.
    pub(crate) fn stop(&mut self) -> Result<()> {
        run_quietly(Command::new("sh").args(["-c", "kill $0", &self.process.id().to_string()]))?;
        let asked = Instant::now();
        while asked.elapsed() < Duration::from_secs(3) {
            if let Some(status) = self.process.try_wait()? {
                anyhow::ensure!(
                    status.success(),
                    "closewatch ended badly ({status}):\n{}",
                    self.log()
                );
                return Ok(());
            }
            thread::sleep(Duration::from_millis(10));
        }
        bail!("closewatch did not end within three seconds of SIGTERM");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both fail when it has ended, which is what is wanted.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}
