//! Daemons that come one after the other, with pins and a journal of their own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::{
    daemon::{ANYWHERE, BINARY, Daemon},
    late::Late,
    sandbox::Sandbox,
};

/// A bpffs, mounted as long as this lives.
pub(crate) struct Bpffs(PathBuf);

impl Bpffs {
    pub(crate) fn mount(sandbox: &Sandbox) -> Bpffs {
        let path = sandbox.path("bpf");
        fs::create_dir(&path).unwrap();
        let mut mount = Command::new("mount");
        let status = mount.args(["-t", "bpf", "bpf"]).arg(&path).status();
        assert!(status.unwrap().success(), "no bpffs can be mounted here");
        Bpffs(path)
    }

    /// What `--pin` is given.
    pub(crate) fn pins(&self) -> PathBuf {
        self.0.join("closewatch")
    }

    /// The directory of the layout.
    pub(crate) fn layout(&self) -> PathBuf {
        let mut layouts = self.layouts();
        assert_eq!(layouts.len(), 1, "{layouts:?}");
        layouts.remove(0)
    }

    pub(crate) fn layouts(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.pins()).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// What bpftool says of a pinned link.
    pub(crate) fn link(&self, name: &str) -> Value {
        let path = self.layout().join(name);
        bpftool(&["link", "show", "pinned", path.to_str().unwrap()]).expect("a pinned link")
    }

    /// The kinds and ids of all that is pinned, for bpftool.
    pub(crate) fn objects(&self) -> Vec<(&'static str, String)> {
        let entries = fs::read_dir(self.layout()).unwrap();
        let objects = entries.map(|entry| {
            let path = entry.unwrap().path();
            let path = path.to_str().unwrap();
            let kind = if path.rsplit('/').next().unwrap().starts_with("observe") {
                "link"
            } else {
                "map"
            };
            let shown = bpftool(&[kind, "show", "pinned", path]).unwrap();
            (kind, shown["id"].to_string())
        });
        objects.collect()
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        // What is pinned goes with it.
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// What bpftool says; none when there is no such thing.
pub(crate) fn bpftool(arguments: &[&str]) -> Option<Value> {
    let mut command = Command::new("bpftool");
    let output = command.arg("--json").args(arguments).output();
    let output = output.expect("`bpftool` is missing: `cargo xtask test` installs it");
    let said: Value = serde_json::from_slice(&output.stdout).ok()?;
    (output.status.success() && said.get("error").is_none()).then_some(said)
}

/// A daemon of this build, with the pins.
pub(crate) fn command(sandbox: &Sandbox, bpffs: &Bpffs) -> Command {
    let mut command = Command::new(BINARY);
    command
        .env("CLOSEWATCH_PIN", bpffs.pins())
        .env("CLOSEWATCH_STATE", sandbox.path("state"));
    command
}

pub(crate) fn start(late: &Late, bpffs: &Bpffs) -> Daemon {
    let sandbox = late.sandbox();
    Daemon::launch(command(sandbox, bpffs), sandbox, &late.records(), ANYWHERE)
}

/// SIGKILL. Returns its log.
pub(crate) fn kill(daemon: Daemon) -> Vec<String> {
    daemon.signal(libc::SIGKILL);
    let log = daemon.log();
    drop(daemon);
    log
}

/// Runs the program to its end.
pub(crate) fn run_to_end(mut command: Command, arguments: &[&str]) -> Output {
    command
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

pub(crate) fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
