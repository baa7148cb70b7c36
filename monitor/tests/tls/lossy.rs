//! Between two hosts, on a network that loses packets: records of TLS come again, cut in other ways, and late.

use crate::{
    fresh::is_as_planned,
    network::Network,
    programs::{Client, Server},
    scene::{Scene, now, plans},
    turn,
    verdict::{TOLERANCE, settle},
};

/// Of 100 packets.
const LOST: u32 = 3;
#[test]
#[ignore = "needs root"]
fn under_loss() {
    let _turn = turn();
    for long in [true, false] {
        let mut scene = Scene::between(Network::veth(LOST, long));
        let servers = [Server::Asyncio, Server::Node];
        servers.into_iter().for_each(|server| scene.serve(server));
        let plans = plans(80);
        let mut parts = plans.chunks(20);
        let mut open = |scene: &mut Scene, client| {
            for server in servers {
                scene.open(client, server, parts.next().unwrap());
            }
        };
        open(&mut scene, Client::Asyncio);
        let daemon = scene.daemon();
        let since = now();
        open(&mut scene, Client::Node);
        scene.go_on();
        let observed = scene.finish(daemon);
        let tls = observed.views.iter().filter(|view| view.tls);
        assert_eq!(tls.count(), 2 * plans.len());
        let clients = observed
            .views
            .iter()
            .filter(|view| view.role.name() == "client");
        clients.for_each(is_as_planned);
        settle("under_loss", &observed, TOLERANCE, since);
    }
}
