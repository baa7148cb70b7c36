//! `cargo xtask test`: all that CI asks of a change, in the order of what fails soonest.
//!
//! A stage that fails does not keep the others from running, unless they need what it makes.

use std::{env::consts::ARCH, fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};

use crate::{
    apt, bench, containers, daemon, dashboards, demo, deny, dist, peers, real_sockets,
    report::BEHAVIOURS,
    rules, setup,
    shell::{as_root, cargo, find, repository, run, run_quietly, target},
    stages::{Stages, Tests, libtest},
    systemd, vm,
};

/// What the end-to-end tests and the checks of `deploy/` call, and Debian's packages of it.
const TOOLS: [(&str, &str); 24] = [
    ("bpftool", "bpftool"),
    // With tcpdump and tshark, what the benchmark compares with.
    ("bpftrace", "bpftrace"),
    ("chromium", "chromium"),
    ("curl", "curl"),
    ("ethtool", "ethtool"),
    ("fsfreeze", "util-linux"),
    ("haproxy", "haproxy"),
    ("ip", "iproute2"),
    ("mkfs.ext4", "e2fsprogs"),
    ("nft", "nftables"),
    ("nginx", "nginx"),
    ("node", "nodejs"),
    ("npm", "npm"),
    ("openssl", "openssl"),
    // Its server is not in the path; this comes with it.
    ("pg_ctlcluster", "postgresql"),
    ("ps", "procps"),
    ("prometheus", "prometheus"),
    ("promtool", "prometheus"),
    ("redis-server", "redis-server"),
    ("setpriv", "util-linux"),
    ("systemd-analyze", "systemd"),
    ("tcpdump", "tcpdump"),
    ("tmux", "tmux"),
    ("tshark", "tshark"),
];

/// Of `systemd-analyze security`, in tenths.
const EXPOSURE_MAX: u32 = 15;

pub(crate) fn test(quick: bool) -> Result<()> {
    let mut stages = Stages::default();
    if !stages.check("set-up", setup::setup) {
        return stages.finish();
    }
    stages.check("format", || run(&mut cargo(["fmt", "--all", "--check"])));
    stages.check("lints", || {
        run(&mut cargo([
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ]))
    });
    stages.check("lints of the kernel side", kernel_lints);
    stages.check("dependencies", deny::check);
    stages.check("documentation", || {
        let mut doc = cargo([
            "doc",
            "--workspace",
            "--no-deps",
            "--document-private-items",
        ]);
        run(doc.env("RUSTDOCFLAGS", "--deny warnings"))
    });
    stages.test("host tests", || {
        libtest(&mut cargo(["test", "--workspace", "--no-fail-fast"]))
    });
    if quick {
        return stages.finish();
    }

    let ready = stages.check("tools", tools)
        && stages.check("release build", || daemon::build().map(drop))
        && stages.check("probes on this kernel", kernel);
    stages.check("deploy/", deploy);
    stages.test("containers", containers::check);
    stages.test("packages", dist::test);
    stages.test("alerts and recording rules", rules::test);
    stages.test("dashboards are as generated", dashboards::regenerate);
    if ready {
        stages.test("end-to-end tests", real_sockets::end_to_end);
        stages.test(
            "end-to-end tests as on Linux 5.10",
            real_sockets::end_to_end_callbacks,
        );
        stages.test("Debian's kernels", || {
            vm::prepare()?;
            vm::matrix(&vm::Kernel::ALL, &[])
        });
        stages.test("service under systemd", systemd::check);
        stages.check("benchmark, its smallest size", || {
            run(&mut bench::smallest()?)
        });
        stages.test("demo", || {
            run(demo::watching()?.arg("--once"))?;
            Ok(Tests {
                passed: BEHAVIOURS.len(),
                failed: 0,
            })
        });
        stages.test("queries of the dashboards", || {
            run(&mut dashboards::asking()?)?;
            Ok(Tests {
                passed: dashboards::queries()?,
                failed: 0,
            })
        });
    }
    stages.finish()
}

