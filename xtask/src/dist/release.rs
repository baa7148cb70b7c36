//! What is released: its version, its time, for which machines.

use std::{env, process::Command};

use anyhow::{Context as _, Result};

use crate::shell::{repository, run_quietly};

pub(crate) struct Release {
    pub(crate) version: &'static str,
    /// The time that stands in every package, in seconds since 1970: the commit's. What packages hold besides must
    /// not tell when or where they were made.
    pub(crate) epoch: u64,
}

impl Release {
    /// # Errors
    ///
    /// When the time is neither in `SOURCE_DATE_EPOCH` nor to be had from git.
    pub(crate) fn of_this_source() -> Result<Self> {
        let epoch = match env::var("SOURCE_DATE_EPOCH") {
            Ok(epoch) => epoch,
            Err(_) => run_quietly(
                Command::new("git")
                    .args(["log", "-1", "--format=%ct"])
                    .current_dir(repository()),
            )
            .context("packages bear the time of the commit, and git does not tell it: set SOURCE_DATE_EPOCH to seconds since 1970")?,
        };
        Ok(Self {
            version: env!("CARGO_PKG_VERSION"),
            epoch: epoch.trim_end().parse().with_context(|| {
                format!("SOURCE_DATE_EPOCH is {epoch:?}: give it seconds since 1970")
            })?,
        })
    }

    /// The time of the release as `date` writes it.
    pub(crate) fn date(&self, format: &str) -> Result<String> {
        let date = run_quietly(
            Command::new("date")
                .args(["--utc", &format!("--date=@{}", self.epoch), format])
                .env("LC_ALL", "C"),
        )?;
        Ok(date.trim_end().to_owned())
    }
}
