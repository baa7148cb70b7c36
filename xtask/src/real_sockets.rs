//! The tests on real sockets: one program after the other where times are compared, side by side where most of a program's
//! time is waiting.

use std::{fs, process::Command, sync::Mutex, thread};

use anyhow::{Context as _, Result};

use crate::{
    peers,
    shell::{cargo, is_root, repository, run},
    stages::{Tests, libtest, libtest_into},
};

/// Each has one test that waits for most of a minute, and none that compares times.
const SIDE_BY_SIDE: [&str; 4] = ["endpoint", "faults", "page", "top"];

/// Every test on real sockets.
pub(crate) fn end_to_end() -> Result<Tests> {
    let mut alone = programs()?;
    alone.retain(|name| !SIDE_BY_SIDE.contains(&name.as_str()));
    let mut which = Vec::new();
    for name in &alone {
        which.extend(["--test", name]);
    }
    let mut tests = libtest(on_real_sockets(&which)?.args(["--", "--ignored"]))?;

    // Here, for cargo builds one thing at a time.
    run(&mut on_real_sockets(&["--test", "*", "--no-run"])?)?;
    let commands = SIDE_BY_SIDE.map(|name| on_real_sockets(&["--test", name]));
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for command in commands {
            scope.spawn(|| {
                let mut output = String::new();
                let result = command.and_then(|mut command| {
                    libtest_into(command.args(["--", "--ignored"]), |line| {
                        output.push_str(line);
                        output.push('\n');
                    })
                });
                // In one piece.
                let mut results = results.lock().expect("nobody panics with it");
                print!("{output}");
                results.push(result);
            });
        }
    });
    for result in results.into_inner().expect("nobody panicked with it") {
        let more = result?;
        tests.passed += more.passed;
        tests.failed += more.failed;
    }
    Ok(tests)
}

/// The test programs of the daemon.
fn programs() -> Result<Vec<String>> {
    let folder = repository().join("monitor/tests");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
        let entry = entry?;
        if entry.path().join("main.rs").exists() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// What depends on how the end of a socket is seen, seen as the oldest kernels see it.
pub(crate) fn end_to_end_callbacks() -> Result<Tests> {
    let mut test = on_real_sockets(&["--test", "end_to_end"])?;
    test.env("CLOSEWATCH_TEST_ENDS", "callbacks");
    libtest(test.args(["--", "--ignored"]).args([
        "endings::",
        "forged::",
        "frames::",
        "hostile::",
        "openings::",
        "outcomes::",
    ]))
}

fn on_real_sockets(which: &[&str]) -> Result<Command> {
    let mut test = cargo(["test", "--package", "monitor", "--no-fail-fast"]);
    test.args(which)
        .env("CLOSEWATCH_TEST_PYTHON", peers::python()?)
        .env("CLOSEWATCH_TEST_NODE_MODULES", peers::node_modules()?)
        .env("CLOSEWATCH_TEST_SCHEMATHESIS", peers::schemathesis()?);
    if !is_root() {
        // cargo builds as the caller, and sudo starts only the finished test programs.
        test.args([
            "--config",
            r#"target."cfg(unix)".runner = ["sudo", "--preserve-env"]"#,
        ]);
    }
    Ok(test)
}
