//! What people watch WebSockets with today, on the loopback of this network namespace, beside closewatch.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{
    Bench,
    bpf::Empty,
    place::{Under, within},
    watching::Watching,
};
use crate::shell::find;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Watcher {
    Nothing,
    Empty,
    Closewatch,
    Tcpdump,
    Tshark,
    Bpftrace,
}

/// It watches until this is dropped.
pub(super) enum Watch {
    Nothing,
    Empty {
        #[expect(dead_code, reason = "it is attached as long as this lives")]
        programs: Empty,
    },
    Closewatch(Watching),
    Tool(Tool),
}

/// Another process, and its children.
pub(super) struct Tool {
    process: Child,
    cgroup: PathBuf,
}

/// The narrowest that could serve to see how WebSockets are closed: beginnings and ends of connections, the two heads,
/// and segments that begin with a Close frame. One that is behind another frame passes it unseen.
const TCPDUMP: &str = "tcp port 8080 and (tcp[tcpflags] & (tcp-syn|tcp-fin|tcp-rst) != 0 \
    or tcp[((tcp[12] & 0xf0) >> 2):4] = 0x47455420 or tcp[((tcp[12] & 0xf0) >> 2):4] = 0x48545450 \
    or tcp[(tcp[12] & 0xf0) >> 2] = 0x88)";
const TSHARK: &str = "websocket.opcode == 8 or tcp.flags.fin == 1 or tcp.flags.reset == 1";
/// It finds the tracepoint in tracefs, which need not be mounted on the machine: here it is, in its own mount namespace.
const BPFTRACE: &str = "mount -t debugfs none /sys/kernel/debug; \
    mount -t tracefs none /sys/kernel/tracing 2> /dev/null; \
    exec bpftrace -e 'tracepoint:sock:inet_sock_set_state { @[args->newstate] = count(); }'";

impl Watcher {
    pub(super) const ALL: [Self; 6] = [
        Self::Nothing,
        Self::Empty,
        Self::Closewatch,
        Self::Tcpdump,
        Self::Tshark,
        Self::Bpftrace,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Empty => "empty program",
            Self::Closewatch => "closewatch",
            Self::Tcpdump => "tcpdump",
            Self::Tshark => "tshark",
            Self::Bpftrace => "bpftrace",
        }
    }

    /// Whether the table says so where it does not run.
    pub(super) fn may_be_missing(self) -> bool {
        matches!(self, Self::Tcpdump | Self::Tshark | Self::Bpftrace)
    }

    /// The cgroup of the load that it watches.
    pub(super) fn load(self) -> Under {
        match self {
            Self::Empty => Under::Empty,
            Self::Closewatch => Under::Closewatch,
            Self::Nothing | Self::Tcpdump | Self::Tshark | Self::Bpftrace => Under::Nothing,
        }
    }

    /// Returns once it watches.
    pub(super) fn start(self, bench: &Bench) -> Result<Watch> {
        let place = &bench.place;
        match self {
            Self::Nothing => Ok(Watch::Nothing),
            Self::Empty => Ok(Watch::Empty {
                programs: Empty::attach(&place.of(Under::Empty))?,
            }),
            Self::Closewatch => {
                let watching = Watching::start(place, &bench.interrupt, &bench.log(), &[])?;
                Ok(Watch::Closewatch(watching))
            }
            Self::Tcpdump => {
                let words = ["-i", "lo", "-n", "-s", "128", "-w", "/dev/null", TCPDUMP];
                Tool::start(bench, "tcpdump", &words, "listening on")
            }
            Self::Tshark => {
                let capture = ["-i", "lo", "-n", "-l", "-f", "tcp port 8080", "-Y", TSHARK];
                let fields = ["-T", "fields", "-e", "frame.time_epoch", "-e", "tcp.stream"];
                let words = [&capture[..], &fields, &["-e", "websocket.opcode"]].concat();
                Tool::start(bench, "tshark", &words, "Capturing on")
            }
            Self::Bpftrace => {
                if find("bpftrace").is_none() {
                    bail!("bpftrace is not installed");
                }
                let words = ["--mount", "sh", "-c", BPFTRACE];
                Tool::start(bench, "unshare", &words, "Attaching")
            }
        }
    }
}

impl Watch {
    pub(super) fn stop(self) -> Result<()> {
        match self {
            Self::Nothing | Self::Empty { .. } => Ok(()),
            Self::Closewatch(mut watching) => {
                watching.saw_the_load()?;
                watching.daemon.stop()
            }
            Self::Tool(tool) => tool.stop(),
        }
    }
}

impl Tool {
    /// `ready` is what it says when it is about to watch.
    fn start(bench: &Bench, program: &str, words: &[&str], ready: &str) -> Result<Watch> {
        if find(program).is_none() {
            bail!("{program} is not installed");
        }
        let log = bench.log();
        let output = File::create(&log)?;
        let cgroup = bench.place.watchers();
        // What it shows goes nowhere; what it says of itself is in the log.
        let shown = if ready == "Attaching" {
            output.try_clone()?.into()
        } else {
            Stdio::null()
        };
        let process = within(&cgroup, program)
            .args(words)
            // tshark keeps packets there.
            .env("TMPDIR", bench.files.path())
            .stdin(Stdio::null())
            .stdout(shown)
            .stderr(output)
            .spawn()
            .with_context(|| format!("start {program}"))?;
        let mut tool = Self { process, cgroup };
        let said = bench.interrupt.wait(Duration::from_secs(20), || {
            let said = fs::read_to_string(&log)?;
            if said.contains(ready) {
                return Ok(Some(()));
            }
            if tool.process.try_wait()?.is_some() {
                bail!("{program} ended at once: {}", said.trim());
            }
            Ok(None)
        })?;
        said.with_context(|| format!("{program} did not begin to watch"))?;
        // It says so a moment before.
        thread::sleep(Duration::from_millis(700));
        if tool.process.try_wait()?.is_some() {
            bail!(
                "{program} ended at once: {}",
                fs::read_to_string(&log)?.trim()
            );
        }
        Ok(Watch::Tool(tool))
    }

    fn stop(mut self) -> Result<()> {
        let id = self.process.id().cast_signed();
        // SAFETY: takes no pointer; the process is our child, which nobody has waited for.
        unsafe { libc::kill(id, libc::SIGINT) };
        let asked = Instant::now();
        while asked.elapsed() < Duration::from_secs(5) && self.process.try_wait()?.is_none() {
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        // With its children. Before Linux 5.14 there is no such file.
        if fs::write(self.cgroup.join("cgroup.kill"), "1").is_err() {
            _ = self.process.kill();
        }
        _ = self.process.wait();
    }
}
