//! `cargo xtask vm`: closewatch on Debian's kernels, in QEMU.
//!
//! Each kernel gets this machine's files, read-only, and a memory to write to. In it the release binary
//! and the compiled end-to-end tests run as they do here.

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    apt, daemon, setup,
    shell::{announce, target},
    stages::Tests,
};

use self::{
    guest::{EndToEnd, Report},
    kernel::Image,
    machine::{Machine, Pace},
    refusals::{REFUSALS, Refusal},
};

pub(crate) use kernel::Kernel;

mod archive;
mod guest;
mod initramfs;
mod kernel;
pub(crate) mod machine;
mod refusals;

/// Side by side: as many as our own machines have CPUs.
const AT_ONCE: usize = 2;
const MEMORY_MIB: u32 = 2048;
/// What `closewatch check` ends with where this host is not enough.
const UNFIT: i32 = 3;
/// Nothing that works takes this long.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// What every kernel must get right: few tests of much each, since a guest's verifier takes longer than
/// all that follows.
const TESTS: [&str; 6] = [
    "clock::the_clock_is_set_back_while_connections_are_open",
    "outcomes::both_sent_close_frames",
    "endings::resets",
    "implementations::tokio_tungstenite",
    "endings::every_outcome",
    "libraries::of_each_kind",
];

/// `cargo xtask vm`.
pub(crate) fn vm(kernels: &[Kernel], tests: &[String], command: &[OsString]) -> Result<()> {
    setup::setup()?;
    prepare()?;
    daemon::build()?;
    let kernels = if kernels.is_empty() {
        &Kernel::ALL
    } else {
        kernels
    };
    if !command.is_empty() {
        let words: Vec<_> = command.iter().map(|word| word.to_string_lossy()).collect();
        let words = words.iter().map(AsRef::as_ref);
        let command = shlex::try_join(words).context("the command has a byte of zeros")?;
        let work = guest::work(&command)?;
        for kernel in kernels {
            println!("== {}", kernel.name());
            let image = kernel.fetch()?;
            let mut report = Report::default();
            boot(kernel.name(), "", &image, &work, |line| {
                println!("{line}");
                report.hear(line);
            })?;
            ensure!(report.status == Some(0), "the command failed");
        }
        return Ok(());
    }
    let tests = matrix(kernels, tests)?;
    println!("\n{} passed, {} failed", tests.passed, tests.failed);
    ensure!(tests.failed == 0, "not all is right on every kernel");
    Ok(())
}

/// Installs what booting a guest needs.
pub(crate) fn prepare() -> Result<()> {
    ensure!(
        cfg!(target_arch = "x86_64"),
        "the VMs are x86-64's, and this machine is not: that it works on other kernels is tried elsewhere"
    );
    let packages = [&machine::PACKAGES[..], &initramfs::PACKAGES].concat();
    apt::install(&packages)
}

/// What a guest is booted for.
enum Task {
    Tests,
    Refusal(&'static Refusal),
}

/// Runs the tests on each kernel, and sees what is refused on it, and prints a line for each; at last, by kernel, what
/// failed. The daemon has been built.
pub(crate) fn matrix(kernels: &[Kernel], chosen: &[String]) -> Result<Tests> {
    let end_to_end = EndToEnd::build()?;
    let command = if chosen.is_empty() {
        end_to_end.command(&TESTS.map(str::to_owned), true)?
    } else {
        end_to_end.command(chosen, false)?
    };
    let work = guest::work(&command)?;
    let mut tasks = VecDeque::new();
    for kernel in kernels {
        let image = Arc::new(kernel.fetch()?);
        tasks.push_back((*kernel, Arc::clone(&image), Task::Tests));
        let refusals = REFUSALS.iter().filter(|refusal| refusal.kernel == *kernel);
        for refusal in refusals.filter(|_| chosen.is_empty()) {
            tasks.push_back((*kernel, Arc::clone(&image), Task::Refusal(refusal)));
        }
    }

    announce(format_args!(
        "booting {} machines, {AT_ONCE} at a time",
        tasks.len()
    ));
    let left = Mutex::new(tasks);
    let sum = Mutex::new((Tests::default(), Vec::new()));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = left
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .pop_front();
                    let Some((kernel, image, task)) = next else {
                        return;
                    };
                    let (tests, failures) = match task {
                        Task::Tests => try_on(kernel, &image, &work),
                        Task::Refusal(refusal) => refused(refusal, &image),
                    };
                    let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
                    sum.0.passed += tests.passed;
                    sum.0.failed += tests.failed;
                    sum.1.extend(failures);
                }
            });
        }
    });
    let (tests, failures) = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    // Behind the consoles, which are long.
    for failure in failures {
        println!("failed on {failure}");
    }
    Ok(tests)
}

