//! WebSockets of every implementation, open before the daemon starts.

use std::{collections::BTreeMap, thread, time::Duration};

use crate::{
    cases::cases,
    late::{Case, Late, now},
    turn,
    verdict::{Expect, settle},
};

/// Who closes, with which code, with how many bytes of reason; how many messages before the daemon's start
/// and after, and how long they are.
const PLANS: [&str; 10] = [
    "client/1000/0/2/3/20",
    "client/1001/0/1/0/20",
    "client/3000/7/1/2/65536",
    "client/4001/123/0/3/1000000",
    "client/none/0/3/0/100",
    "server/1000/0/2/3/20",
    "server/1001/0/1/0/20",
    "server/3000/7/1/2/65536",
    "server/4001/123/0/3/1000000",
    "server/none/0/3/0/100",
];

/// Servers, by their ports.
const SERVERS: [(u16, &str); 4] = [
    (9000, "websockets, asyncio"),
    (9001, "websockets, threads"),
    (9002, "aiohttp"),
    (9003, "ws"),
];
const RAW_PORT: u16 = 9100;
const RAW_PORT_6: u16 = 9200;

#[test]
#[ignore = "needs root"]
fn connections_open_before_the_start_are_adopted() {
    let _turn = turn();
    let mut late = Late::new();
    late.python_server(
        "websockets_peer.py",
        &["server", "asyncio", "127.0.0.1", "9000"],
    );
    late.python_server(
        "websockets_peer.py",
        &["server", "sync", "127.0.0.1", "9001"],
    );
    late.python_server("aiohttp_peer.py", &["server", "9002"]);
    late.node_server("9003");
    for kind in ["asyncio", "sync"] {
        for url in ["ws://127.0.0.1:9000", "ws://127.0.0.1:9001"] {
            let arguments = ["client", kind, "default", url];
            late.python_client("websockets_peer.py", &arguments, &PLANS);
        }
    }
    // aiohttp has no way to close without a code.
    let with_code: Vec<&str> = PLANS
        .into_iter()
        .filter(|plan| !plan.contains("none"))
        .collect();
    late.python_client(
        "aiohttp_peer.py",
        &["client", "http://127.0.0.1:9002"],
        &with_code,
    );
    let arguments = ["client", "asyncio", "default", "ws://127.0.0.1:9002"];
    late.python_client("websockets_peer.py", &arguments, &with_code);
    for url in ["ws://127.0.0.1:9003", "ws://127.0.0.1:9001"] {
        late.node_client(url, &PLANS);
    }
    let arguments = ["client", "sync", "default", "ws://127.0.0.1:9003"];
    late.python_client("websockets_peer.py", &arguments, &PLANS);

    let cases = cases();
    let of = |address| -> Vec<&Case> {
        let of_address = cases.iter().filter(|case| case.address == address);
        of_address.collect()
    };
    let (four, six) = (of("127.0.0.1"), of("::1"));
    late.raw("127.0.0.1", RAW_PORT, &four);
    late.raw("::1", RAW_PORT_6, &six);
    // What was sent has arrived.
    thread::sleep(Duration::from_millis(100));

    let daemon = late.start_daemon();
    let since = now();
    late.go_on();
    let observed = late.finish(daemon);

    let connections = 7 * PLANS.len() + 2 * with_code.len() + cases.len();
    assert_eq!(observed.views.len(), 2 * connections);
    let mut kinds: BTreeMap<u16, (&str, Expect)> = BTreeMap::new();
    kinds.extend(SERVERS.map(|(port, name)| (port, (name, Expect::Adopted))));
    for (first, cases) in [(RAW_PORT, four), (RAW_PORT_6, six)] {
        let named = cases.iter().map(|case| (case.name, case.expect));
        kinds.extend((first..).zip(named));
    }
    settle(
        "connections_open_before_the_start_are_adopted",
        &observed,
        false,
        |view| {
            let (name, expect) = kinds[&view.server_address.port()];
            (name.to_owned(), expect, since)
        },
    );
    let counts = &observed.counts;
    let adopted = observed.records.len() as f64;
    assert_eq!(
        (counts.adopted, counts.opened),
        (adopted, 0.0),
        "{counts:?}"
    );
    // One that is half-closed already is no candidate.
    let open = connections - 1;
    assert!(
        counts.candidates >= 2.0 * open as f64,
        "not every socket was looked at: {counts:?}"
    );
}
