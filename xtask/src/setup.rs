//! `cargo xtask setup`: brings a machine with Rust and gcc to where `cargo build` works.
//!
//! Says each thing before it is installed; says nothing about what is there.

use std::{
    env,
    ffi::OsString,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    apt,
    shell::{announce, cargo, repository, run_quietly},
};

/// The linker reads what rustc writes, so both need the same LLVM: Rust 1.95 has LLVM 22.
const BPF_LINKER: &str = "0.13.0";
const LLVM: &str = "22";
const LLVM_PACKAGES: [&str; 5] = [
    "llvm-22-dev",
    "libpolly-22-dev",
    "libzstd-dev",
    "zlib1g-dev",
    "libxml2-dev",
];

pub(crate) fn setup() -> Result<()> {
    rust_src()?;
    bpf_linker()
}

/// No `core` comes compiled for the kernel's virtual machine: building needs its source.
fn rust_src() -> Result<()> {
    let mut rustc = Command::new("rustc");
    let sysroot = run_quietly(rustc.args(["--print", "sysroot"]).current_dir(repository()))?;
    let core = Path::new(sysroot.trim_end()).join("lib/rustlib/src/rust/library/core");
    if core.is_dir() {
        return Ok(());
    }
    // rustup's cargo tells what it starts which toolchain it chose. A component that
    // rust-toolchain.toml only lists would not be installed where RUSTUP_AUTO_INSTALL is 0.
    let Ok(toolchain) = env::var("RUSTUP_TOOLCHAIN") else {
        bail!(
            "the source of Rust's core library is missing, and this Rust is not rustup's: \
             install your distribution's package of it, so that {} exists",
            core.display()
        );
    };
    announce(format_args!("adding rust-src to the toolchain {toolchain}"));
    run_quietly(Command::new("rustup").args([
        "component",
        "add",
        "rust-src",
        "--toolchain",
        &toolchain,
    ]))
    .map(drop)
    .with_context(|| {
        format!(
            "rustup did not add rust-src; put the source of this Rust's core library at {}",
            core.display()
        )
    })
}

fn bpf_linker() -> Result<()> {
    if bpf_linker_runs() {
        return Ok(());
    }
    let prefix = match env::var_os("LLVM_PREFIX") {
        Some(prefix) => prefix,
        None => debian_llvm()?,
    };
    announce(format_args!(
        "building bpf-linker {BPF_LINKER} against LLVM {LLVM} into cargo's bin folder (a minute or two)"
    ));
    // Without --force cargo leaves one alone that is there and does not run.
    run_quietly(
        cargo(["install", "bpf-linker", "--version", BPF_LINKER, "--locked", "--force", "--quiet"])
            .args(["--no-default-features", "--features", &format!("llvm-{LLVM}")])
            .env("LLVM_PREFIX", prefix),
    )
    .context("bpf-linker did not build; it needs a C++ compiler's libraries and LLVM 22 with its headers (LLVM_PREFIX)")?;
    ensure!(
        bpf_linker_runs(),
        "bpf-linker was built, but the first one on PATH does not run: put cargo's bin folder first on PATH"
    );
    Ok(())
}

fn bpf_linker_runs() -> bool {
    Command::new("bpf-linker")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn debian_llvm() -> Result<OsString> {
    apt::install(&LLVM_PACKAGES).context(
        "building bpf-linker needs LLVM 22 (elsewhere than Debian's, name it in LLVM_PREFIX)",
    )?;
    Ok(format!("/usr/lib/llvm-{LLVM}").into())
}
