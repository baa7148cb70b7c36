//! What hosts do to packets on their way: offloads, fragments, extension headers, packets that come twice, address
//! translation.

use serde_json::Value;

use crate::{
    hostile::{CLIENT, SERVER, pair},
    hosts::{is_clean, records_of, traffic},
    sandbox::Plays,
    stage::{Stage, WIRE_6, record_of},
};

#[test]
#[ignore = "needs root"]
fn a_cable_with_offloads() {
    let stage = Stage::cable("a_cable_with_offloads", &[(1, "ethtool -K wire gro on")]);
    let pairs = traffic();
    stage.hosts(&pairs);
    stage.finish(pairs.len());
}

#[test]
#[ignore = "needs root"]
fn a_cable_without_offloads() {
    let off = "ethtool -K wire tso off gso off gro off";
    let stage = Stage::cable("a_cable_without_offloads", &[(0, off), (1, off)]);
    let pairs = traffic();
    stage.hosts(&pairs);
    stage.finish(pairs.len());
}

/// BIG TCP: packets longer than an IPv6 header can say.
#[test]
#[ignore = "needs root"]
fn a_cable_of_long_packets() {
    let long = "ip link set wire gso_max_size 185000 gro_max_size 185000";
    let also = ["fd00:9::1", "fd00:9::2"].map(|one| format!("ip addr add {one}/64 dev wire nodad"));
    let setup = [(0, long), (1, long), (0, &also[0]), (1, &also[1])];
    let stage = Stage::cable("a_cable_of_long_packets", &setup);
    let server = "accept; texts:4:500000; texts:10000:9; await-close; close; end";
    let client = format!("upgrade; texts:4:500000; texts:10000:9; {CLIENT}");
    let pairs = [pair(server, &client)];
    stage.hosts_at(WIRE_6[1], &pairs);
    stage.finish(pairs.len());
}

#[test]
#[ignore = "needs root"]
fn packets_that_come_twice() {
    let stage = Stage::strange_wire("packets_that_come_twice", &["twice=50"]);
    let client = format!("upgrade; texts:30; ticks:20:0.001:500; {CLIENT}");
    let server = "accept; ticks:20:0.005:50; texts:200; await-close; close; end";
    let pairs = [pair(server, &client), pair(server, &client)];
    stage.hosts(&pairs);
    stage.finish(pairs.len());
}

/// The capture has the fragments as they are.
#[test]
#[ignore = "needs root"]
fn fragments() {
    let stage = Stage::strange_wire("fragments", &["cut=600"]);
    let client = format!("upgrade; texts:50:500; texts:3:3000; pause:0.2; {CLIENT}");
    stage.hosts(&[pair(
        "accept; texts:50:500; await-close; close; end",
        &client,
    )]);
    let records = records_of(stage, 2);
    for (role, received) in [("client", 51), ("server", 54)] {
        let record = record_of(&records, 0, role);
        is_clean(record);
        assert_eq!(record["frames_received"], received, "{record}");
    }
}

/// Each packet is its own only fragment (RFC 6946), and says something where that has to say nothing.
#[test]
#[ignore = "needs root"]
fn only_fragments() {
    let stage = Stage::strange_wire("only_fragments", &["atomic=7"]);
    let pairs = [pair(SERVER, &format!("upgrade; texts; {CLIENT}"))];
    stage.hosts_at(WIRE_6[1], &pairs);
    stage.finish(pairs.len());
}

#[test]
#[ignore = "needs root"]
fn extension_headers() {
    let stage = Stage::loopback("extension_headers");
    // IPV6_HOPOPTS, IPV6_DSTOPTS, both; each six bytes of padding.
    let pairs = [
        "option:41:54:x0000010400000000",
        "option:41:59:x0000010400000000",
        "option:41:54:x0000010400000000; option:41:59:x0000010400000000",
    ]
    .map(|options| {
        pair(
            &format!("{options}; accept; texts; await-close; close; end"),
            &format!("{options}; upgrade; texts; {CLIENT}"),
        )
    });
    stage.hosts_at("::1", &pairs);
    stage.finish(pairs.len());
}

#[test]
#[ignore = "needs root"]
fn a_client_that_says_ipv6_and_means_ipv4() {
    let stage = Stage::loopback("a_client_that_says_ipv6_and_means_ipv4");
    let pairs = [pair(SERVER, &format!("upgrade; texts; {CLIENT}"))];
    stage.hosts_at("::ffff:127.0.0.1", &pairs);
    stage.finish(pairs.len());
}

/// Each end knows the other by the address that it has been told.
#[test]
#[ignore = "needs root"]
fn a_redirected_port() {
    let stage = Stage::strange_loopback(
        "a_redirected_port",
        &[
            "nft 'add table ip t; add chain ip t o { type nat hook output priority -100; }; \
             add rule ip t o tcp dport 8000 redirect to :9000'",
        ],
    );
    let spec = |port, script: &str| format!("{port}={script}");
    let server = ["server", "127.0.0.1", &spec(9000, SERVER)];
    let server = stage.python(Plays::Server, "host.py", &server);
    let client = spec(8000, &format!("upgrade; texts; {CLIENT}"));
    let client = stage.python(Plays::Client, "host.py", &["client", "127.0.0.1", &client]);
    client.finish();
    server.finish();
    let records = records_of(stage, 2);
    for (role, known) in [("client", "127.0.0.1:8000"), ("server", "127.0.0.1:9000")] {
        let of_role = |record: &&Value| record["role"] == role;
        let record = records.iter().find(of_role).unwrap();
        is_clean(record);
        assert_eq!(record["server"], known, "{record}");
    }
}