/// The host sees an empty `main` where the hooks are, so they are linted for the target they are built for.
fn kernel_lints() -> Result<()> {
    let target_dir = target().join("kernel-lints");
    let target = if cfg!(target_endian = "big") {
        "bpfeb-unknown-none"
    } else {
        "bpfel-unknown-none"
    };
    let mut clippy = cargo([
        "clippy",
        "--package",
        "monitor-ebpf",
        "--lib",
        "--bins",
        "-Z",
        "build-std=core",
    ]);
    clippy
        .args(["--target", target, "--target-dir"])
        .arg(target_dir)
        .args(["--", "--deny", "warnings"])
        // As aya-build builds it: one stable toolchain for both halves.
        .env("RUSTC_BOOTSTRAP", "1")
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            format!("--cfg=bpf_target_arch=\"{ARCH}\""),
        );
    run(&mut clippy)
}

fn tools() -> Result<()> {
    let mut missing: Vec<_> = TOOLS
        .iter()
        .filter(|(program, _)| find(program).is_none())
        .map(|tool| tool.1)
        .collect();
    missing.dedup();
    apt::install(&missing)?;
    peers::python()?;
    peers::node_modules()?;
    peers::schemathesis()?;
    Ok(())
}

fn kernel() -> Result<()> {
    run(as_root(daemon::binary())?.arg("check")).context("closewatch cannot run on this kernel")
}

/// What an operator installs is read by the programs that will read it.
fn deploy() -> Result<()> {
    let folder = repository().join("deploy");
    rules::check()?;

    units(&folder)?;

    let settings = fs::read_to_string(folder.join("closewatch.env"))?;
    let help = |words: &[&str]| run_quietly(Command::new(daemon::binary()).args(words));
    let help = help(&["--help"])? + &help(&["run", "--help"])?;
    ensure!(
        variables(&settings) == variables(&help),
        "deploy/closewatch.env has {:?}, --help has {:?}",
        variables(&settings),
        variables(&help)
    );
    let daemonset = fs::read_to_string(folder.join("kubernetes/daemonset.yml"))?;
    ensure!(
        variables(&daemonset).is_subset(&variables(&help)),
        "deploy/kubernetes/daemonset.yml has {:?}, --help has {:?}",
        variables(&daemonset),
        variables(&help)
    );
    Ok(())
}

/// systemd reads the units without a word, and finds them as tight as the README says.
fn units(folder: &Path) -> Result<()> {
    let installed = "/usr/bin/closewatch";
    let copies = tempfile::tempdir()?;
    let mut units = Vec::new();
    for name in ["closewatch.service", "closewatch.socket"] {
        let unit = fs::read_to_string(folder.join(name))?;
        let binary = daemon::binary().display().to_string();
        let copy = copies.path().join(name);
        fs::write(&copy, unit.replace(installed, &binary))?;
        units.push(copy);
    }
    let service = fs::read_to_string(folder.join("closewatch.service"))?;
    ensure!(
        service.contains(&format!("ExecStart={installed} run")),
        "deploy/closewatch.service does not start {installed}"
    );
    // It also prints what it only warns of, and then succeeds.
    let complaints = Command::new("systemd-analyze")
        .arg("verify")
        .args(&units)
        .output()?
        .stderr;
    ensure!(
        complaints.is_empty(),
        "systemd-analyze: {}",
        String::from_utf8_lossy(&complaints)
    );
    let mut security = Command::new("systemd-analyze");
    security
        .args(["security", "--offline=true", "--no-pager"])
        .arg(format!("--threshold={EXPOSURE_MAX}"))
        .arg(&units[0]);
    run_quietly(&mut security).map(drop)
}

/// The settings that a text names, each once.
fn variables(text: &str) -> std::collections::BTreeSet<&str> {
    text.split(|c: char| !c.is_ascii_uppercase() && c != '_')
        .filter(|word| word.starts_with("CLOSEWATCH_"))
        .collect()
}
