//! Where the load runs: a network namespace of its own, and a cgroup for each thing that is compared, so that what
//! others on the machine do is not measured, and nothing needs to be attached anew from turn to turn.
//!
//! Only the load is in these cgroups. What watches it is in one of its own, whose CPU time the kernel counts.

use std::{
    fs,
    io::{BufRead as _, BufReader, Error, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    cgroup,
    shell::{find, run},
};

/// One of the things that are compared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Under {
    Nothing,
    Empty,
    Closewatch,
}

/// Removed when dropped; what was started in it has ended by then.
pub(super) struct Place {
    cgroup: PathBuf,
}

/// A load that waits for words and answers each with a line; it ends when this is dropped.
pub(super) struct Load {
    process: Child,
    words: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Under {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Empty => "empty program",
            Self::Closewatch => "closewatch",
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Empty => "empty",
            Self::Closewatch => "closewatch",
        }
    }
}

impl Place {
    /// Moves this process into the network namespace. It has one thread, and stays in its cgroup.
    pub(super) fn create() -> Result<Self> {
        // SAFETY: takes no pointer.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            return Err(Error::last_os_error()).context("make a network namespace");
        }
        let ip = find("ip").context("`ip` is missing: install iproute2")?;
        run(Command::new(ip).args(["link", "set", "lo", "up"]))?;
        let name = format!("closewatch-bench-{}", std::process::id());
        let place = Self {
            cgroup: cgroup::mount()?.join(name),
        };
        fs::create_dir(&place.cgroup)
            .with_context(|| format!("create the cgroup {}", place.cgroup.display()))?;
        for under in [Under::Nothing, Under::Empty, Under::Closewatch] {
            fs::create_dir(place.of(under))?;
        }
        fs::create_dir(place.watchers())?;
        Ok(place)
    }

    /// The cgroup of a load.
    pub(super) fn of(&self, under: Under) -> PathBuf {
        self.cgroup.join(under.folder())
    }

    /// The cgroup of what watches.
    pub(super) fn watchers(&self) -> PathBuf {
        self.cgroup.join("watchers")
    }

    /// Runs a load to its end, and returns what it counted.
    pub(super) fn load(&self, under: Under, words: &[&str]) -> Result<Value> {
        let mut load = self.begin(under, words)?;
        let answer = load.answer()?;
        load.end()?;
        Ok(answer)
    }

    /// Starts a load that goes on.
    pub(super) fn begin(&self, under: Under, words: &[&str]) -> Result<Load> {
        let mut command = within(
            &self.of(under),
            &format!("/proc/{}/exe", std::process::id()),
        );
        command.arg("load").args(words);
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start a load")?;
        let words = process.stdin.take();
        let answers = process.stdout.take().context("its output is ours")?;
        Ok(Load {
            process,
            words,
            answers: BufReader::new(answers),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let children = ["nothing", "empty", "closewatch", "watchers"];
        for cgroup in children.map(|name| self.cgroup.join(name)) {
            remove(&cgroup);
        }
        remove(&self.cgroup);
    }
}

impl Load {
    pub(super) fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        ensure!(!line.is_empty(), "a load ended without an answer");
        serde_json::from_str(&line).context("read what a load counted")
    }

    pub(super) fn ask(&mut self, word: &str) -> Result<Value> {
        let words = self.words.as_mut().context("the load is still there")?;
        writeln!(words, "{word}")?;
        self.answer()
    }

    /// Waits for its end, which comes once there are no more words.
    pub(super) fn end(mut self) -> Result<()> {
        drop(self.words.take());
        let status = self.process.wait()?;
        ensure!(status.success(), "a load failed ({status})");
        Ok(())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // Both fail when it has ended, which is what is wanted.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

/// A command that runs in a cgroup.
pub(super) fn within(cgroup: &Path, program: &str) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", r#"echo $$ > "$0" && exec "$@""#])
        .arg(cgroup.join("cgroup.procs"))
        .arg(program);
    command
}

/// CPU time of all that ever ran in a cgroup.
pub(super) fn cpu(cgroup: &Path) -> Result<Duration> {
    let facts = fs::read_to_string(cgroup.join("cpu.stat"))?;
    let used = facts
        .lines()
        .find_map(|line| line.strip_prefix("usage_usec "));
    let used = used.context("cgroup v2 does not count CPU time")?;
    Ok(Duration::from_micros(used.parse()?))
}

/// The kernel lets go of a cgroup some moments after its last process ended.
fn remove(cgroup: &Path) {
    let began = Instant::now();
    while let Err(error) = fs::remove_dir(cgroup) {
        if began.elapsed() > Duration::from_secs(3) {
            eprintln!("the cgroup {} stays behind: {error}", cgroup.display());
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
}
