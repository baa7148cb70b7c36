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

/// The compiled end-to-end tests.
pub(crate) struct EndToEnd {
    tests: String,
    /// What the tests were built to start.
    tested: String,
}

impl EndToEnd {
    pub(crate) fn build() -> Result<Self> {
        let mut build = cargo(["test", "--package", "monitor", "--test", "end_to_end"]);
        let said = run_quietly(build.args(["--no-run", "--message-format=json"]))?;
        let executable = |kind: &str, name: &str| {
            let artifacts = said
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let mut found = artifacts.filter(|artifact| {
                artifact["target"]["name"] == name && artifact["target"]["kind"][0] == kind
            });
            found.find_map(|artifact| Some(artifact["executable"].as_str()?.to_owned()))
        };
        Ok(Self {
            tests: executable("test", "end_to_end").context("cargo built no end-to-end tests")?,
            tested: executable("bin", "closewatch").context("cargo built no closewatch")?,
        })
    }

    /// The commands that let the release binary check the kernel, and then run tests on it.
    pub(crate) fn command(&self, tests: &[String], exact: bool) -> Result<String> {
        let Self { tests: all, tested } = self;
        let mut list = Command::new(all);
        list.args(["--ignored", "--list", "--format=terse"]);
        if exact {
            list.arg("--exact");
        }
        let listed = run_quietly(list.args(tests))?;
        ensure!(
            !listed.is_empty() && (!exact || listed.lines().count() == tests.len()),
            "the end-to-end tests have no {}",
            tests.join(", ")
        );
        Ok(format!(
            "mount -o bind {release} {tested}\n\
             closewatch check\n\
             cd monitor && {all} --ignored {exact} --color=never --show-output --test-threads=1 {tests}",
            release = daemon::binary().display(),
            exact = if exact { "--exact" } else { "" },
            tests = tests.join(" "),
        ))
    }
}

/// What the console said of the tests.
#[derive(Default)]
pub(crate) struct Report {
    /// How the work ended, once it has.
    pub(crate) status: Option<i32>,
    /// What `closewatch check` says of the probes.
    pub(crate) probes: Option<String>,
    /// Of each test, whether it passed.
    pub(crate) tests: BTreeMap<String, bool>,
    pub(crate) records_right: usize,
    pub(crate) records_expected: usize,
}

impl Report {
    /// Takes in a line of the console.
    pub(crate) fn hear(&mut self, line: &str) {
        if let Some(status) = line.strip_prefix(ENDED) {
            self.status = status.parse().ok();
        } else if line.contains("the probes") && line.contains("the kernel") {
            self.probes = Some(line.to_owned());
        } else if let Some((test, passed)) = tested(line) {
            self.tests.insert(test.to_owned(), passed);
        } else if let Some((right, expected)) = compared(line) {
            self.records_right += right;
            self.records_expected += expected;
        }
    }

    pub(crate) fn count(&self, passed: bool) -> usize {
        self.tests.values().filter(|test| **test == passed).count()
    }
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
            "resets: 19/20 records right; 107 times compared: median 1 µs, largest 3 µs off",
            "closewatch-vm: ended with 101",
        ] {
            report.hear(line);
        }
        assert_eq!((report.count(true), report.count(false)), (1, 1));
        assert_eq!((report.records_right, report.records_expected), (19, 20));
        assert_eq!(report.status, Some(101));
    }
}
