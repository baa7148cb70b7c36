//! closewatch: which WebSocket servers delay closing TCP.
//!
//! The table of contents. Facts come from the kernel ([`probes`], [`events`]), become ended
//! connections ([`tracker`]), are judged ([`outcome`]), counted per server ([`servers`],
//! [`history`], [`metrics`]) and written ([`records`], [`record_file`]); what they leave behind in the
//! kernel is listed ([`time_wait`]). [`daemon`] owns all of that, [`run`] is the one loop that drives it,
//! and [`http`] asks that loop and publishes what [`api`] makes of the answers, to whom [`web_config`] lets it. [`top`] shows these answers in
//! a terminal, of whichever daemon. [`documents`] makes man pages and completions.

mod api;
mod cgroups;
mod check;
mod clock;
mod config;
mod daemon;
mod documents;
mod events;
#[cfg(test)]
mod flood;
mod heads;
mod history;
mod http;
mod journal;
mod labels;
mod log;
mod memory;
mod metrics;
mod outcome;
mod privileges;
mod probes;
mod process;
mod record_file;
mod records;
mod run;
mod servers;
mod service_manager;
mod time_wait;
#[cfg(test)]
mod timeline;
mod tls;
mod top;
mod tracker;
mod unpin;
mod web_config;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use tracing::error;

use crate::config::{Cli, Command, Config};

/// The exit code where this host, or what this process may do, is not enough.
const UNFIT: u8 = 3;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Check { scope, tls } => check::print(&scope, &tls.follow),
        Command::Run(config) => watch(config),
        Command::Top(top) => top::show(top),
        Command::Generate { folder } => documents::generate(&folder),
        Command::Unpin(unpin) => unpin::unpin(&unpin),
    };
    let code = match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&error);
            if error.is::<check::Unfit>() {
                ExitCode::from(UNFIT)
            } else {
                ExitCode::FAILURE
            }
        }
    };
    log::flush();
    code
}

fn tell(error: &anyhow::Error) {
    if tracing::dispatcher::has_been_set() {
        error!("{error:#}");
    } else {
        eprintln!("closewatch: {error:#}");
    }
}

fn watch(config: Config) -> Result<()> {
    let config = config.without_empty();
    log::start(config.log_format)?;
    let (cgroup, tls) = check::require(&config.scope, &config.tls.follow)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?
        .block_on(run::run(config, cgroup, tls))
}
