//! `cargo xtask systemd`: our Debian package in a Debian 12 of its own, under its systemd, in QEMU.
//!
//! The system is made once (debootstrap) and kept in `target/systemd`. Each run boots it with a second disk that holds
//! the package and the checks of `guest/`, which say on the console what held.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    apt, dist, setup,
    shell::{announce, as_root, repository, run_quietly, target},
    stages::Tests,
    vm::machine::{self, Machine, Pace},
};

/// What makes the system.
const TOOLS: [&str; 3] = ["debootstrap", "e2fsprogs", "tar"];
/// What is in it besides the least that Debian works with.
const PACKAGES: [&str; 12] = [
    "adduser",
    "bpftool",
    "curl",
    "iproute2",
    "linux-image-amd64",
    "logrotate",
    "openssl",
    "procps",
    "python3",
    "systemd",
    "systemd-sysv",
    "udev",
];
const IMAGE: &str = include_str!("systemd/image.sh");
/// The checks, and what they take of the end-to-end tests: the ends of connections.
const GUEST: &str = "xtask/src/systemd/guest";
const PEERS: &str = "monitor/tests/peers";
const TAKEN: [&str; 4] = ["raw.py", "ready.py", "secure.py", "secure_raw.py"];
/// Nothing that works takes this long.
const LIMIT: Duration = Duration::from_secs(10 * 60);

/// `cargo xtask systemd`.
///
/// # Errors
///
/// When a check fails, or could not be made.
pub(crate) fn systemd() -> Result<()> {
    setup::setup()?;
    let tests = check()?;
    println!("\n{} passed, {} failed", tests.passed, tests.failed);
    ensure!(tests.failed == 0, "not all is right under systemd");
    Ok(())
}

/// Makes package and system if need be, boots, and prints a line for each check.
///
/// # Errors
///
/// When there is no package, or the checks do not come to their end.
pub(crate) fn check() -> Result<Tests> {
    ensure!(
        cfg!(target_arch = "x86_64"),
        "the VM is x86-64's, and this machine is not: the package is tried elsewhere"
    );
    apt::install(&[&TOOLS[..], &machine::PACKAGES].concat())?;
    let system = system()?;
    let work = target().join("systemd");
    let disk = second_disk(&work, &dist::debian()?)?;
    announce("booting Debian 12 with the package");
    let machine = Machine {
        pace: Pace::Fast,
        kernel: system.join("kernel"),
        initramfs: system.join("initramfs"),
        command_line: "root=/dev/vda rw systemd.show_status=no".to_owned(),
        memory_mib: 1024,
        devices: [
            // What is written is gone with the machine.
            drive(&system.join("disk.img"), "snapshot=on"),
            drive(&disk, "readonly=on"),
        ]
        .concat(),
        log: work.join("console.log"),
        limit: LIMIT,
    };
    let mut report = Report::default();
    machine.run(|line| {
        report.hear(line);
        Ok(())
    })?;
    let Report { expected, tests } = report;
    ensure!(
        expected == Some(tests.passed + tests.failed),
        "the checks did not come to their end: see {}",
        machine.log.display()
    );
    Ok(tests)
}

/// What the guest said.
#[derive(Default)]
struct Report {
    expected: Option<usize>,
    tests: Tests,
}

impl Report {
    fn hear(&mut self, line: &str) {
        if let Some(count) = line.strip_prefix("checks ") {
            self.expected = count.parse().ok();
        } else if line.starts_with("ok ") {
            self.tests.passed += 1;
        } else if line.starts_with("FAILED ") {
            self.tests.failed += 1;
        } else if self.expected.is_none() {
            // The kernel and systemd on their way up.
            return;
        }
        println!("{line}");
    }
}

/// A folder with kernel, initramfs and disk.
fn system() -> Result<PathBuf> {
    let folder = target().join("systemd/debian");
    let recipe = folder.join("recipe");
    let packages = PACKAGES.join(",");
    let wanted = format!("{packages}\n{IMAGE}");
    if fs::read_to_string(&recipe).is_ok_and(|made| made == wanted) {
        return Ok(folder);
    }
    announce("making a Debian 12 with debootstrap, as root (two or three minutes, once)");
    let mut make = as_root("sh")?;
    make.args(["-c", IMAGE, "sh"])
        .arg(&folder)
        .args([packages, wanted]);
    run_quietly(&mut make).context("debootstrap did not make a Debian 12")?;
    Ok(folder)
}

/// A tar file, as it is: the guest unpacks the device.
fn second_disk(work: &Path, package: &Path) -> Result<PathBuf> {
    let disk = work.join("checks.tar");
    let mut tar = Command::new("tar");
    tar.args(["--create", "--dereference", "--file"]).arg(&disk);
    let mut add = |folder: &Path, names: &[&str]| {
        tar.arg("--directory").arg(folder).args(names);
    };
    add(&repository().join(GUEST), &["."]);
    add(&repository().join(PEERS), &TAKEN);
    let name = package.file_name().context("a package without a name")?;
    let folder = package.parent().context("a package without a folder")?;
    add(folder, &[&name.to_string_lossy()]);
    run_quietly(&mut tar)?;
    Ok(disk)
}

fn drive(file: &Path, how: &str) -> [String; 2] {
    let file = file.display();
    [
        "-drive".to_owned(),
        format!("file={file},if=virtio,format=raw,{how}"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_counted_and_missed() {
        let mut report = Report::default();
        for line in [
            "ok the kernel says so",
            "checks 3",
            "ok one: 5 records",
            "FAILED two: why",
        ] {
            report.hear(line);
        }
        assert_eq!(report.expected, Some(3));
        assert_eq!((report.tests.passed, report.tests.failed), (2, 1));
    }
}
