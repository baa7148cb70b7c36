//! One test's world: certificates, capture, programs and daemons; and what was captured and recorded.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    authority::Authority,
    capture::Capture,
    daemon::{ANYWHERE, BINARY, Daemon, read_records},
    judge::Role,
    keys::KeyLog,
    peers::{Peer, peer_file, python},
    plaintext::decrypt,
    programs::{BACKEND, Client, Server},
    sandbox::{Plays, Sandbox},
    tcp::connections,
    witness::{View, views_of},
};

const PATIENCE: Duration = Duration::from_secs(60);
/// The file by which clients go on.
const GO_ON: &str = "go-on";

// Fields are dropped in this order.
pub(crate) struct Scene {
    clients: Vec<Peer>,
    servers: Vec<Peer>,
    capture: Capture,
    pub(crate) sandbox: Sandbox,
    /// The newest version of TLS that clients speak.
    newest: Option<&'static str>,
}

pub(crate) struct Observed {
    /// Of each WebSocket the client's and the server's end.
    pub(crate) views: Vec<View>,
    pub(crate) records: Vec<Value>,
    pub(crate) capture: PathBuf,
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

impl Scene {
    pub(crate) fn new(newest: Option<&'static str>) -> Scene {
        let sandbox = Sandbox::new(1);
        let folder = sandbox.directory.path();
        Authority::new(folder, "authority").issue(folder, "server", &["127.0.0.1"]);
        fs::write(sandbox.path("keys"), "").unwrap();
        Scene {
            clients: Vec::new(),
            servers: Vec::new(),
            capture: Capture::start(&sandbox, 0, "lo", "127.0.0.1:9"),
            sandbox,
            newest,
        }
    }

    pub(crate) fn daemon(&self, tls: Option<&str>) -> Daemon {
        let mut command = Command::new(BINARY);
        if let Some(tls) = tls {
            command.env("CLOSEWATCH_TLS", tls);
        }
        let records = self.sandbox.path("records.jsonl");
        Daemon::launch(command, &self.sandbox, &records, ANYWHERE)
    }

    pub(crate) fn serve(&mut self, server: Server) {
        let mut command = server.command(&self.sandbox);
        command.env("CLOSEWATCH_TEST_TLS", self.sandbox.directory.path());
        if server.terminates() {
            let peer = Peer::spawn(&self.sandbox, &mut command);
            self.await_listener(server.port(), &peer);
            self.sandbox.note_processes(peer.pid(), Plays::Both);
            self.servers.push(peer);
        } else {
            let peer = Peer::start(&self.sandbox, command, Plays::Server);
            self.servers.push(peer);
        }
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
        let mut command = client.command(&self.sandbox, server.port());
        command
            .args(plans)
            .env("CLOSEWATCH_TEST_TLS", self.sandbox.directory.path())
            .env("CLOSEWATCH_TEST_GO_ON", self.sandbox.path(GO_ON))
            .env("SSLKEYLOGFILE", self.sandbox.path("keys"));
        if let Some(newest) = self.newest {
            command.env("CLOSEWATCH_TEST_TLS_MAX", newest);
        }
        let peer = Peer::start(&self.sandbox, command, Plays::Client);
        for _ in plans {
            peer.await_line_within("open", PATIENCE);
        }
        self.clients.push(peer);
    }

    /// Every client sends the rest of its messages, and closes.
    pub(crate) fn go_on(&mut self) {
        fs::write(self.sandbox.path(GO_ON), "").unwrap();
    }

    /// Ends everything, the daemon last.
    pub(crate) fn finish(self, daemon: Daemon) -> Observed {
        for client in self.clients {
            client.finish_within(PATIENCE);
        }
        self.sandbox.note_processes(0, Plays::Both);
        self.servers.into_iter().for_each(Peer::stop);
        self.sandbox.await_quiet(&[self.capture.pid()]);
        let capture = self.capture.file.clone();
        let packets = self.capture.finish(&self.sandbox);
        // An end without FIN and RST is held for a moment.
        thread::sleep(Duration::from_millis(200));
        let records = daemon.records.clone();
        daemon.stop();
        let keys = fs::read_to_string(self.sandbox.path("keys")).unwrap();
        let plain = decrypt(connections(&packets), &KeyLog::parse(&keys));
        let mut views = views_of(&plain, Role::Client);
        views.extend(views_of(&plain, Role::Server));
        Observed {
            views,
            records: read_records(&records),
            capture,
            sandbox: self.sandbox,
        }
    }

    fn await_listener(&self, port: u16, peer: &Peer) {
        let deadline = Instant::now() + Duration::from_secs(10);
        let listening = format!(":{port:04X} 00000000:0000 0A");
        let sockets = format!("/proc/{}/net/tcp", self.capture.pid());
        while !fs::read_to_string(&sockets).unwrap().contains(&listening) {
            assert!(Instant::now() < deadline, "{}", peer.messages());
            thread::sleep(Duration::from_millis(5));
        }
    }
}
