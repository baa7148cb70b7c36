//! Without `--tls`, and what the witness itself finds.

use std::collections::BTreeMap;

use crate::{
    programs::{Client, Server},
    scene::{Observed, Scene, plans},
    tshark, turn,
    witness::View,
};

/// How many connections each pair has.
const CONNECTIONS: usize = 20;

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
fn nothing_is_recorded_of_tls_while_it_is_off() {
    let _turn = turn();
    for newest in [None, Some("1.2")] {
        settle(newest);
    }
}

fn settle(newest: Option<&'static str>) {
    let mut scene = Scene::new(newest);
    let daemon = scene.daemon(None);
    scene.serve_plain();
    Server::ALL
        .into_iter()
        .for_each(|server| scene.serve(server));
    let plans = plans(PAIRS.len() * CONNECTIONS);
    for (pair, plans) in PAIRS.into_iter().zip(plans.chunks(CONNECTIONS)) {
        scene.open(pair.0, pair.1, plans);
    }
    scene.go_on();
    let observed = scene.finish(daemon);

    let tls: Vec<&View> = observed.views.iter().filter(|view| view.tls).collect();
    assert_eq!(tls.len(), 2 * plans.len(), "the witness finds every one");
    for view in &tls {
        is_as_planned(view);
    }
    tshark_agrees(&observed);
    let plain = observed.views.len() - tls.len();
    assert_eq!(
        observed.records.len(),
        plain,
        "what is behind nginx and HAProxy"
    );
    assert!(observed.records.iter().all(|record| record["tls"] == false));
    for server in Server::ALL {
        let of = tls
            .iter()
            .filter(|view| view.server_address.port() == server.port());
        eprintln!("{}: {} ends over TLS", server.name(), of.count());
    }
}

/// Its Close frames are those that its plan says.
fn is_as_planned(view: &View) {
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
    assert!(
        differing.is_empty(),
        "{} of {}: {:#?}",
        differing.len(),
        witnessed.len(),
        &differing[..differing.len().min(9)]
    );
}
