//! The programs whose TLS is measured: their certificate, how each is started, and what talks to it.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::{
    bench::{
        Bench,
        place::{Place, Under, within},
    },
    peers,
    shell::{find, repository, run_quietly, target},
};

/// What is measured, by who has OpenSSL.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Program {
    /// One of its ends.
    Python,
    /// Both of them.
    PythonBoth,
    Node,
    Nginx,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Server {
    Python,
    Node,
    Nginx,
}

/// All servers, in one cgroup, until this is dropped.
pub(super) struct Servers<'a> {
    place: &'a Place,
    under: Under,
    folder: &'a Path,
    running: Vec<Child>,
}

/// The server that nginx stands in front of.
const BEHIND: &str = "9080";

impl Program {
    pub(super) const ALL: [Self; 4] = [Self::Python, Self::PythonBoth, Self::Node, Self::Nginx];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Python => "Python websockets, server",
            Self::PythonBoth => "Python websockets, both ends",
            Self::Node => "Node ws, server",
            Self::Nginx => "nginx, before a plain echo",
        }
    }

    fn server(self) -> Server {
        match self {
            Self::Python | Self::PythonBoth => Server::Python,
            Self::Node => Server::Node,
            Self::Nginx => Server::Nginx,
        }
    }

    /// Ends on this host whose WebSocket closewatch follows when it follows TLS.
    pub(super) fn followed_ends(self) -> u32 {
        match self {
            Self::Python | Self::Node => 1,
            Self::PythonBoth => 2,
            // With both ends of the plain echo behind it.
            Self::Nginx => 3,
        }
    }

    /// What lacks here, if anything does.
    pub(super) fn lacks(self) -> Option<&'static str> {
        match self.server() {
            Server::Python => {
                (!peers::interpreter().exists()).then_some("python3 is not installed")
            }
            Server::Node if find("node").is_none() => Some("node is not installed"),
            Server::Node => (!modules().exists()).then_some("npm is not installed"),
            Server::Nginx => find("nginx").is_none().then_some("nginx is not installed"),
        }
    }
}

impl Server {
    const ALL: [Self; 3] = [Self::Python, Self::Node, Self::Nginx];

    fn port(self) -> u16 {
        match self {
            Self::Python => 9441,
            Self::Node => 9442,
            // As its configuration says.
            Self::Nginx => 9443,
        }
    }

    fn command(self, cgroup: &Path, folder: &Path) -> Result<Command> {
        let [certificate, key] = ["server.crt", "server.key"].map(|file| folder.join(file));
        let port = self.port().to_string();
        let mut command = match self {
            Self::Python => {
                let mut command = python(cgroup)?;
                command.args(["server", &port]).args([certificate, key]);
                command
            }
            Self::Node => {
                let mut command = within(cgroup, "node");
                command
                    .env("NODE_PATH", modules())
                    .arg(ours("echo.js"))
                    .arg(port)
                    .args([certificate, key]);
                command
            }
            Self::Nginx => {
                let nginx = find("nginx").context("nginx is installed")?;
                let mut command = within(cgroup, nginx.to_str().context("a path in UTF-8")?);
                // Its paths are from there.
                let configuration = folder.join("nginx.conf");
                fs::copy(ours("nginx.conf"), &configuration)?;
                command.arg("-p").arg(folder).arg("-c");
                command.arg(configuration).args(["-e", "stderr"]);
                command
            }
        };
        command.stdin(Stdio::null());
        Ok(command)
    }
}

impl<'a> Servers<'a> {
    pub(super) fn start(bench: &'a Bench, under: Under) -> Result<Self> {
        let folder = bench.files.path();
        let mut servers = Self {
            place: &bench.place,
            under,
            folder,
            running: Vec::new(),
        };
        let available = Program::ALL.into_iter().filter(|it| it.lacks().is_none());
        let available: Vec<_> = available.map(Program::server).collect();
        let wanted = Server::ALL.iter().filter(|it| available.contains(it));
        let log = folder.join("servers");
        let output = File::create(&log)?;
        for server in wanted.clone() {
            let mut command = server.command(&bench.place.of(under), folder)?;
            command.stdout(output.try_clone()?);
            command.stderr(output.try_clone()?);
            servers
                .running
                .push(command.spawn().context("start a server")?);
        }
        for server in wanted {
            let address = (Ipv4Addr::LOCALHOST, server.port());
            let waited = bench.interrupt.wait(Duration::from_secs(20), || {
                Ok(TcpStream::connect(address).is_ok().then_some(()))
            });
            if waited?.is_none() {
                let said = fs::read_to_string(&log)?;
                bail!("nobody serves at port {}:\n{said}", server.port());
            }
        }
        Ok(servers)
    }

    /// An echo for some time; what was counted.
    pub(super) fn load(&self, program: Program, bytes: usize, milliseconds: u64) -> Result<Value> {
        let port = program.server().port().to_string();
        let certificate = self.folder.join("server.crt");
        let [bytes, milliseconds] = [bytes.to_string(), milliseconds.to_string()];
        let certificate = certificate.to_str().context("a path in UTF-8")?;
        if program == Program::PythonBoth {
            let mut client = python(&self.place.of(self.under))?;
            client.args(["client", &port, certificate, &bytes, &milliseconds]);
            let counted = run_quietly(&mut client)?;
            return serde_json::from_str(&counted).context("read what a client counted");
        }
        let mut words = vec!["secure", &port, &bytes, &milliseconds, certificate];
        if program == Program::Nginx {
            words.extend(["--behind", BEHIND]);
        }
        self.place.load(self.under, &words)
    }
}

impl Drop for Servers<'_> {
    fn drop(&mut self) {
        for server in &mut self.running {
            // Both fail when it has ended, which is what is wanted.
            _ = server.kill();
            _ = server.wait();
        }
    }
}

/// Installs the libraries, as the calling user.
pub(in crate::bench) fn install() -> Result<()> {
    peers::python()?;
    if find("npm").is_some() {
        peers::node_modules()?;
    }
    Ok(())
}

/// A certificate that is its own authority.
pub(super) fn certify(folder: &Path) -> Result<()> {
    ensure!(find("openssl").is_some(), "openssl is not installed");
    let mut openssl = Command::new("openssl");
    openssl
        .args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"])
        .args(["-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=bench"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-keyout", "server.key", "-out", "server.crt"])
        .current_dir(folder);
    run_quietly(&mut openssl).map(drop)
}

fn python(cgroup: &Path) -> Result<Command> {
    let python = peers::interpreter();
    let mut command = within(cgroup, python.to_str().context("a path in UTF-8")?);
    command.arg(ours("echo.py"));
    Ok(command)
}

fn modules() -> PathBuf {
    target().join("peers/node/node_modules")
}

fn ours(file: &str) -> PathBuf {
    repository().join("xtask/src/bench/tls").join(file)
}
