//! One test's world, in which the daemon starts late: capture and peers come first.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    thread,
    time::{Duration, SystemTime},
};

use serde_json::Value;

use crate::{
    capture::Capture,
    daemon::{Daemon, read_records},
    judge::Role,
    network::Network,
    peers::{Peer, node_modules, peer_file, python},
    sandbox::{Plays, Process, Sandbox},
    verdict::Expect,
    witness::{View, views},
};

/// A connection that is unlucky waits for retransmissions again and again.
const PATIENCE: Duration = Duration::from_secs(60);

/// The word that a raw end waits for.
pub(crate) const GO_ON: &str = "go-on";

// Fields are dropped in this order.
pub(crate) struct Late {
    /// They end by themselves, once all go on.
    scripted: Vec<Peer>,
    servers: Vec<Peer>,
    /// Of the client's end and of the server's; on loopback they are one.
    captures: Vec<Capture>,
    place: Place,
}

enum Place {
    Loopback(Sandbox),
    Between(Network),
}

/// Two raw ends, in the words of `raw.py`. Each says `open` before it waits to go on.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) address: &'static str,
    pub(crate) server: String,
    pub(crate) client: String,
    pub(crate) expect: Expect,
}

impl Late {
    pub(crate) fn new() -> Late {
        let sandbox = Sandbox::new(1);
        Late {
            scripted: Vec::new(),
            servers: Vec::new(),
            captures: vec![Capture::start(&sandbox, 0, "lo", "127.0.0.1:9")],
            place: Place::Loopback(sandbox),
        }
    }

    /// The raw clients at one end of the network, the servers at the other.
    pub(crate) fn between(network: Network) -> Late {
        let captures = [(0, "10.9.0.2:9"), (1, "10.9.0.1:9")]
            .map(|(end, to)| Capture::start(&network.sandbox, end, network.device, to));
        Late {
            scripted: Vec::new(),
            servers: Vec::new(),
            captures: captures.into(),
            place: Place::Between(network),
        }
    }

    pub(crate) fn sandbox(&self) -> &Sandbox {
        match &self.place {
            Place::Loopback(sandbox) => sandbox,
            Place::Between(network) => &network.sandbox,
        }
    }

    pub(crate) fn records(&self) -> PathBuf {
        self.sandbox().path("records.jsonl")
    }

    pub(crate) fn start_daemon(&self) -> Daemon {
        Daemon::start(self.sandbox(), &self.records())
    }

    pub(crate) fn python(&self, plays: Plays, script: &str, arguments: &[&str]) -> Peer {
        let namespace = match plays {
            Plays::Server => self.captures.len() - 1,
            Plays::Client | Plays::Both => 0,
        };
        let mut command = self.sandbox().command(python(), namespace, true);
        command
            .env("CLOSEWATCH_TEST_GO_ON", self.sandbox().path(GO_ON))
            .arg(peer_file(script))
            .args(arguments);
        Peer::start(self.sandbox(), command, plays)
    }

    fn node(&self, plays: Plays, arguments: &[&str]) -> Peer {
        let mut command = self.sandbox().command("node", 0, true);
        command
            .env("CLOSEWATCH_TEST_GO_ON", self.sandbox().path(GO_ON))
            .env("NODE_PATH", node_modules())
            .arg(peer_file("ws_peer.js"))
            .args(arguments);
        Peer::start(self.sandbox(), command, plays)
    }

    pub(crate) fn python_server(&mut self, script: &str, arguments: &[&str]) {
        let server = self.python(Plays::Server, script, arguments);
        self.servers.push(server);
    }

    pub(crate) fn node_server(&mut self, port: &str) {
        let server = self.node(Plays::Server, &["server", port]);
        self.servers.push(server);
    }

    /// A client of the plans, that are open when this returns.
    pub(crate) fn python_client(&mut self, script: &str, arguments: &[&str], plans: &[&str]) {
        let client = self.python(Plays::Client, script, &[arguments, plans].concat());
        self.hold(client, plans.len());
    }

