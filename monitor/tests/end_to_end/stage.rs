//! One test's world: sandbox, captures, daemon; and the end of every scenario: the comparison.

use std::{
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    capture::Capture,
    compare::{Expectation, TOLERANCE, compare},
    daemon::{Daemon, read_records},
    figures::Figures,
    judge::Role,
    peers::{Peer, node_modules, peer_file, python},
    sandbox::{Plays, Sandbox, ip},
    witness::{View, views},
};

/// What the daemons of these tests are started with.
const SLOW_AFTER: i64 = 1_000_000_000;

/// The client's and the server's address on the wire.
pub(crate) const WIRE_CLIENT: &str = "10.9.0.1";
pub(crate) const WIRE_SERVER: &str = "10.9.0.2";
/// The same of IPv6.
pub(crate) const WIRE_6: [&str; 2] = ["fd00:9::1", "fd00:9::2"];

// Fields are dropped in this order.
pub(crate) struct Stage {
    name: &'static str,
    pub(crate) daemon: Daemon,
    wire: Option<Peer>,
    captures: Vec<Capture>,
    pub(crate) sandbox: Sandbox,
}

impl Stage {
    /// Both ends on the loopback of one namespace.
    pub(crate) fn loopback(name: &'static str) -> Stage {
        Stage::with_records(name, |sandbox| sandbox.path("records.jsonl"))
    }

    pub(crate) fn with_records(
        name: &'static str,
        records: impl FnOnce(&Sandbox) -> PathBuf,
    ) -> Stage {
        Stage::with_daemon(name, |sandbox| Daemon::start(sandbox, &records(sandbox)))
    }

    pub(crate) fn with_daemon(
        name: &'static str,
        daemon: impl FnOnce(&Sandbox) -> Daemon,
    ) -> Stage {
        let sandbox = Sandbox::new(1);
        let captures = vec![Capture::start(&sandbox, 0, "lo", "127.0.0.1:9")];
        let daemon = daemon(&sandbox);
        Stage {
            name,
            daemon,
            wire: None,
            captures,
            sandbox,
        }
    }

    /// The client in namespace 0, the server in namespace 1, and 50 ms between them, so that what
    /// both do at once crosses on the way. Each end has its own capture.
    pub(crate) fn wire(name: &'static str) -> Stage {
        Stage::over(name, "0.05", &[])
    }

    fn over(name: &'static str, delay: &str, disturbances: &[&str]) -> Stage {
        let sandbox = Sandbox::new(2);
        let mut command = Command::new(python());
        command.arg(peer_file("wire.py")).arg(delay);
        command
            .args([sandbox.namespace(0), sandbox.namespace(1)])
            .args(disturbances);
        let wire = Peer::spawn(&sandbox, &mut command);
        wire.await_line("ready");
        for (index, address) in [WIRE_CLIENT, WIRE_SERVER].into_iter().enumerate() {
            let namespace = sandbox.namespace(index);
            ip(&[
                "-n",
                namespace,
                "addr",
                "add",
                &format!("{address}/24"),
                "dev",
                "wire",
            ]);
            ip(&["-n", namespace, "link", "set", "wire", "up"]);
            let address = format!("{}/64", WIRE_6[index]);
            ip(&[
                "-n", namespace, "addr", "add", &address, "dev", "wire", "nodad",
            ]);
        }
        Stage::between(name, sandbox, Some(wire))
    }

    /// The same with 10 ms between them, where packets come as `wire.py` is told.
    pub(crate) fn strange_wire(name: &'static str, how: &[&str]) -> Stage {
        Stage::over(name, "0.01", &[&["0", "0", "0"], how].concat())
    }

    /// The same with 10 ms between them, where so many of 100 packets are lost.
    pub(crate) fn lossy_wire(name: &'static str, lost: &str) -> Stage {
        Stage::over(name, "0.01", &[lost, "0", "7"])
    }

    /// Both ends on a loopback that `setup` makes strange: its commands run there, before anything else does.
    pub(crate) fn strange_loopback(name: &'static str, setup: &[&str]) -> Stage {
        Stage::with_daemon(name, |sandbox| {
            for command in setup {
                sandbox.run(0, command);
            }
            Daemon::start(sandbox, &sandbox.path("records.jsonl"))
        })
    }

