//! The stages of a test run: how long each took and what its tests said.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

#[derive(Clone, Copy, Default)]
pub(crate) struct Tests {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

#[derive(Default)]
pub(crate) struct Stages(Vec<Stage>);

struct Stage {
    name: &'static str,
    took: Duration,
    tests: Tests,
    right: bool,
}

impl Stages {
    /// Does one stage; a failed one is reported and noted, and says false.
    pub(crate) fn check(&mut self, name: &'static str, work: impl FnOnce() -> Result<()>) -> bool {
        self.test(name, || work().map(|()| Tests::default()))
    }

    /// The same for a stage that counts tests.
    pub(crate) fn test(
        &mut self,
        name: &'static str,
        work: impl FnOnce() -> Result<Tests>,
    ) -> bool {
        println!("\n== {name}");
        let began = Instant::now();
        let result = work();
        if let Err(error) = &result {
            println!("error: {error:#}");
        }
        // What failed before a test could run still is one failure.
        let tests = result.unwrap_or(Tests {
            passed: 0,
            failed: 1,
        });
        let right = tests.failed == 0;
        self.0.push(Stage {
            name,
            took: began.elapsed(),
            tests,
            right,
        });
        right
    }

    /// Prints the closing table; an error when any stage failed.
    pub(crate) fn finish(self) -> Result<()> {
        println!(
            "\n{:<28} {:>7} {:>8} {:>7}",
            "stage", "seconds", "passed", "failed"
        );
        let mut total = Tests::default();
        for Stage {
            name, took, tests, ..
        } in &self.0
        {
            println!(
                "{name:<28} {:>7.1} {:>8} {:>7}",
                took.as_secs_f64(),
                tests.passed,
                tests.failed
            );
            total.passed += tests.passed;
            total.failed += tests.failed;
        }
        let took: Duration = self.0.iter().map(|stage| stage.took).sum();
        println!("{:<28} {:>7.1}", "in all", took.as_secs_f64());
        println!("\n{} passed, {} failed", total.passed, total.failed);
        let failed: Vec<_> = self
            .0
            .iter()
            .filter(|stage| !stage.right)
            .map(|stage| stage.name)
            .collect();
        ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
        Ok(())
    }
}

/// Runs `cargo test`, showing what it prints and adding up what its test programs count.
pub(crate) fn libtest(command: &mut Command) -> Result<Tests> {
    libtest_into(command, |line| println!("{line}"))
}

/// The same, with what it prints handed to `show`, line by line.
pub(crate) fn libtest_into(command: &mut Command, mut show: impl FnMut(&str)) -> Result<Tests> {
    let mut process = command
        .stdout(Stdio::piped())
        .spawn()
        .context("start cargo test")?;
    let output = process
        .stdout
        .take()
        .context("the output of cargo test is ours")?;
    let mut tests = Tests::default();
    for line in BufReader::new(output).lines() {
        let line = line?;
        show(&line);
        if let Some(counted) = counted(&line) {
            tests.passed += counted.passed;
            tests.failed += counted.failed;
        }
    }
    let status = process.wait()?;
    if !status.success() && tests.failed == 0 {
        bail!("cargo test failed ({status})");
    }
    ensure!(tests.passed + tests.failed > 0, "cargo test found no test");
    Ok(tests)
}

/// Reads `test result: ok. 12 passed; 0 failed; 1 ignored; …`.
fn counted(line: &str) -> Option<Tests> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let count = |what| {
        let mut counts = counts.split("; ");
        counts.find_map(|count| count.strip_suffix(what)?.parse().ok())
    };
    Some(Tests {
        passed: count(" passed")?,
        failed: count(" failed")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_the_result_line() {
        let line =
            "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out";
        let tests = counted(line).unwrap();
        assert_eq!((tests.passed, tests.failed), (12, 3));
        assert!(counted("test a ... ok").is_none());
    }
}