    pub(crate) fn node_client(&mut self, url: &str, plans: &[&str]) {
        let client = self.node(Plays::Client, &[&["client", url], plans].concat());
        self.hold(client, plans.len());
    }

    /// Cases of one address, on the ports from `port` on, that are open when this returns.
    pub(crate) fn raw(&mut self, address: &str, port: u16, cases: &[&Case]) {
        let specs = |script: fn(&Case) -> &str| -> Vec<String> {
            (port..)
                .zip(cases)
                .map(|(port, case)| format!("{port}={}", script(case)))
                .collect()
        };
        let start = |role, plays, specs: Vec<String>| {
            let mut arguments = vec![role, address];
            arguments.extend(specs.iter().map(String::as_str));
            self.python(plays, "raw.py", &arguments)
        };
        let server = start("server", Plays::Server, specs(|case| &case.server));
        let client = start("client", Plays::Client, specs(|case| &case.client));
        self.hold(client, cases.len());
        self.hold(server, cases.len());
    }

    pub(crate) fn hold(&mut self, peer: Peer, open: usize) {
        for _ in 0..open {
            peer.await_line("open");
        }
        self.scripted.push(peer);
    }

    pub(crate) fn go_on(&mut self) {
        fs::write(self.sandbox().path(GO_ON), "").unwrap();
        self.tell(GO_ON);
    }

    pub(crate) fn tell(&mut self, word: &str) {
        for peer in &mut self.scripted {
            peer.tell(word);
        }
    }

    /// Ends everything, and returns what was captured and recorded.
    pub(crate) fn finish(self, daemon: Daemon) -> Observed {
        let Late {
            scripted,
            servers,
            captures,
            place,
        } = self;
        let sandbox = match &place {
            Place::Loopback(sandbox) => sandbox,
            Place::Between(network) => &network.sandbox,
        };
        for peer in scripted {
            peer.finish_within(PATIENCE);
        }
        servers.into_iter().for_each(Peer::stop);
        let inside: Vec<u32> = captures.iter().map(Capture::pid).collect();
        sandbox.await_quiet(&inside);
        let packets: Vec<_> = captures
            .into_iter()
            .map(|capture| capture.finish(sandbox))
            .collect();
        // An end without FIN and RST is held for a moment.
        thread::sleep(Duration::from_millis(200));
        let counts = Counts::of(&daemon);
        let path = daemon.records.clone();
        daemon.stop();
        let mut expected = views(&packets[0], Role::Client);
        expected.extend(views(packets.last().unwrap(), Role::Server));
        Observed {
            views: expected,
            records: read_records(&path),
            counts,
            cgroup: sandbox.cgroup.clone(),
            processes: sandbox.processes(),
        }
    }
}

pub(crate) struct Observed {
    /// Of each connection its client's and its server's end.
    pub(crate) views: Vec<View>,
    pub(crate) records: Vec<Value>,
    pub(crate) counts: Counts,
    pub(crate) cgroup: String,
    pub(crate) processes: BTreeMap<u32, Process>,
}

/// What the last daemon counted.
#[derive(Debug)]
pub(crate) struct Counts {
    pub(crate) candidates: f64,
    pub(crate) adopted: f64,
    pub(crate) rejected: f64,
    pub(crate) undecided: f64,
    pub(crate) opened: f64,
    pub(crate) losses: Vec<String>,
}

impl Counts {
    pub(crate) fn of(daemon: &Daemon) -> Counts {
        Counts {
            candidates: daemon.metric("closewatch_adoption_candidates_total", &[]),
            adopted: daemon.metric("closewatch_connections_adopted_total", &[]),
            rejected: daemon.metric("closewatch_adoption_rejected_total", &[]),
            undecided: daemon.metric("closewatch_adoption_undecided_total", &[]),
            opened: daemon.metric("closewatch_connections_opened_total", &[]),
            losses: daemon.losses(),
        }
    }
}

/// Nanoseconds since 1970.
pub(crate) fn now() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    i64::try_from(now.unwrap().as_nanos()).unwrap()
}
