//! What is done inside the guest, and what it says of it on its console.

use std::{collections::BTreeMap, process::Command};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    daemon, peers,
    shell::{cargo, repository, run_quietly},
};

/// Begins the line that tells how the work ended.
const ENDED: &str = "closewatch-vm: ended with ";

/// The shell script that mounts what a system has mounted, and then does `command`.
///
/// The tests' peers go before all else on their CPU, but not before what takes packets in: before Linux 6.5 a packet
/// waits for ksoftirqd once that is awake, between where a capture dates it and where TCP gets it.
pub(crate) fn work(command: &str) -> Result<String> {
    let python = peers::python()?;
    let node = peers::node_modules()?;
    let closewatch = daemon::binary();
    let binaries = closewatch.parent().context("a binary is in a folder")?;
    Ok(format!(
        "export PATH={}:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin HOME=/root LANG=C.UTF-8\n\
         export CLOSEWATCH_TEST_PYTHON={} CLOSEWATCH_TEST_NODE_MODULES={} CLOSEWATCH_TEST_CLOCK=1\n\
         mount -t cgroup2 cgroup /sys/fs/cgroup\n\
         mount -t bpf bpf /sys/fs/bpf\n\
         for process in $(pgrep ksoftirqd); do chrt --fifo --pid 2 $process; done\n\
         cd {}\n\
         {command}\n\
         echo \"{ENDED}$?\"\n",
        binaries.display(),
        python.display(),
        node.display(),
        repository().display(),
    ))
}

/// Targets of end-to-end tests.
const TARGETS: [&str; 2] = ["end_to_end", "tls"];

/// The compiled end-to-end tests.
pub(crate) struct EndToEnd {
    /// In the order of [`TARGETS`].
    targets: Vec<String>,
    /// What the tests were built to start.
    tested: String,
}

impl EndToEnd {
    pub(crate) fn build() -> Result<Self> {
        let mut build = cargo(["test", "--package", "monitor"]);
        for target in TARGETS {
            build.args(["--test", target]);
        }
        let said = run_quietly(build.args(["--no-run", "--message-format=json"]))?;
        let executable = |kind: &str, name: &str| {
            let artifacts = said
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let mut found = artifacts.filter(|artifact| {
                artifact["target"]["name"] == name && artifact["target"]["kind"][0] == kind
            });
            let executable = found.find_map(|one| Some(one["executable"].as_str()?.to_owned()));
            executable.with_context(|| format!("cargo built no {name}"))
        };
        let targets = TARGETS.map(|name| executable("test", name));
        Ok(Self {
            targets: targets.into_iter().collect::<Result<_>>()?,
            tested: executable("bin", "closewatch")?,
        })
    }

    /// The commands that let the release binary check the kernel, without TLS and with it, and then run tests on it.
    pub(crate) fn command(&self, tests: &[String], exact: bool) -> Result<String> {
        let exactly = if exact { "--exact" } else { "" };
        let mut command = format!(
            "mount -o bind {} {}\nclosewatch check\nclosewatch check --tls auto\ncd monitor; failed=0\n",
            daemon::binary().display(),
            self.tested,
        );
        let mut count = 0;
        for target in &self.targets {
            let mut list = Command::new(target);
            list.args(["--ignored", "--list", "--format=terse"]);
            if exact {
                list.arg("--exact");
            }
            let found = run_quietly(list.args(tests))?.lines().count();
            if found == 0 {
                continue;
            }
            count += found;
            command += &format!(
                "{target} --ignored {exactly} --color=never --show-output --test-threads=1 {} || failed=1\n",
                tests.join(" "),
            );
        }
        ensure!(
            count != 0 && (!exact || count == tests.len()),
            "the end-to-end tests have no {}",
            tests.join(", ")
        );
        Ok(command + "test $failed = 0")
    }
}

/// What the console said of the tests.
#[derive(Default)]
pub(crate) struct Report {
    /// How the work ended, once it has.
    pub(crate) status: Option<i32>,
    /// What `closewatch check` says of the probes, and of TLS.
    pub(crate) probes: Vec<String>,
    /// Of each test, whether it passed.
    pub(crate) tests: BTreeMap<String, bool>,
    pub(crate) records_right: usize,
    pub(crate) records_expected: usize,
    pub(crate) tls: Ends,
    /// What the failed tests said when they failed, each line with the test.
    pub(crate) failures: Vec<String>,
    /// The test whose output is on the console, and whether it is saying why it failed.
    telling: Option<String>,
    is_failing: bool,
}

/// What became of ends of TLS connections.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) all: usize,
    pub(crate) right: usize,
    pub(crate) wrong: usize,
    pub(crate) missing: usize,
    /// What became of the sessions in the libraries, as the tests say it.
    pub(crate) sessions: Vec<String>,
}

