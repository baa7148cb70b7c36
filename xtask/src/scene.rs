//! A daemon of our own, three WebSocket servers and their clients, in a cgroup that ends with it.

use std::{
    env,
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::{
    cgroup::OwnCgroup,
    daemon::{self, Daemon},
    interrupt::Interrupt,
    peers,
    report::{BEHAVIOURS, Report},
    scrape::{Sample, scrape},
    shell::repository,
};

/// Fields go in this order: what is in the cgroup before the cgroup.
pub(crate) struct Scene {
    servers: Vec<Peer>,
    pub(crate) daemon: Daemon,
    /// Where the daemon serves.
    pub(crate) address: SocketAddr,
    /// The servers' addresses, in the order of [`BEHAVIOURS`].
    pub(crate) servers_at: Vec<String>,
    cgroup: OwnCgroup,
    records: PathBuf,
    _folder: TempDir,
}

impl Scene {
    /// The daemon watches; nobody is on the scene.
    pub(crate) fn set(interrupt: &Interrupt) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let records = folder.path().join("records.jsonl");
        let cgroup = OwnCgroup::create()?;
        let mut daemon = Daemon::start(
            Command::new(daemon::binary())
                .args([
                    OsStr::new("run"),
                    OsStr::new("--cgroup"),
                    cgroup.path().as_os_str(),
                ])
                .args([OsStr::new("--slow-after"), OsStr::new("1s")])
                .args([OsStr::new("--records"), records.as_os_str()]),
            &folder.path().join("log"),
        )?;
        let address = interrupt
            .wait(Duration::from_secs(10), || daemon.address())?
            .with_context(|| {
                format!("closewatch did not say where it serves:\n{}", daemon.log())
            })?;
        Ok(Self {
            servers: Vec::new(),
            daemon,
            address,
            servers_at: Vec::new(),
            cgroup,
            records,
            _folder: folder,
        })
    }

    /// The servers come on, at the ports where they were before.
    pub(crate) fn open(&mut self) -> Result<()> {
        self.cgroup.enter()?;
        for (index, behaviour) in BEHAVIOURS.iter().enumerate() {
            let before = self.servers_at.get(index).map(String::as_str);
            let (server, address) = server(behaviour.name, before)?;
            self.servers.push(server);
            if before.is_none() {
                self.servers_at.push(address);
            }
        }
        Ok(())
    }

    /// The servers go. One that never closes TCP lets go only then, and its sockets end.
    pub(crate) fn close(&mut self) {
        self.servers.clear();
    }

    /// Every server is visited `count` times, and every client has left.
    pub(crate) fn visit(&self, interrupt: &Interrupt, count: usize) -> Result<()> {
        let uris = self
            .servers_at
            .iter()
            .map(|address| format!("ws://{address}/demo"));
        let mut clients = Peer(
            python("clients.py")?
                .arg(count.to_string())
                .args(uris)
                .spawn()
                .context("start the demo clients")?,
        );
        let status = interrupt
            .wait(Duration::from_secs(20), || Ok(clients.0.try_wait()?))?
            .context("the demo clients did not finish within 20 s")?;
        ensure!(status.success(), "the demo clients failed ({status})");
        Ok(())
    }

    /// `/metrics`, once the first visit is counted, or after long enough as it is then.
    pub(crate) fn samples(&self, interrupt: &Interrupt) -> Result<Vec<Sample>> {
        let counted = |samples: &_| Report::new(&self.servers_at, samples, "").counted();
        let samples = interrupt.wait(Duration::from_secs(5), || {
            let samples = scrape(self.address)?;
            Ok(counted(&samples).then_some(samples))
        })?;
        match samples {
            Some(samples) => Ok(samples),
            None => scrape(self.address),
        }
    }

    /// What is written of the records, which the daemon may still hold back for a moment.
    pub(crate) fn records(&self, interrupt: &Interrupt, lines: usize) -> Result<String> {
        let read = || fs::read_to_string(&self.records).context("read the records");
        interrupt.wait(Duration::from_secs(5), || {
            Ok((read()?.lines().count() >= lines).then_some(()))
        })?;
        read()
    }
}

fn server(behaviour: &str, at: Option<&str>) -> Result<(Peer, String)> {
    let mut process = python("server.py")?;
    process.arg(behaviour);
    if let Some((_, port)) = at.and_then(|address| address.rsplit_once(':')) {
        process.arg(port);
    }
    let mut process = process
        .stdout(Stdio::piped())
        .spawn()
        .context("start a demo server")?;
    let output = process
        .stdout
        .take()
        .context("the server's output is ours")?;
    let server = Peer(process);
    let mut port = String::new();
    BufReader::new(output).read_line(&mut port)?;
    ensure!(
        !port.is_empty(),
        "the demo server '{behaviour}' did not start"
    );
    Ok((server, format!("127.0.0.1:{}", port.trim_end())))
}

fn python(program: &str) -> Result<Command> {
    let mut python = not_as_root(peers::interpreter())?;
    python.arg(repository().join("xtask/demo").join(program));
    Ok(python)
}

/// A program that needs no root: as the user who called sudo, where one did.
pub(crate) fn not_as_root(program: impl AsRef<OsStr>) -> Result<Command> {
    let mut command = Command::new(program);
    // Out of the terminal's group: Ctrl-C reaches only us, and we end them.
    command.stdin(Stdio::null()).process_group(0);
    if let Some((user, group)) = caller()? {
        command.uid(user).gid(group);
    }
    Ok(command)
}

/// User and group of who called sudo.
pub(crate) fn caller() -> Result<Option<(u32, u32)>> {
    let (Ok(user), Ok(group)) = (env::var("SUDO_UID"), env::var("SUDO_GID")) else {
        return Ok(None);
    };
    Ok(Some((user.parse()?, group.parse()?)))
}

/// A process that ends when dropped.
pub(crate) struct Peer(pub(crate) Child);

impl Drop for Peer {
    fn drop(&mut self) {
        // Both fail when it has ended, which is what is wanted.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}
