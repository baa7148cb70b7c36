//! A daemon, and raw ends that do what a test needs them to.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::{
    daemon::{Daemon, http_get},
    peers::{Peer, peer_file, python},
    sandbox::{Plays, Sandbox},
};

/// The ports of the servers.
pub(crate) const CLEAN: u16 = 9001;
pub(crate) const SLOW: u16 = 9002;
pub(crate) const HANGS: u16 = 9003;
const HOSTILE: u16 = 9004;

/// What a hostile client writes into its head.
pub(crate) const EVIL_HOST: &str = "<img src=x onerror=window.evil=1>";
pub(crate) const EVIL_PATH: &str = "/<script>window.evil=1</script>";

const CLIENT: &str = "upgrade; close; await-close; await-eof; end";
/// Answers the Close frame, and never closes TCP.
const NEVER_CLOSES: &str = "accept; await-close; close; pause:120; end";

/// One at a time: a browser keeps both CPUs of a small machine busy, and pages are waited for.
static TURN: Mutex<()> = Mutex::new(());

// Fields are dropped in this order.
pub(crate) struct World {
    pub(crate) daemon: Daemon,
    going_on: Vec<Pair>,
    pub(crate) sandbox: Sandbox,
    _turn: MutexGuard<'static, ()>,
}

/// Both ends of a connection; dropping ends them.
struct Pair {
    client: Peer,
    server: Peer,
}

impl World {
    /// Nothing has happened yet.
    pub(crate) fn quiet() -> World {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let sandbox = Sandbox::new(1);
        let daemon = Daemon::start(&sandbox, &sandbox.path("records.jsonl"));
        World {
            daemon,
            going_on: Vec::new(),
            sandbox,
            _turn: turn,
        }
    }

    /// Three slow closes, two clean ones, a connection that hangs, and one to hostile text.
    pub(crate) fn busy() -> World {
        let mut world = World::quiet();
        for server in [(SLOW, "1.3"); 3].into_iter().chain([(CLEAN, "0"); 2]) {
            let (port, late) = server;
            let script = format!("accept; await-close; close; pause:{late}; end");
            let pair = world.pair(port, &script, CLIENT);
            pair.client.finish();
            pair.server.finish();
        }
        world.hang();
        let head = format!(
            "GET {EVIL_PATH} HTTP/1.1\r\nHost: {EVIL_HOST}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        );
        let hex: String = head.bytes().map(|byte| format!("{byte:02x}")).collect();
        let client = format!("bytes:{hex}; pause:0.3; close; pause:120");
        let pair = world.pair(HOSTILE, NEVER_CLOSES, &client);
        world.going_on.push(pair);
        let hanging = ["role=\"server\"", "phase=\"awaiting_fin\""];
        world
            .daemon
            .await_metric("closewatch_connections", &hanging, 2.0);
        let flagged = ["role=\"server\"", "server=\"127.0.0.1:9002\""];
        world
            .daemon
            .await_metric("closewatch_server_slow", &flagged, 1.0);
        world
    }

    /// One more connection to a server that never closes TCP.
    pub(crate) fn hang(&mut self) {
        let pair = self.pair(HANGS, NEVER_CLOSES, CLIENT);
        self.going_on.push(pair);
    }

    /// One whose Close frame the server never answers.
    pub(crate) fn ignore(&mut self) {
        let pair = self.pair(HANGS, "accept; await-close; pause:120; end", CLIENT);
        self.going_on.push(pair);
    }

    /// Ends every connection that goes on.
    pub(crate) fn let_go(&mut self) {
        self.going_on.clear();
    }

    fn pair(&self, port: u16, server: &str, client: &str) -> Pair {
        let start = |role, plays, script: &str| {
            let mut command = self.sandbox.command(python(), 0, true);
            command.arg(peer_file("raw.py"));
            command.args([role, "127.0.0.1", &format!("{port}={script}")]);
            Peer::start(&self.sandbox, command, plays)
        };
        let server = start("server", Plays::Server, server);
        let client = start("client", Plays::Client, client);
        Pair { client, server }
    }

    /// What the API says.
    pub(crate) fn api(&self, path: &str) -> Value {
        let response = http_get(self.daemon.listen, &format!("/api/v1/{path}"));
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{response}");
        serde_json::from_str(body).unwrap()
    }
}
