//! One test's world: certificates, capture, programs and daemons; and what was captured and recorded.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    authority::Authority,
    capture::Capture,
    daemon::{ANYWHERE, BINARY, Daemon, read_records},
    judge::Role,
    keys::KeyLog,
    network::{self, Network},
    peers::{Peer, peer_file, python},
    plaintext::decrypt,
    programs::{BACKEND, Client, Server, node16},
    sandbox::{Plays, Sandbox},
    tcp::{Packet, connections},
    witness::{View, views_of},
};

const PATIENCE: Duration = Duration::from_secs(60);
/// The file by which clients go on.
const GO_ON: &str = "go-on";

/// So often in a row processes are seen to sleep before they are said to rest.
const RESTED: usize = 5;

/// The port of the first pair of raw ends; the others follow.
pub(crate) const RAW_PORT: u16 = 9200;

// Fields are dropped in this order.
pub(crate) struct Scene {
    clients: Vec<Peer>,
    servers: Vec<Peer>,
    /// Of every TLS library.
    users: Vec<IdleUser>,
    /// Of the client's end and of the server's; on loopback they are one.
    captures: Vec<Capture>,
    pub(crate) sandbox: Sandbox,
    /// Of the servers.
    address: &'static str,
    /// The newest version of TLS that clients speak.
    newest: Option<&'static str>,
}

pub(crate) struct Observed {
    /// Of each WebSocket the client's and the server's end.
    pub(crate) views: Vec<View>,
    pub(crate) records: Vec<Value>,
    /// The first of them.
    pub(crate) capture: PathBuf,
    /// Whether these are of a daemon that does.
    pub(crate) follows_tls: bool,
    pub(crate) sandbox: Sandbox,
}

/// A plan for each connection: who closes, with a code of its own; messages before the test goes on and after.
pub(crate) fn plans(count: usize) -> Vec<String> {
    let plan = |number: usize| {
        let who = ["client", "server"][number % 2];
        format!("{who}/{}/{}/2/3/20", 4000 + number, number % 100)
    };
    (0..count).map(plan).collect()
}

/// Nanoseconds since 1970.
pub(crate) fn now() -> i64 {
    i64::try_from(Timestamp::now().as_nanosecond()).unwrap()
}

/// A process that has a TLS library and does nothing; it ends with this.
struct IdleUser(Child);

impl Drop for IdleUser {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One of each program that brings its own library.
fn idle_users() -> Vec<IdleUser> {
    let mut python = Command::new(python());
    python.args(["-c", "import ssl; print(flush=True); input()"]);
    let idle = |program: PathBuf| {
        let mut node = Command::new(program);
        node.args(["-e", "console.log(); process.stdin.resume()"]);
        node
    };
    let users = [python, idle("node".into()), idle(node16())];
    users
        .into_iter()
        .map(|mut user| {
            let mut user = user
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut line = String::new();
            let stdout = user.stdout.take().unwrap();
            BufReader::new(stdout).read_line(&mut line).unwrap();
            IdleUser(user)
        })
        .collect()
}

/// Whether a process waits for something: the letter behind its name, which ends with the last bracket.
fn sleeps(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.starts_with('S')
}

impl Scene {
    pub(crate) fn new(newest: Option<&'static str>) -> Scene {
        let sandbox = Sandbox::new(1);
        let capture = Capture::start(&sandbox, 0, "lo", "127.0.0.1:9");
        Scene::of(sandbox, vec![capture], "127.0.0.1", newest)
    }

    /// The clients at one end of the network, the servers at the other.
    pub(crate) fn between(network: Network) -> Scene {
        let captures = [(0, "10.9.0.2:9"), (1, "10.9.0.1:9")]
            .map(|(end, to)| Capture::start(&network.sandbox, end, network.device, to));
        Scene::of(network.sandbox, captures.into(), network::SERVER, None)
    }

    fn of(
        sandbox: Sandbox,
        captures: Vec<Capture>,
        address: &'static str,
        newest: Option<&'static str>,
    ) -> Scene {
        let folder = sandbox.directory.path();
        Authority::new(folder, "authority").issue(folder, "server", &[address]);
        fs::write(sandbox.path("keys"), "").unwrap();
        Scene {
            clients: Vec::new(),
            servers: Vec::new(),
            users: Vec::new(),
            captures,
            sandbox,
            address,
            newest,
        }
    }

    pub(crate) fn daemon(&mut self) -> Daemon {
        let mut command = Command::new(BINARY);
        // The daemon finds what is new once a second; this is there when it starts.
        self.users = idle_users();
        command.env("CLOSEWATCH_TLS", "auto");
        let records = self.sandbox.path("records.jsonl");
        Daemon::launch(command, &self.sandbox, &records, ANYWHERE)
    }

    pub(crate) fn serve(&mut self, server: Server) {
        let namespace = self.captures.len() - 1;
        let mut command = server.command(&self.sandbox, namespace, self.address);
        command.env("CLOSEWATCH_TEST_TLS", self.sandbox.directory.path());
        let peer = if server.terminates() {
            let peer = Peer::spawn(&self.sandbox, &mut command);
            self.await_listener(server.port(), &peer);
            peer
        } else {
            Peer::start(&self.sandbox, command, Plays::Server)
        };
        self.servers.push(peer);
    }

    /// What nginx and HAProxy stand in front of.
    pub(crate) fn serve_plain(&mut self) {
        let mut command = self.sandbox.command(python(), 0, true);
        command.arg(peer_file("websockets_peer.py"));
        command.args(["server", "asyncio", "127.0.0.1", BACKEND]);
        let peer = Peer::start(&self.sandbox, command, Plays::Server);
        self.servers.push(peer);
    }

