//! What is rare and must still be told rightly, or not at all: odd beginnings, readers that are slow or do not read, TLS that
//! others pass on, and libraries that nobody follows.

mod between;
mod cases;
mod many;
mod programs;
mod readers;
mod rule;

use self::{
    cases::{
        Case, beside_a_child, followed_by_nobody, handed_to_a_child, heavy, light, long_open,
        passed_on,
    },
    rule::settle,
};
use crate::{
    peers::Peer,
    sandbox::Plays,
    scene::{RAW_PORT, Scene, now},
    turn,
};

/// Between the port of a server and that of what passes TLS on to it.
const IN_BETWEEN: u16 = 100;

/// What may be between.
const KINDS: [&str; 5] = [
    "connect",
    "bytes",
    "records",
    "rustls client",
    "rustls server",
];

/// Cases at ports of their own.
struct Cases {
    all: Vec<(u16, Case)>,
}

impl Cases {
    fn new(first: u16, cases: Vec<Case>) -> Cases {
        Cases {
            all: (RAW_PORT + first..).zip(cases).collect(),
        }
    }

    fn begin(&self, scene: &mut Scene) -> [Peer; 2] {
        self.begin_with(scene, "odd_raw.py")
    }

    /// The servers and the clients.
    fn begin_with(&self, scene: &mut Scene, program: &str) -> [Peer; 2] {
        for kind in KINDS {
            let passed_on = self
                .all
                .iter()
                .filter(|(_, case)| case.between == Some(kind));
            let ports: Vec<_> = passed_on
                .map(|(port, _)| (*port + IN_BETWEEN, *port))
                .collect();
            if !ports.is_empty() {
                between::start(scene, kind, &ports);
            }
        }
        let of = |index: usize| -> Vec<(u16, String)> {
            let scripts = self.all.iter().map(|(port, case)| {
                let apart = match case.between {
                    Some(_) if index == 1 => IN_BETWEEN,
                    _ => 0,
                };
                (port + apart, case.scripts[index].clone())
            });
            scripts.collect()
        };
        let server = scene.scripted(program, Plays::Server, &of(0));
        [server, scene.scripted(program, Plays::Client, &of(1))]
    }

    /// Connections that begin with a Hello.
    fn hellos(&self) -> usize {
        let hellos = self.all.iter().map(|(_, case)| match case.between {
            None => usize::from(!case.scripts[0].contains("line")),
            Some("bytes" | "records") => 2,
            Some(_) => 1,
        });
        hellos.sum()
    }

    fn run(&self, scene: &mut Scene) {
        self.run_with(scene, "odd_raw.py");
    }

    fn run_with(&self, scene: &mut Scene, program: &str) {
        let [server, client] = self.begin_with(scene, program);
        client.finish();
        server.finish();
    }
}

#[test]
#[ignore = "needs root"]
fn beginnings_and_readers() {
    let _turn = turn();
    let mut scene = Scene::new(None);
    let daemon = scene.daemon();
    let mut cases = light();
    cases.append(&mut passed_on());
    cases.append(&mut followed_by_nobody());
    let cases = Cases::new(0, cases);
    cases.run(&mut scene);
    // By itself: a child has every descriptor of its process.
    let beside = Cases::new(cases.all.len() as u16, beside_a_child());
    let peers = beside.begin(&mut scene);
    peers.iter().for_each(|peer| peer.await_line("child"));
    scene.sandbox.note_processes(0, Plays::Both);
    peers.into_iter().rev().for_each(Peer::finish);
    let mut all = vec![cases, beside];
    for case in handed_to_a_child() {
        let taken: usize = all.iter().map(|cases| cases.all.len()).sum();
        let handed = Cases::new(taken as u16, vec![case]);
        let [server, client] = handed.begin(&mut scene);
        server.await_line("child");
        scene.sandbox.note_processes(0, Plays::Both);
        client.finish();
        server.finish();
        all.push(handed);
    }
    // The child has a session of its own at the same connection.
    let contradicted = r#"result="contradicted""#;
    daemon.await_metric(
        "closewatch_tls_sessions_total",
        &[contradicted],
        handed_to_a_child().len() as f64,
    );
    // Also those of which nothing else is known.
    for role in [r#"role="client""#, r#"role="server""#] {
        let counted = daemon.metric("closewatch_tls_connections_total", &[role]);
        let hellos: usize = all.iter().map(Cases::hellos).sum();
        assert_eq!(counted, hellos as f64, "{role}");
    }
    let observed = scene.finish(daemon);
    let all: Vec<_> = all.iter().collect();
    settle("beginnings_and_readers", &observed, None, &all);
}

/// Some in the middle of much when the daemon starts, and Close frames that wait behind much, or never leave.
#[test]
#[ignore = "needs root"]
fn behind_much() {
    let _turn = turn();
    let mut scene = Scene::new(None);
    let old = Cases::new(0, long_open());
    let mut peers = old.begin(&mut scene);
    for _ in &old.all {
        peers[1].await_line("open");
    }
    let daemon = scene.daemon();
    let since = now();
    peers[1].tell("go");
    peers.into_iter().rev().for_each(Peer::finish);
    let young = Cases::new(50, heavy());
    young.run(&mut scene);
    let observed = scene.finish(daemon);
    settle("behind_much", &observed, Some(since), &[&old, &young]);
}