impl Report {
    /// Takes in a line of the console.
    pub(crate) fn hear(&mut self, line: &str) {
        if let Some(status) = line.strip_prefix(ENDED) {
            self.status = status.parse().ok();
        } else if is_finding(line) {
            self.probes.push(line.to_owned());
        } else if let Some(sessions) = line.split_once(": TLS sessions: ") {
            self.tls.sessions.push(sessions.1.to_owned());
        } else if let Some([all, right, wrong, missing]) = ends(line) {
            self.tls.all += all;
            self.tls.right += right;
            self.tls.wrong += wrong;
            self.tls.missing += missing;
        } else if let Some((test, passed)) = tested(line) {
            self.tests.insert(test.to_owned(), passed);
        } else if let Some((right, expected)) = compared(line) {
            self.records_right += right;
            self.records_expected += expected;
        }
        self.hear_failure(line);
    }

    /// Takes in a line of what a test printed, as libtest shows it.
    fn hear_failure(&mut self, line: &str) {
        let heading = line
            .strip_prefix("---- ")
            .and_then(|rest| rest.strip_suffix(" stdout ----"));
        if let Some(test) = heading {
            self.telling = Some(test.to_owned());
            self.is_failing = false;
        } else if line.starts_with("thread '") && line.contains(" panicked at ") {
            self.is_failing = true;
        } else if line.starts_with("note: ") || line.is_empty() {
            self.is_failing = false;
        } else if self.is_failing {
            let test = self.telling.as_deref().unwrap_or("?");
            self.failures.push(format!("{test}: {line}"));
        }
    }

    pub(crate) fn count(&self, passed: bool) -> usize {
        self.tests.values().filter(|test| **test == passed).count()
    }
}

/// Whether `closewatch check` says here what the kernel does with the probes.
fn is_finding(line: &str) -> bool {
    let is_finding = line.starts_with("ok ") || line.starts_with("missing ");
    is_finding && (line.contains("the probes") || line.contains("  TLS "))
}

/// Reads `every_outcome: TLS, server raw: 13 ends, 12 right, 1 wrong, 0 without a record; …`: these four numbers.
fn ends(line: &str) -> Option<[usize; 4]> {
    let (_, rest) = line.split_once(": TLS, ")?;
    let (counts, _) = rest.split_once(" without a record")?;
    let counts = counts.rsplit_once(": ")?.1.split(", ");
    let numbers: Option<Vec<_>> = counts
        .map(|count| count.split(' ').next()?.parse().ok())
        .collect();
    numbers?.try_into().ok()
}

/// Reads `test endings::resets ... ok`.
fn tested(line: &str) -> Option<(&str, bool)> {
    let (test, result) = line.strip_prefix("test ")?.split_once(" ... ")?;
    match result {
        "ok" => Some((test, true)),
        "FAILED" => Some((test, false)),
        _ => None,
    }
}

/// Reads `resets: 20/20 records right; …`: the right ones, and all.
fn compared(line: &str) -> Option<(usize, usize)> {
    let (counts, _) = line.split_once(" records right; ")?;
    let (right, all) = counts.rsplit_once(' ')?.1.split_once('/')?;
    Some((right.parse().ok()?, all.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_console_is_read() {
        let mut report = Report::default();
        for line in [
            "test endings::resets ... ok",
            "test endings::a_killed_process ... FAILED",
            "test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured",
            "of_each_kind: TLS sessions: 48 bound, 0 contradicted, 0 unbound, 0 no_room",
            "of_each_kind: TLS, server ws, OpenSSL 1.1: 16 ends, 13 right, 2 wrong, 1 without a record; times 3 µs off",
            "of_each_kind: TLS, server ws: 8 ends, 8 right, 0 wrong, 0 without a record; times 3 µs off",
            "ok       the kernel accepts the probes (instructions verified: tls_read 5)",
            "ok       TLS can be followed: at a price",
            "resets: 19/20 records right; 107 times compared: median 1 µs, largest 3 µs off",
            "closewatch-vm: ended with 101",
        ] {
            report.hear(line);
        }
        assert_eq!((report.count(true), report.count(false)), (1, 1));
        assert_eq!((report.records_right, report.records_expected), (19, 20));
        let sessions = "48 bound, 0 contradicted, 0 unbound, 0 no_room";
        let tls = Ends {
            all: 24,
            right: 21,
            wrong: 2,
            missing: 1,
            sessions: vec![sessions.to_owned()],
        };
        assert_eq!(report.tls, tls);
        assert_eq!(report.probes.len(), 2);
        assert_eq!(report.status, Some(101));
    }

    #[test]
    fn a_failed_test_says_why() {
        let mut report = Report::default();
        for line in [
            "---- endings::resets stdout ----",
            "resets: 20/20 records right; 107 times compared: median 1 µs, largest 3 µs off",
            "---- libraries::of_each_kind stdout ----",
            "of_each_kind: TLS sessions: 48 bound, 0 contradicted, 0 unbound, 0 no_room",
            "",
            "thread 'libraries::of_each_kind' (352) panicked at monitor/tests/tls/verdict.rs:84:5:",
            "of_each_kind: 1 errors:",
            "client 127.0.0.1:57026 → 127.0.0.1:9004: frames_received is null, not Some(6)",
            "note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace",
            "the daemon's log: []",
        ] {
            report.hear(line);
        }
        assert_eq!(
            report.failures,
            [
                "libraries::of_each_kind: of_each_kind: 1 errors:",
                "libraries::of_each_kind: client 127.0.0.1:57026 → 127.0.0.1:9004: frames_received is null, not Some(6)"
            ]
        );
    }
}
