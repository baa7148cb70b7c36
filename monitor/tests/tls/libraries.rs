//! A few connections of each kind of library, for kernels where time is dear.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use crate::{
    daemon::Daemon,
    fresh::is_as_planned,
    programs::{Client, Server},
    scene::{Scene, now, plans},
    turn,
    verdict::{TOLERANCE, settle},
};

/// How many connections each pair has.
const CONNECTIONS: usize = 8;

const PATIENCE: Duration = Duration::from_secs(10);

/// OpenSSL 3 that programs share, the same inside a program, and OpenSSL 1.1.1 inside a program.
const PAIRS: [(Client, Server); 3] = [
    (Client::Asyncio, Server::Asyncio),
    (Client::Node, Server::Node),
    (Client::Node16, Server::Node16),
];

#[test]
#[ignore = "needs root"]
fn of_each_kind() {
    let _turn = turn();
    let mut scene = Scene::new(None);
    PAIRS.iter().for_each(|(_, server)| scene.serve(*server));
    let plans = plans(PAIRS.len() * CONNECTIONS);
    let pairs = || PAIRS.into_iter().zip(plans.chunks(CONNECTIONS));
    let early = opened_before();
    for ((client, server), plans) in pairs().filter(|_| early > 0) {
        scene.open(client, server, &plans[..early]);
    }
    let daemon = scene.daemon();
    let since = now();
    for ((client, server), plans) in pairs() {
        scene.open(client, server, &plans[early..]);
    }
    scene.go_on();
    tell_sessions(&daemon, 2 * plans.len());
    let observed = scene.finish(daemon);
    let tls: Vec<_> = observed.views.iter().filter(|view| view.tls).collect();
    assert_eq!(tls.len(), 2 * plans.len());
    tls.into_iter().for_each(is_as_planned);
    settle("of_each_kind", &observed, TOLERANCE, since);
}

/// How many of each pair are open before the daemon: half. Linux 5.10 shows no end of those, and they have no records there.
fn opened_before() -> usize {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    if kernel.starts_with("5.10.") {
        eprintln!("of_each_kind: none is open before the daemon: {kernel} shows no end of those");
        return 0;
    }
    CONNECTIONS / 2
}

/// Says what became of the sessions, once all are bound or that takes too long: what is not has no record.
fn tell_sessions(daemon: &Daemon, ends: usize) {
    let count = |result: &str| {
        let label = format!("result=\"{result}\"");
        daemon.metric("closewatch_tls_sessions_total", &[&label])
    };
    let deadline = Instant::now() + PATIENCE;
    while count("bound") < ends as f64 && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(50));
    }
    let told = ["bound", "contradicted", "unbound", "no_room"]
        .map(|result| format!("{} {result}", count(result)));
    eprintln!("of_each_kind: TLS sessions: {}", told.join(", "));
}
