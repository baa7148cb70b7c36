//! Builds the kernel object and leaves it where `probes.rs` embeds it from.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use object::{
    build::elf::{Builder, SectionData},
    elf::SHT_STRTAB,
};

fn main() -> Result<()> {
    let toolchain = env::var("RUSTUP_TOOLCHAIN").unwrap_or_else(|_| "1.95.0".to_owned());
    require_tools()?;
    // SAFETY: nothing else runs in this process yet.
    unsafe {
        // The kernel side is built by the same stable compiler as the rest; `-Z build-std` and BPF
        // assembly are its unstable parts.
        env::set_var("RUSTC_BOOTSTRAP", "1");
        // Its debug information and its BTF name source files: by where they are in their packages, so
        // that the object is the same wherever it is built.
        env::set_var("CARGO_UNSTABLE_TRIM_PATHS", "true");
        env::set_var("CARGO_PROFILE_RELEASE_TRIM_PATHS", "all");
        env::set_var("CARGO_TERM_QUIET", "true");
    }
    let package = aya_build::Package {
        name: "monitor-ebpf",
        root_dir: "../monitor-ebpf",
        ..Default::default()
    };
    aya_build::build_ebpf([package], aya_build::Toolchain::Custom(&toolchain))?;
    let object = PathBuf::from(env::var("OUT_DIR")?).join("closewatch-ebpf");
    strip(&object).with_context(|| format!("strip {}", object.display()))
}

/// Takes DWARF away, two thirds of the object: what the kernel and aya read of types and lines is BTF, which stays.
fn strip(object: &Path) -> Result<()> {
    let whole = fs::read(object)?;
    let mut builder = Builder::read(whole.as_slice())?;
    for section in &mut builder.sections {
        let name = section.name.as_slice();
        section.delete = name.starts_with(b".debug_") || name.starts_with(b".rel.debug_");
    }
    builder.delete_orphan_symbols();
    // The compiler keeps the names of sections among those of symbols; what is written here has them apart.
    let names = builder.sections.add();
    names.name = b".shstrtab"[..].into();
    names.sh_type = SHT_STRTAB;
    names.sh_addralign = 1;
    names.data = SectionData::SectionString;
    let mut stripped = Vec::new();
    builder.write(&mut stripped)?;
    fs::write(object, stripped)?;
    Ok(())
}

/// One line for the two things that a plain `cargo build` cannot install.
fn require_tools() -> Result<()> {
    let runs = |program: &str| Command::new(program).arg("--version").output().is_ok();
    if !runs("bpf-linker") {
        bail!("bpf-linker is missing: run `cargo xtask setup` once");
    }
    let sysroot = Command::new(env::var("RUSTC")?)
        .args(["--print", "sysroot"])
        .output()?
        .stdout;
    let sysroot = String::from_utf8(sysroot)?;
    if !Path::new(sysroot.trim())
        .join("lib/rustlib/src/rust/library/core")
        .exists()
    {
        bail!("the toolchain's rust-src is missing: run `cargo xtask setup` once");
    }
    Ok(())
}