/// Runs the tests on one kernel and says how that went: in full, and what failed in a few lines that name the kernel.
fn try_on(kernel: Kernel, image: &Image, work: &str) -> (Tests, Vec<String>) {
    let began = Instant::now();
    let mut report = Report::default();
    let mut console = String::new();
    let booted = boot(kernel.name(), "", image, work, |line| {
        report.hear(line);
        console.push_str(line);
        console.push('\n');
    });
    let booted = booted.and_then(|()| match report.status {
        Some(0) => Ok(()),
        Some(status) => bail!("the tests ended with {status}"),
        None => bail!("the guest ended before its tests"),
    });
    let (passed, failed) = (report.count(true), report.count(false));
    let mut told = String::new();
    let mut failures = Vec::new();
    if let Err(error) = &booted {
        report.failures.push(format!("{error:#}"));
        let name = |failure: &String| format!("{}: {failure}", image.release);
        failures.extend(report.failures.iter().map(name));
        told = format!(
            "--- the console of {}\n{console}--- {error:#}\n",
            image.release
        );
    }
    told += &format!(
        "{}: {passed} tests passed, {failed} failed; {} of {} records right; {:.0} s\n",
        image.release,
        report.records_right,
        report.records_expected,
        began.elapsed().as_secs_f64(),
    );
    let tls = &report.tls;
    told += &format!(
        "    of {} ends over TLS {} right, {} wrong, {} without a record; sessions: {}",
        tls.all,
        tls.right,
        tls.wrong,
        tls.missing,
        tls.sessions.join("; "),
    );
    for line in &report.probes {
        told += &format!("\n    {line}");
    }
    println!("{told}");
    let tests = Tests {
        passed,
        // What failed before or outside a test still is one failure.
        failed: failed.max(usize::from(booted.is_err())),
    };
    (tests, failures)
}

/// Sees that closewatch says why it does not run, and says how that went.
fn refused(refusal: &Refusal, image: &Image) -> (Tests, Vec<String>) {
    let mut report = Report::default();
    let mut console = String::new();
    let mut told = false;
    let name = format!(
        "{}-{}",
        refusal.kernel.name(),
        refusal.name.replace(' ', "-")
    );
    let booted = guest::work(refusal.command).and_then(|work| {
        boot(&name, refusal.command_line, image, &work, |line| {
            report.hear(line);
            told |= line.contains(refusal.words);
            console.push_str(line);
            console.push('\n');
        })
    });
    let right = booted.is_ok() && told && report.status == Some(UNFIT);
    if !right {
        println!("--- the console of {}\n{console}", image.release);
    }
    if let Err(error) = &booted {
        println!("--- {error:#}");
    }
    let verdict = format!(
        "{}: {} is {}",
        image.release,
        refusal.name,
        if right { "told" } else { "not told" }
    );
    println!("{verdict}");
    let tests = Tests {
        passed: usize::from(right),
        failed: usize::from(!right),
    };
    (tests, if right { Vec::new() } else { vec![verdict] })
}

fn boot(
    name: &str,
    command_line: &str,
    image: &Image,
    work: &str,
    mut each: impl FnMut(&str),
) -> Result<()> {
    let folder = target().join("vm/guests");
    fs::create_dir_all(&folder)?;
    let file = |kind: &str| folder.join(format!("{name}.{kind}"));
    let initramfs = file("img");
    initramfs::write(&initramfs, image, work).context("make the guest's initramfs")?;
    let machine = Machine {
        pace: Pace::Steady,
        kernel: image.vmlinuz.clone(),
        initramfs,
        command_line: command_line.to_owned(),
        memory_mib: MEMORY_MIB,
        devices: initramfs::DEVICES.map(str::to_owned).to_vec(),
        log: file("log"),
        limit: LIMIT,
    };
    machine.run(|line| {
        each(line);
        Ok(())
    })
}