    /// The client in namespace 0, the server in namespace 1, and between them a cable of the kernel's own, which
    /// `setup` makes strange: a namespace and a command for each step. Each end has its own capture.
    pub(crate) fn cable(name: &'static str, setup: &[(usize, &str)]) -> Stage {
        let sandbox = Sandbox::new(2);
        let there = sandbox.namespace(1);
        sandbox.run(
            0,
            &format!("ip link add wire type veth peer name wire netns {there}"),
        );
        for (index, address) in [WIRE_CLIENT, WIRE_SERVER].into_iter().enumerate() {
            sandbox.run(
                index,
                &format!("ip addr add {address}/24 dev wire && ip link set wire up"),
            );
        }
        for (namespace, command) in setup {
            sandbox.run(*namespace, command);
        }
        Stage::between(name, sandbox, None)
    }

    /// Each of two connected namespaces gets its capture, and then there is a daemon.
    fn between(name: &'static str, sandbox: Sandbox, wire: Option<Peer>) -> Stage {
        let captures = vec![
            Capture::start(&sandbox, 0, "wire", "10.9.0.2:9"),
            Capture::start(&sandbox, 1, "wire", "10.9.0.1:9"),
        ];
        let daemon = Daemon::start(&sandbox, &sandbox.path("records.jsonl"));
        Stage {
            name,
            daemon,
            wire,
            captures,
            sandbox,
        }
    }

    /// A peer in the first namespace.
    pub(crate) fn python(&self, plays: Plays, script: &str, arguments: &[&str]) -> Peer {
        self.python_in(0, plays, script, arguments)
    }

    pub(crate) fn python_in(
        &self,
        namespace: usize,
        plays: Plays,
        script: &str,
        arguments: &[&str],
    ) -> Peer {
        let mut command = self.sandbox.command(python(), namespace, true);
        command.arg(peer_file(script)).args(arguments);
        Peer::start(&self.sandbox, command, plays)
    }

    pub(crate) fn node(&self, plays: Plays, script: &str, arguments: &[&str]) -> Peer {
        let mut command = self.sandbox.command("node", 0, true);
        command
            .env("NODE_PATH", node_modules())
            .arg(peer_file(script))
            .args(arguments);
        Peer::start(&self.sandbox, command, plays)
    }

    /// Any other program, once it listens on the port.
    pub(crate) fn listener(&self, program: &str, arguments: &[&str], port: u16) -> Peer {
        let mut command = self.sandbox.command(program, 0, true);
        let peer = Peer::spawn(&self.sandbox, command.args(arguments));
        let deadline = Instant::now() + Duration::from_secs(10);
        let listening = format!(":{port:04X} 00000000:0000 0A");
        let sockets = format!("/proc/{}/net/tcp", self.captures[0].pid());
        while !std::fs::read_to_string(&sockets)
            .unwrap()
            .contains(&listening)
        {
            assert!(
                Instant::now() < deadline,
                "{program} does not listen on {port}"
            );
            thread::sleep(Duration::from_millis(5));
        }
        self.sandbox.note_processes(peer.pid(), Plays::Both);
        peer
    }

    /// Runs scripts for raw ends, each pair on a port of its own and all at the same time.
    pub(crate) fn raw(&self, pairs: &[Pair]) {
        self.pairs("raw.py", self.address(), pairs);
    }

    /// The same with ends that know the steps of `hostile.py`, too.
    pub(crate) fn hostile(&self, pairs: &[Pair]) {
        self.pairs("hostile.py", self.address(), pairs);
    }

    /// The same with ends that know the steps of `host.py`, too.
    pub(crate) fn hosts(&self, pairs: &[Pair]) {
        self.pairs("host.py", self.address(), pairs);
    }

    /// The same where the server is known by this address.
    pub(crate) fn hosts_at(&self, address: &str, pairs: &[Pair]) {
        self.pairs("host.py", address, pairs);
    }

