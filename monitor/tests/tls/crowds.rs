//! Many connections in one thread, long messages, resumed sessions, and processes that are killed.

use crate::{
    fresh::is_as_planned,
    programs::{Client, Server},
    scene::{Observed, Scene, now, plans},
    turn,
    verdict::{TOLERANCE, settle},
};

/// A single thread holds so many ends, and another one the others.
const SIZES: [usize; 3] = [1, 50, 300];
/// With as many connections busy in a thread, its Close frames wait long in the library's buffers.
const CROWDED: i64 = 50_000_000;

#[test]
#[ignore = "needs root"]
fn many_in_one_thread() {
    let _turn = turn();
    for (client, server) in [
        (Client::Asyncio, Server::Asyncio),
        (Client::Node, Server::Node),
        (Client::Asyncio, Server::Nginx),
        (Client::Node, Server::Haproxy),
    ] {
        for size in SIZES {
            let mut scene = Scene::new(None);
            scene.serve_plain();
            scene.serve(server);
            let plans = plans(size);
            // Half of them are open before the daemon.
            let (old, young) = plans.split_at(size / 2);
            if !old.is_empty() {
                scene.open(client, server, old);
            }
            let daemon = scene.daemon();
            let since = now();
            scene.open(client, server, young);
            scene.go_on();
            let test = format!("many_in_one_thread, {size} of {}", server.name());
            all_as_planned(&test, scene.finish(daemon), size, CROWDED, since);
        }
    }
}

/// Longer than any buffer between the ends, through programs that do not wait for a reader.
#[test]
#[ignore = "needs root"]
fn long_messages() {
    let _turn = turn();
    for (client, server) in [
        (Client::Asyncio, Server::Nginx),
        (Client::Node, Server::Haproxy),
        (Client::Node, Server::Asyncio),
    ] {
        let mut scene = Scene::new(None);
        scene.serve_plain();
        scene.serve(server);
        let plans: Vec<String> = (4000..4006)
            .map(|code| format!("client/{code}/0/1/1/900000"))
            .collect();
        let (old, young) = plans.split_at(3);
        scene.open(client, server, old);
        let daemon = scene.daemon();
        let since = now();
        scene.open(client, server, young);
        scene.go_on();
        let test = format!("long_messages, {}", server.name());
        all_as_planned(&test, scene.finish(daemon), plans.len(), CROWDED, since);
    }
}

#[test]
#[ignore = "needs root"]
fn resumed_sessions() {
    let _turn = turn();
    for newest in [None, Some("1.2")] {
        let mut scene = Scene::new(newest);
        scene.serve_plain();
        let servers = [Server::Asyncio, Server::Node, Server::Nginx];
        servers.into_iter().for_each(|server| scene.serve(server));
        let daemon = scene.daemon();
        let since = now();
        let plans = plans(24);
        for (server, plans) in servers.into_iter().zip(plans.chunks(8)) {
            scene.open(Client::Resuming, server, plans);
        }
        scene.go_on();
        let test = format!("resumed_sessions, {}", newest.unwrap_or("1.3"));
        all_as_planned(&test, scene.finish(daemon), plans.len(), TOLERANCE, since);
    }
}

/// No function of the library is called at their end.
#[test]
#[ignore = "needs root"]
fn killed_clients_and_servers() {
    let _turn = turn();
    for kill_servers in [false, true] {
        let mut scene = Scene::new(None);
        let servers = [Server::Asyncio, Server::Node];
        servers.into_iter().for_each(|server| scene.serve(server));
        let daemon = scene.daemon();
        let since = now();
        let plans = plans(40);
        scene.open(Client::Asyncio, Server::Asyncio, &plans[..20]);
        scene.open(Client::Node, Server::Node, &plans[20..]);
        scene.await_rest();
        scene.kill(kill_servers);
        let observed = scene.finish(daemon);
        let ended = observed.views.iter().filter(|view| view.tls);
        assert_eq!(ended.count(), 2 * plans.len());
        let test = format!(
            "killed {}",
            ["clients", "servers"][usize::from(kill_servers)]
        );
        settle(&test, &observed, CROWDED, since);
    }
}

fn all_as_planned(test: &str, observed: Observed, count: usize, tolerance: i64, since: i64) {
    let tls = observed.views.iter().filter(|view| view.tls);
    assert_eq!(
        tls.clone().count(),
        2 * count,
        "{test}: the witness finds every one"
    );
    tls.for_each(is_as_planned);
    settle(test, &observed, tolerance, since);
}
