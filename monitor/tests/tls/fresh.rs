//! Every program, opened while the daemon runs and before it started.

use std::collections::BTreeMap;

use crate::{
    daemon::{Daemon, read_records},
    programs::{Client, Server},
    scene::{Observed, Scene, now, plans},
    tshark, turn,
    verdict::{TOLERANCE, settle},
    witness::View,
};

/// How many connections each pair has that are open when the daemon starts, and how many that open later.
const CONNECTIONS: usize = 6;

const PAIRS: [(Client, Server); 12] = [
    (Client::Asyncio, Server::Asyncio),
    (Client::Threads, Server::Asyncio),
    (Client::Node, Server::Asyncio),
    (Client::Node16, Server::Asyncio),
    (Client::Threads, Server::Threads),
    (Client::Aiohttp, Server::Aiohttp),
    (Client::Asyncio, Server::Aiohttp),
    (Client::Asyncio, Server::Uvicorn),
    (Client::Node, Server::Node),
    (Client::Asyncio, Server::Node16),
    (Client::Asyncio, Server::Nginx),
    (Client::Node, Server::Haproxy),
];

#[test]
#[ignore = "needs root"]
fn every_program_with_tls_1_3() {
    every_program("every_program_with_tls_1_3", None);
}

#[test]
#[ignore = "needs root"]
fn every_program_with_tls_1_2() {
    every_program("every_program_with_tls_1_2", Some("1.2"));
}

/// Connections that are open when the daemon starts, and others that open while it runs. A second daemon, which does not
/// follow TLS, has records of the plaintext alone.
fn every_program(test: &str, newest: Option<&'static str>) {
    let _turn = turn();
    let mut scene = Scene::new(newest);
    scene.serve_plain();
    Server::ALL
        .into_iter()
        .for_each(|server| scene.serve(server));
    let plans = plans(2 * PAIRS.len() * CONNECTIONS);
    let (before, after) = plans.split_at(PAIRS.len() * CONNECTIONS);
    let open = |scene: &mut Scene, plans: &[String]| {
        for (pair, plans) in PAIRS.into_iter().zip(plans.chunks(CONNECTIONS)) {
            scene.open(pair.0, pair.1, plans);
        }
    };
    open(&mut scene, before);
    let records = scene.sandbox.path("without-tls.jsonl");
    let blind = Daemon::start(&scene.sandbox, &records);
    let (daemon, since) = (scene.daemon(), now());
    open(&mut scene, after);
    scene.go_on();
    let mut observed = scene.finish(daemon);
    blind.stop();

    let tls: Vec<&View> = observed.views.iter().filter(|view| view.tls).collect();
    assert_eq!(tls.len(), 2 * plans.len(), "the witness finds every one");
    for view in &tls {
        is_as_planned(view);
    }
    tshark_agrees(&observed);
    settle(test, &observed, TOLERANCE, since);

    observed.records = read_records(&records);
    observed.follows_tls = false;
    settle(
        &format!("{test}, without --tls"),
        &observed,
        TOLERANCE,
        since,
    );
}

/// Its Close frames are those that its plan says.
pub(crate) fn is_as_planned(view: &View) {
    let path = view.path.value.as_deref().unwrap();
    let words: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let code: Option<u16> = words[1].parse().ok();
    let [client, server] = [view.client, view.server].map(|side| side.close.unwrap());
    let (by, first, second) = if client.0.at < server.0.at {
        ("client", client.1, server.1)
    } else {
        ("server", server.1, client.1)
    };
    assert_eq!((by, first), (words[0], code), "{view:?}");
    // aiohttp answers any code with 1000.
    assert!(second == code || second == Some(1000), "{view:?}");
}

fn tshark_agrees(observed: &Observed) {
    let mut witnessed = BTreeMap::new();
    for view in observed.views.iter().filter(|view| view.tls) {
        for (side, by) in [(view.client, "client"), (view.server, "server")] {
            let (moment, code) = side.close.unwrap();
            let [client, server] = [view.client_address, view.server_address].map(|at| at.port());
            witnessed.insert((client, server, by), (moment.at, code));
        }
    }
    let dissected = tshark::closes(observed);
    let differing: Vec<String> = witnessed
        .keys()
        .chain(dissected.keys())
        .filter(|end| witnessed.get(end) != dissected.get(end))
        .map(|end| {
            format!(
                "{end:?}: {:?}, {:?}",
                witnessed.get(end),
                dissected.get(end)
            )
        })
        .collect();
    assert!(differing.is_empty(), "{differing:#?}");
}