    /// Returns once every connection is open and has talked.
    pub(crate) fn open(&mut self, client: Client, server: Server, plans: &[String]) {
        let mut command = client.command(&self.sandbox, self.address, server.port());
        command.args(plans);
        let peer = self.client(command);
        for _ in plans {
            peer.await_line_within("open", PATIENCE);
        }
        self.clients.push(peer);
    }

    /// Raw ends in the words of `raw.py`, the server's and the client's of each pair, until they have ended.
    pub(crate) fn raw<const N: usize>(&mut self, scripts: [[String; 2]; N]) {
        let of = |index: usize| -> Vec<(u16, String)> {
            let scripts = scripts.iter().map(|pair| pair[index].clone());
            (RAW_PORT..).zip(scripts).collect()
        };
        let server = self.scripted("secure_raw.py", Plays::Server, &of(0));
        self.scripted("secure_raw.py", Plays::Client, &of(1))
            .finish();
        server.finish();
    }

    /// Ends that do what their scripts say, each at a port of its own.
    pub(crate) fn scripted(&self, program: &str, plays: Plays, scripts: &[(u16, String)]) -> Peer {
        let is_client = plays == Plays::Client;
        let mut command = self.python(program);
        command.args([if is_client { "client" } else { "server" }, self.address]);
        for (port, script) in scripts {
            command.arg(format!("{port}={script}"));
        }
        if is_client {
            return self.client(command);
        }
        command.env("CLOSEWATCH_TEST_TLS", self.sandbox.directory.path());
        Peer::start(&self.sandbox, command, plays)
    }

    /// Stays until the others have ended.
    pub(crate) fn keep(&mut self, peer: Peer) {
        self.servers.push(peer);
    }

    pub(crate) fn address(&self) -> &'static str {
        self.address
    }

    /// A program of the peers in Python.
    pub(crate) fn python(&self, program: &str) -> Command {
        let mut command = self.sandbox.command(python(), 0, true);
        command.arg(peer_file(program));
        command
    }

    fn client(&self, mut command: Command) -> Peer {
        command
            .env("CLOSEWATCH_TEST_TLS", self.sandbox.directory.path())
            .env("CLOSEWATCH_TEST_GO_ON", self.sandbox.path(GO_ON))
            .env("SSLKEYLOGFILE", self.sandbox.path("keys"));
        if let Some(newest) = self.newest {
            command
                .env("CLOSEWATCH_TEST_TLS_MAX", newest)
                .env("NODE_OPTIONS", format!("--tls-max-v{newest}"));
        }
        Peer::start(&self.sandbox, command, Plays::Client)
    }

    /// Every client sends the rest of its messages, and closes.
    pub(crate) fn go_on(&self) {
        fs::write(self.sandbox.path(GO_ON), "").unwrap();
    }

    /// Returns once no client and no server is in the middle of anything, a call of its library say: of what a call in which a
    /// process dies has read nobody knows.
    pub(crate) fn await_rest(&self) {
        let peers = self.clients.iter().chain(&self.servers);
        let pids: Vec<u32> = peers.map(Peer::pid).collect();
        let deadline = Instant::now() + PATIENCE;
        let mut rested = 0;
        while rested < RESTED {
            assert!(Instant::now() < deadline, "they never rest");
            let all_sleep = pids.iter().all(|pid| sleeps(*pid));
            rested = if all_sleep { rested + 1 } else { 0 };
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Of the clients or of the servers, all; the other ends are ended as well, and by whatever they make of it.
    pub(crate) fn kill(&mut self, servers: bool) {
        let (first, then) = if servers {
            (&mut self.servers, &mut self.clients)
        } else {
            (&mut self.clients, &mut self.servers)
        };
        first.drain(..).for_each(Peer::kill);
        then.drain(..).for_each(Peer::stop);
    }

    /// Ends everything, the daemon last.
    pub(crate) fn finish(self, daemon: Daemon) -> Observed {
        for client in self.clients {
            client.finish_within(PATIENCE);
        }
        // nginx and HAProxy have workers.
        self.sandbox.note_processes(0, Plays::Both);
        self.servers.into_iter().for_each(Peer::stop);
        let inside: Vec<u32> = self.captures.iter().map(Capture::pid).collect();
        self.sandbox.await_quiet(&inside);
        let capture = self.captures[0].file.clone();
        let captures = self.captures.into_iter();
        let packets: Vec<_> = captures.map(|one| one.finish(&self.sandbox)).collect();
        // An end without FIN and RST is held for a moment.
        thread::sleep(Duration::from_millis(200));
        let records = daemon.records.clone();
        daemon.stop();
        let keys = fs::read_to_string(self.sandbox.path("keys")).unwrap();
        let keys = KeyLog::parse(&keys);
        let plain = |packets: &[Packet]| decrypt(connections(packets), &keys);
        let mut views = views_of(&plain(&packets[0]), Role::Client);
        views.extend(views_of(&plain(packets.last().unwrap()), Role::Server));
        Observed {
            views,
            records: read_records(&records),
            capture,
            follows_tls: true,
            sandbox: self.sandbox,
        }
    }

    fn await_listener(&self, port: u16, peer: &Peer) {
        let deadline = Instant::now() + Duration::from_secs(10);
        let listening = format!(":{port:04X} 00000000:0000 0A");
        let sockets = format!("/proc/{}/net/tcp", self.captures[0].pid());
        while !fs::read_to_string(&sockets).unwrap().contains(&listening) {
            assert!(Instant::now() < deadline, "{}", peer.messages());
            thread::sleep(Duration::from_millis(5));
        }
    }
}
