//! What one does with this repository besides `cargo build`: each command is a file of its own.

#![expect(
    clippy::print_stdout,
    reason = "these commands talk to a person at a terminal"
)]

mod apt;
mod bench;
mod cgroup;
mod containers;
mod daemon;
mod dashboards;
mod demo;
mod deny;
mod dist;
mod interrupt;
mod libraries;
mod peers;
mod prometheus;
mod real_sockets;
mod report;
mod reproducible;
mod rules;
mod run;
mod scene;
mod scrape;
mod setup;
mod shell;
mod stages;
mod systemd;
mod test;
mod vm;

use std::{ffi::OsString, process::ExitCode};

use clap::Parser;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Set up, run, show and test closewatch",
    disable_help_subcommand = true
)]
enum Command {
    /// Install what building needs and this machine lacks
    Setup,
    /// Build closewatch and run it in the foreground, as root
    Run {
        /// Flags for `closewatch run`
        #[arg(last = true)]
        flags: Vec<OsString>,
    },
    /// Watch three WebSocket servers, two of them slow to close, and explain what is seen
    Demo {
        /// End after the report, instead of serving the page, /metrics and Prometheus
        #[arg(long)]
        once: bool,
        /// Everything is built: only watch. Needs root
        #[arg(long, hide = true)]
        prepared: bool,
    },
    /// Ask a real Prometheus what the Grafana dashboards ask, about the demo's connections
    Dashboards {
        /// Everything is built: only ask. Needs root
        #[arg(long, hide = true)]
        prepared: bool,
    },
    /// Try closewatch on Debian's kernels, in QEMU
    Vm {
        /// Which of them; all when none is named
        kernels: Vec<vm::Kernel>,
        /// Run the end-to-end tests with this in their name, instead of those meant for it
        #[arg(long = "test", value_name = "NAME")]
        tests: Vec<String>,
        /// Run this command there instead, as root
        #[arg(last = true)]
        command: Vec<OsString>,
    },
    /// Make packages in target/dist, the same bytes from the same source
    Dist(dist::Options),
    /// Install the Debian package in a Debian 12 of its own, in QEMU, and try the service there
    Systemd,
    /// Measure what closewatch costs, against an empty program and other tools
    Bench(bench::Options),
    /// What `bench` makes its traffic with
    #[command(hide = true)]
    Load(bench::LoadOptions),
    /// Check and test everything, as CI does
    Test {
        /// Stop before what needs root
        #[arg(long)]
        quick: bool,
    },
}

fn main() -> ExitCode {
    let result = match Command::parse() {
        Command::Setup => setup::setup(),
        Command::Run { flags } => run::run(&flags),
        Command::Demo {
            once,
            prepared: false,
        } => demo::prepare_and_watch(once),
        Command::Demo {
            once,
            prepared: true,
        } => demo::watch(once),
        Command::Dashboards { prepared: false } => dashboards::prepare_and_ask(),
        Command::Dashboards { prepared: true } => dashboards::ask(),
        Command::Vm {
            kernels,
            tests,
            command,
        } => vm::vm(&kernels, &tests, &command),
        Command::Dist(options) => dist::dist(&options),
        Command::Systemd => systemd::systemd(),
        Command::Bench(options) => bench::bench(&options),
        Command::Load(options) => bench::load(&options),
        Command::Test { quick } => test::test(quick),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
