//! The command line and its environment, validated.
//!
//! In: arguments and `CLOSEWATCH_…` variables. Out: values that no other module checks again. Touches
//! neither network nor files.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{record_file::Target, top::DaemonUrl};

/// Which WebSocket servers delay closing TCP?
#[derive(Debug, Parser)]
#[command(
    name = "closewatch",
    version,
    after_help = "CLOSEWATCH_LOG sets what is logged: error, warn, info (default), debug or trace.\n\
                  Exit codes: 0 fine; 1 an error; 2 a wrong flag; 3 this host, or what this process may do, is not enough."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Watch every WebSocket of this host, and serve what was seen to Prometheus
    Run(Config),
    /// Show what a running daemon sees in this terminal
    Top(Top),
    /// Remove the probes that a stopped daemon has left in the kernel, and its journal
    Unpin(Unpin),
    /// Tell whether this kernel and this process can do it, and what is missing
    Check {
        #[command(flatten)]
        scope: Scope,

        #[command(flatten)]
        tls: Tls,
    },
    /// Write man pages and shell completions into a folder, for packages
    #[command(hide = true)]
    Generate { folder: PathBuf },
}

/// What `closewatch run` was told.
#[derive(Args, Clone, Debug)]
pub(crate) struct Config {
    /// Address and port of the metrics; port 0 takes a free one [default: the socket that systemd
    /// passes, or 127.0.0.1:16455]
    #[arg(
        long,
        hide_env_values = true,
        env = "CLOSEWATCH_LISTEN",
        value_name = "IP:PORT",
        value_parser = address
    )]
    pub(crate) listen: Option<SocketAddr>,

    /// TLS, users and passwords from this file, in the format of Prometheus' exporter-toolkit
    #[arg(
        long,
        hide_env_values = true,
        env = "CLOSEWATCH_WEB_CONFIG",
        value_name = "FILE"
    )]
    pub(crate) web_config: Option<PathBuf>,

    /// A close is slow from here on; also an edge of the histograms
    #[arg(long, hide_env_values = true, env = "CLOSEWATCH_SLOW_AFTER", value_name = "TIME", default_value = "1s", value_parser = slow_after)]
    pub(crate) slow_after: Duration,

    /// Append a JSON line for each ended connection to this file, or to stdout with "-"
    #[arg(
        long,
        hide_env_values = true,
        env = "CLOSEWATCH_RECORDS",
        value_name = "PATH|-"
    )]
    pub(crate) records: Option<Target>,

    /// Servers with series of their own; the rest is counted as "other"
    #[arg(
        long,
        hide_env_values = true,
        env = "CLOSEWATCH_MAX_SERVERS",
        value_name = "N",
        default_value = "1000"
    )]
    pub(crate) max_servers: NonZeroUsize,

    /// Forget a server that has been silent for this long
    #[arg(long, hide_env_values = true, env = "CLOSEWATCH_SERVER_TTL", value_name = "TIME", default_value = "1h", value_parser = positive)]
    pub(crate) server_ttl: Duration,

    #[command(flatten)]
    pub(crate) scope: Scope,

    #[command(flatten)]
    pub(crate) tls: Tls,

    /// Leave the probes in the kernel over a restart, pinned in this directory of a bpffs
    #[arg(
        long,
        hide_env_values = true,
        env = "CLOSEWATCH_PIN",
        value_name = "DIR"
    )]
    pub(crate) pin: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) state: State,

    /// How to log: text or json on stderr, or the journal with fields [default: the journal where stderr
    /// goes there, else text]
    #[arg(
        long,
        hide_env_values = true,
        env = "CLOSEWATCH_LOG_FORMAT",
        value_name = "FORMAT",
        hide_possible_values = true
    )]
    pub(crate) log_format: Option<LogFormat>,
}

/// What `closewatch top` was told.
#[derive(Args, Clone, Debug)]
pub(crate) struct Top {
    /// Where the daemon serves
    #[arg(
        long,
        hide_env_values = true,
        env = "CLOSEWATCH_URL",
        value_name = "URL",
        default_value = DAEMON_URL,
        value_parser = daemon_url
    )]
    pub(crate) url: DaemonUrl,

    /// The authority that made the daemon's certificate, for https [default: those of this system]
    #[arg(
        long,
        hide_env_values = true,
        env = "CLOSEWATCH_CA",
        value_name = "FILE"
    )]
    pub(crate) ca: Option<PathBuf>,

    /// Who asks, where the daemon wants a password
    #[arg(
        long,
        hide_env_values = true,
        env = "CLOSEWATCH_USER",
        value_name = "NAME"
    )]
    pub(crate) user: Option<String>,

    /// The file with the password; without it, CLOSEWATCH_PASSWORD in the environment has it
    #[arg(
        long,
        hide_env_values = true,
        env = "CLOSEWATCH_PASSWORD_FILE",
        value_name = "FILE",
        requires = "user"
    )]
    pub(crate) password_file: Option<PathBuf>,

    /// The certificate to show, where the daemon wants one
    #[arg(
        long,
        hide_env_values = true,
        env = "CLOSEWATCH_CERT",
        value_name = "FILE",
        requires = "key"
    )]
    pub(crate) cert: Option<PathBuf>,

    /// The key of that certificate
    #[arg(
        long,
        hide_env_values = true,
        env = "CLOSEWATCH_KEY",
        value_name = "FILE",
        requires = "cert"
    )]
    pub(crate) key: Option<PathBuf>,

    /// Print it once as plain text, as where stdout is no terminal
    #[arg(long)]
    pub(crate) once: bool,
}