    fn address(&self) -> &'static str {
        if self.captures.len() > 1 {
            WIRE_SERVER
        } else {
            "127.0.0.1"
        }
    }

    fn pairs(&self, peer: &str, address: &str, pairs: &[Pair]) {
        let specs = |script: fn(&Pair) -> &'static str| -> Vec<String> {
            (RAW_PORT..)
                .zip(pairs)
                .map(|(port, pair)| format!("{port}={}", script(pair)))
                .collect()
        };
        let run = |role, namespace, plays, specs: Vec<String>| {
            let mut arguments = vec![role, address];
            arguments.extend(specs.iter().map(String::as_str));
            self.python_in(namespace, plays, peer, &arguments)
        };
        let server_namespace = usize::from(self.captures.len() > 1);
        let server = run(
            "server",
            server_namespace,
            Plays::Server,
            specs(|pair| pair.server),
        );
        let client = run("client", 0, Plays::Client, specs(|pair| pair.client));
        client.finish();
        server.finish();
    }

    /// Ends everything, compares, and returns the records. `connections` is how many WebSockets
    /// the scenario meant to open.
    pub(crate) fn finish(self, connections: usize) -> Vec<Value> {
        let observed = self.observe(connections);
        for loss in &observed.losses {
            eprintln!("{}: {loss}", observed.name);
        }
        if observed.records.len() < observed.expected.len() {
            eprintln!("{}: {:#?}", observed.name, observed.known);
        }
        observed.compare().settle(observed.name);
        // Broken framing is the peers' fault; everything else that is lost would be the product's.
        let lost = |loss: &&String| loss.contains("_lost_total") && !loss.contains("invalid_frame");
        let lost: Vec<&String> = observed.losses.iter().filter(lost).collect();
        assert!(lost.is_empty(), "{}: {lost:#?}", observed.name);
        observed.records
    }

    /// Ends everything: peers' sockets, captures, daemon.
    pub(crate) fn observe(self, connections: usize) -> Observed {
        let Stage {
            name,
            daemon,
            wire,
            captures,
            sandbox,
        } = self;
        let inside: Vec<u32> = captures.iter().map(Capture::pid).collect();
        sandbox.await_quiet(&inside);
        let packets: Vec<_> = captures
            .into_iter()
            .map(|capture| capture.finish(&sandbox))
            .collect();
        let path = daemon.records.clone();
        let losses = daemon.losses();
        let known = daemon.knows();
        daemon.stop();
        drop(wire);
        let mut expected: Vec<View> = views(&packets[0], Role::Client);
        expected.extend(views(packets.last().unwrap(), Role::Server));
        assert_eq!(
            expected.len(),
            2 * connections,
            "{name} did not do what it is meant to do"
        );
        Observed {
            name,
            expected,
            records: read_records(&path),
            losses,
            known,
            sandbox,
        }
    }
}

/// What was captured and what was recorded.
pub(crate) struct Observed {
    pub(crate) name: &'static str,
    pub(crate) expected: Vec<View>,
    pub(crate) records: Vec<Value>,
    /// What the daemon says it could not see.
    pub(crate) losses: Vec<String>,
    /// What else it says when all is over.
    pub(crate) known: Vec<String>,
    pub(crate) sandbox: Sandbox,
}

impl Observed {
    pub(crate) fn compare(&self) -> Figures {
        let expectation = Expectation {
            cgroup: &self.sandbox.cgroup,
            processes: &self.sandbox.processes(),
            slow_after: SLOW_AFTER,
            tolerance: TOLERANCE,
            may_be_lost: false,
            adopted_at: None,
        };
        compare(&self.expected, &self.records, &expectation)
    }
}

/// The port of the first pair; the others follow.
pub(crate) const RAW_PORT: u16 = 9000;

/// What two raw ends do, in the words of `raw.py`.
pub(crate) struct Pair {
    pub(crate) server: &'static str,
    pub(crate) client: &'static str,
}

/// The record of one end of the pair.
pub(crate) fn record_of<'a>(records: &'a [Value], pair: usize, role: &str) -> &'a Value {
    let port = format!(":{}", usize::from(RAW_PORT) + pair);
    let of_pair = |record: &&Value| {
        record["role"] == role && record["server"].as_str().unwrap().ends_with(&port)
    };
    records
        .iter()
        .find(of_pair)
        .unwrap_or_else(|| panic!("no {role} record of pair {pair}"))
}
