//! Starting other programs: what is said beforehand, what is shown, what runs as root.
//!
//! Root is asked for one program at a time; cargo, pip and npm always run as the calling user.

use std::{
    env,
    ffi::OsStr,
    fmt::Display,
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use anyhow::{Context as _, Result, bail, ensure};

/// The repository that `cargo xtask` was called for, as cargo says now: two clones may share a target folder, and this
/// program was then built for one of them.
pub(crate) fn repository() -> &'static Path {
    static XTASK: LazyLock<PathBuf> = LazyLock::new(|| {
        let called = env::var_os("CARGO_MANIFEST_DIR");
        called.map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
    });
    XTASK.parent().expect("xtask is a folder of the repository")
}

pub(crate) fn target() -> PathBuf {
    let chosen = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    repository().join(chosen)
}

/// Says what is about to be done to the machine.
pub(crate) fn announce(what: impl Display) {
    println!("{what} …");
}

/// A cargo that works on this repository, wherever the caller stands.
pub(crate) fn cargo<const N: usize>(args: [&str; N]) -> Command {
    let mut command = Command::new("cargo");
    command.args(args).current_dir(repository());
    command
}

/// Runs a command whose output is for the reader.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("start {}", name(command)))?;
    ensure!(status.success(), "`{}` failed ({status})", line(command));
    Ok(())
}

/// Runs a command whose output matters only when it fails, and returns what it printed.
pub(crate) fn run_quietly(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("start {}", name(command)))?;
    if !output.status.success() {
        io::stderr().write_all(&output.stdout)?;
        io::stderr().write_all(&output.stderr)?;
        bail!("`{}` failed ({})", line(command), output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("read from {}", name(command)))
}

/// A command that runs as root: through sudo, which asks for a password, unless we are root.
pub(crate) fn as_root(program: impl AsRef<OsStr>) -> Result<Command> {
    if is_root() {
        return Ok(Command::new(program));
    }
    ensure!(
        find("sudo").is_some(),
        "{} needs root: install sudo, or run this as root",
        program.as_ref().display()
    );
    let mut command = Command::new("sudo");
    // sudo empties the environment; `env` sets again what is meant for us.
    command.arg("env");
    for (key, value) in env::vars_os() {
        let ours = key.to_str().is_some_and(|key| {
            key.starts_with("CLOSEWATCH_")
                || ["CARGO_MANIFEST_DIR", "CARGO_TARGET_DIR"].contains(&key)
        });
        if ours {
            let mut assignment = key;
            assignment.push("=");
            assignment.push(value);
            command.arg(assignment);
        }
    }
    command.arg(program);
    Ok(command)
}

pub(crate) fn is_root() -> bool {
    // The owner of /proc/self is the effective user.
    Path::new("/proc/self")
        .metadata()
        .is_ok_and(|process| process.uid() == 0)
}

/// Looks on PATH and where daemons live: a user's PATH leaves those folders out on Debian.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

fn name(command: &Command) -> String {
    command.get_program().display().to_string()
}

fn line(command: &Command) -> String {
    let words = [command.get_program()]
        .into_iter()
        .chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}
