//! Where the daemon's log goes: to stderr, since stdout may carry records, or to the journal with fields.
//!
//! Nobody waits for who reads stderr. The journal's socket is waited for when it is full.

use std::{
    env, fs,
    io::{self, IsTerminal},
    os::{fd::AsFd, unix::fs::MetadataExt},
};

use anyhow::{Context, Result};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{fmt, layer::SubscriberExt, util::SubscriberInitExt};

pub(crate) use self::stderr::{flush, lost};
use crate::config::LogFormat;

mod stderr;

const LEVELS: &str = "give it error, warn, info, debug or trace";
/// In front of the names of fields in the journal, whose own have none.
const PREFIX: &str = "CLOSEWATCH";

/// # Errors
///
/// When `CLOSEWATCH_LOG` is no level, or there is no journal and it is asked for, or there can be no thread.
pub(crate) fn start(format: Option<LogFormat>) -> Result<()> {
    let log = tracing_subscriber::registry().with(level()?);
    let format = format.unwrap_or_else(|| {
        if stderr_is_journal() {
            LogFormat::Journal
        } else {
            LogFormat::Text
        }
    });
    let lines = || -> Result<_> {
        let lines = fmt::layer().with_ansi(io::stderr().is_terminal());
        Ok(lines.with_writer(stderr::lines()?))
    };
    match format {
        LogFormat::Text => log.with(lines()?).init(),
        LogFormat::Json => log.with(lines()?.json()).init(),
        LogFormat::Journal => {
            let journal = tracing_journald::layer()
                .context("connect to systemd's journal (--log-format text logs to stderr)")?
                .with_syslog_identifier("closewatch".to_owned())
                .with_field_prefix(Some(PREFIX.to_owned()));
            log.with(journal).init();
        }
    }
    Ok(())
}

fn level() -> Result<LevelFilter> {
    let level = env::var("CLOSEWATCH_LOG").unwrap_or_default();
    match level.as_str() {
        "" => Ok(LevelFilter::INFO),
        level => level
            .parse()
            .ok()
            .with_context(|| format!("CLOSEWATCH_LOG is {level:?}: {LEVELS}")),
    }
}

/// Whether systemd connected stderr to the journal: it says with which file, for stderr may be another by now.
fn stderr_is_journal() -> bool {
    let file = || {
        let stderr = io::stderr().as_fd().try_clone_to_owned().ok()?;
        let file = fs::File::from(stderr).metadata().ok()?;
        Some(format!("{}:{}", file.dev(), file.ino()))
    };
    env::var("JOURNAL_STREAM").is_ok_and(|journal| file() == Some(journal))
}