/// Where `closewatch run` serves when it is told nothing, and nothing is passed to it.
pub(crate) const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 16455);
/// The same as a URL.
const DAEMON_URL: &str = "http://127.0.0.1:16455";

/// What `closewatch unpin` was told.
#[derive(Args, Clone, Debug)]
pub(crate) struct Unpin {
    /// The directory of a bpffs in which the probes are pinned
    #[arg(
        long,
        hide_env_values = true,
        env = "CLOSEWATCH_PIN",
        value_name = "DIR",
        default_value = "/sys/fs/bpf/closewatch"
    )]
    pub(crate) pin: PathBuf,

    #[command(flatten)]
    pub(crate) state: State,
}

/// Where the journal is.
#[derive(Args, Clone, Debug)]
pub(crate) struct State {
    /// With --pin: the directory of the journal, what the daemon itself remembers over a restart
    #[arg(
        long = "state",
        hide_env_values = true,
        env = "CLOSEWATCH_STATE",
        value_name = "DIR",
        default_value = "/run/closewatch"
    )]
    pub(crate) directory: PathBuf,
}

/// Which sockets are watched.
#[derive(Args, Clone, Debug)]
pub(crate) struct Scope {
    /// Watch this cgroup v2 and those below it [default: the root, so everything]
    #[arg(
        long,
        hide_env_values = true,
        env = "CLOSEWATCH_CGROUP",
        value_name = "PATH"
    )]
    pub(crate) cgroup: Option<PathBuf>,
}

/// Where TLS is followed.
#[derive(Args, Clone, Debug)]
pub(crate) struct Tls {
    /// Follow WebSockets over TLS too, at a price for each call of OpenSSL: off, auto (in all processes), or only in
    /// these cgroups and programs
    #[arg(
        long = "tls",
        hide_env_values = true,
        env = "CLOSEWATCH_TLS",
        value_name = "off|auto|CGROUP-OR-PROGRAM,...",
        value_delimiter = ',',
        default_value = "off"
    )]
    pub(crate) follow: Vec<Follow>,
}

/// A word of `--tls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Follow {
    Off,
    Auto,
    /// The path of a cgroup or of a program.
    Place(PathBuf),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
    Journal,
}

impl Config {
    /// An empty value in the environment is none: so a setting of the unit can be taken back.
    pub(crate) fn without_empty(mut self) -> Self {
        self.records = self
            .records
            .filter(|target| *target != Target::File(PathBuf::new()));
        self.web_config = self.web_config.filter(|path| !path.as_os_str().is_empty());
        self.pin = self.pin.filter(|path| !path.as_os_str().is_empty());
        self.scope.cgroup = self
            .scope
            .cgroup
            .filter(|path| !path.as_os_str().is_empty());
        self
    }
}

impl FromStr for Target {
    type Err = Infallible;

    fn from_str(target: &str) -> Result<Self, Infallible> {
        Ok(if target == "-" {
            Self::Stdout
        } else {
            Self::File(target.into())
        })
    }
}

impl FromStr for Follow {
    type Err = &'static str;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            // An empty value in the environment is none.
            "off" | "" => Ok(Self::Off),
            "auto" => Ok(Self::Auto),
            path if path.contains('/') => Ok(Self::Place(path.into())),
            _ => Err("write off, auto, or the path of a cgroup or of a program"),
        }
    }
}

/// An empty value in the environment is none, as for [`Config::without_empty`].
fn daemon_url(text: &str) -> Result<DaemonUrl, String> {
    if text.is_empty() { DAEMON_URL } else { text }.parse()
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let written = "write an address and a port like 127.0.0.1:16455 or [::]:16455, and no name";
    text.parse().map_err(|_| written.to_owned())
}

fn slow_after(text: &str) -> Result<Duration, String> {
    let duration = positive(text)?;
    if duration > Duration::from_secs(3600) {
        return Err("it must be an hour at most, like 1s or 500ms".to_owned());
    }
    Ok(duration)
}

fn positive(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write it like 1s, 500ms or 2h"))?;
    if duration.is_zero() {
        return Err("it must be longer than nothing, like 1s".to_owned());
    }
    Ok(duration)
}

#[cfg(test)]
mod tests;
