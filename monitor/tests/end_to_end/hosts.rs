//! What hosts do to sockets and to processes: several processes at one socket, sockets that are killed or that nobody
//! lets go in words, firewalls, tunnels.

use std::{fs, time::Duration};

use serde_json::Value;

use crate::{
    daemon::read_records,
    hostile::{CLIENT, SERVER, hex, pair, request},
    sandbox::Plays,
    stage::{Pair, Stage, record_of},
};

/// Frames that come in segments large and small, both ways.
pub(crate) fn traffic() -> [Pair; 3] {
    let client = format!("upgrade; texts:100:20000; {CLIENT}");
    let both = "accept; texts:100:20000; texts:3000; await-close; close; end";
    [
        pair(SERVER, &client),
        pair(both, &format!("upgrade; texts:3000; {CLIENT}")),
        pair(
            "accept; await-close; close-fin; await-eof; end",
            "upgrade; texts; close-cut; await-close; await-eof; end",
        ),
    ]
}

/// The records of a scenario that the packets alone do not explain.
pub(crate) fn records_of(stage: Stage, records: usize) -> Vec<Value> {
    let ended = "closewatch_connections_ended_total";
    stage.daemon.await_metric(ended, &[], records as f64);
    // Loss of any kind would be the product's.
    let lost: Vec<String> = stage.daemon.losses();
    assert_eq!(lost, [""; 0]);
    let path = stage.daemon.records.clone();
    let Stage {
        daemon, sandbox, ..
    } = stage;
    daemon.stop();
    let found = read_records(&path);
    drop(sandbox);
    assert_eq!(found.len(), records);
    found
}

pub(crate) fn is_clean(record: &Value) {
    assert_eq!(record["outcome"], "clean", "{record}");
    assert_eq!(record["time_wait"], "server", "{record}");
    assert_eq!(record["client_close"]["code"], 1000, "{record}");
    assert_eq!(record["server_close"]["code"], 1000, "{record}");
}

/// Roles are told by who asks, where both sent a SYN.
#[test]
#[ignore = "needs root"]
fn ends_that_connect_at_once() {
    let stage = Stage::wire("ends_that_connect_at_once");
    let meet = |namespace, plays, here: &str, there: &str, role: &str, script: &str| {
        let arguments = ["meet", here, there, role, script];
        stage.python_in(namespace, plays, "host.py", &arguments)
    };
    let (one, other) = ("10.9.0.1:9001", "10.9.0.2:9000");
    let client = format!("upgrade; texts; {CLIENT}");
    let server = meet(1, Plays::Server, other, one, "server", SERVER);
    let client = meet(0, Plays::Client, one, other, "client", &client);
    client.finish();
    server.finish();
    let records = records_of(stage, 2);
    for role in ["client", "server"] {
        is_clean(record_of(&records, 0, role));
    }
}

/// Out of what is left of the connection before: after a reset, in the client's TIME_WAIT, in the server's.
#[test]
#[ignore = "needs root"]
fn the_same_ports_again() {
    let stage = Stage::loopback("the_same_ports_again");
    let next = "accept-next:9100; accept; await-close; close";
    let again = "pause:0.2; connect:9100:7777; upgrade";
    stage.hosts(&[pair(
        &format!(
            "accept; await-close; close; await-eof; end; {next}; await-eof; end; {next}; await-eof; end; \
             {next}; end; {next}; end"
        ),
        &format!(
            "upgrade; close; await-close; end; {again}; close; await-close; end; {again}; close; await-close; \
             reset; {again}; texts; {CLIENT}; {again}; texts:2; {CLIENT}"
        ),
    )]);
    stage.finish(5);
}

#[test]
#[ignore = "needs root"]
fn ways_to_linger() {
    let stage = Stage::loopback("ways_to_linger");
    let client = format!("upgrade; texts; {CLIENT}");
    let pairs = [
        pair(SERVER, &format!("upgrade; texts; linger:1; {CLIENT}")),
        pair("accept; await-close; close; linger:1; end", &client),
        // TCP_LINGER2: no FIN_WAIT2 without a process.
        pair("accept; await-close; close; option:6:8:-1; end", &client),
        pair(
            "accept; await-close; close; option:6:8:-1; fin; pause:0.1; end",
            "upgrade; close; await-close; await-eof; pause:0.3; end",
        ),
    ];
    stage.hosts(&pairs);
    stage.finish(pairs.len());
}

#[test]
#[ignore = "needs root"]
fn sockets_that_an_operator_kills() {
    let stage = Stage::loopback("sockets_that_an_operator_kills");
    let kill = "run:ss_-K_sport_=_HERE; pause:0.1; end";
    let pairs = [
        pair(
            "accept; texts; await-error; end",
            &format!("upgrade; texts; pause:0.1; {kill}"),
        ),
        pair(
            "accept; await-close; close; await-error; end",
            &format!("upgrade; close; await-close; pause:1.1; {kill}"),
        ),
        pair(
            &format!("accept; texts; pause:0.1; {kill}"),
            "upgrade; await-error; end",
        ),
        pair(
            &format!("accept; fin; pause:0.1; {kill}"),
            "upgrade; await-error; pause:0.2; end",
        ),
    ];
    stage.hosts(&pairs);
    stage.finish(pairs.len());
}

/// The FIN never gets as far as the hook: when the client closed is not known, and nobody is blamed.
#[test]
#[ignore = "needs root"]
fn a_fin_that_finds_no_way_out() {
    let stage = Stage::cable("a_fin_that_finds_no_way_out", &[]);
    // TCP_USER_TIMEOUT, or it would take minutes.
    stage.hosts(&[
        pair(
            "accept; await-close; close; pause:1; reset",
            "upgrade; option:6:18:1500; close; await-close; pause:0.3; end",
        ),
        pair(
            "accept; texts; pause:1; reset",
            "upgrade; option:6:18:1500; texts; pause:0.1; run:ip_link_set_wire_down; pause:0.1; end",
        ),
    ]);
    let records = records_of(stage, 4);
    for (pair, outcome) in [(0, Value::Null), (1, "abnormal".into())] {
        let record = record_of(&records, pair, "client");
        for end in ["client_fin", "client_rst", "server_fin", "server_rst"] {
            assert!(record[end].is_null(), "{record}");
        }
        assert_eq!(record["outcome"], outcome, "{record}");
        assert_ne!(record["slow"], true, "{record}");
    }
}

/// The process is the one that let go of the last descriptor, however it came by it.
#[test]
#[ignore = "needs root"]
fn descriptors_in_other_hands() {
    let stage = Stage::loopback("descriptors_in_other_hands");
    let servers = [
        "9000=accept; child:pause:0.1+say:child+pause:0.3+await-close+close+end",
        "9001=accept; keeper:0.6; await-close; close; end",
        &format!("9002={SERVER}"),
        &format!("9003={SERVER}"),
        &format!("9004={SERVER}"),
        "9005=accept; ring; ring-texts:3; await-close; ring-close-frame; ring-fin; await-eof; ring-end",
        "9006=accept; ring; await-close; close; ring-keep; pause:0.3",
    ];
    let plain = format!("upgrade; texts; {CLIENT}");
    let clients = [
        &plain,
        &plain,
        "upgrade; texts; close; await-close; await-eof; forget-in-flight; pause:0.2",
        "upgrade; texts; close; await-close; forget-in-flight; pause:0.2",
        "ring; upgrade; ring-texts:3; ring-close-frame; await-close; await-eof; ring-end",
        &plain,
        &plain,
    ];
    let clients: Vec<String> = (9000..)
        .zip(clients)
        .map(|(port, script)| format!("{port}={script}"))
        .collect();
    let server = [&["server", "127.0.0.1"], &servers[..]].concat();
    let server = stage.python(Plays::Server, "host.py", &server);
    let mut client = vec!["client", "127.0.0.1"];
    client.extend(clients.iter().map(String::as_str));
    let client = stage.python(Plays::Client, "host.py", &client);
    server.await_line("child");
    // The child and the keeper.
    stage.sandbox.note_processes(server.pid(), Plays::Server);
    let pid = server.pid();
    client.finish();
    server.finish();
    let records = stage.finish(clients.len());
    for pair in [0, 1] {
        let record = record_of(&records, pair, "server");
        assert!(record["pid"].is_u64(), "{record}");
        assert_ne!(record["pid"], pid, "{record}");
    }
}

/// It is that of whoever made the socket; an accepted one has its listener's. One that is gone has a path if that was
/// asked for in time.
#[test]
#[ignore = "needs root"]
fn the_cgroup_of_a_socket() {
    let stage = Stage::loopback("the_cgroup_of_a_socket");
    let outer = stage.sandbox.cgroup_directory().to_owned();
    let inner = outer.join("inner");
    fs::create_dir(&inner).unwrap();
    let moves = |pid: u32, into: &std::path::Path| {
        fs::write(into.join("cgroup.procs"), pid.to_string()).unwrap();
    };
    let server = "9000=await-word:go; accept; texts; await-close; close; end";
    let server = ["server", "127.0.0.1", server, "9001=end"];
    let mut server = stage.python(Plays::Server, "host.py", &server);
    let client = "9001=say:here; await-word:connect; connect:9000; upgrade; say:open; await-word:go; texts:3; \
                  close; await-close; await-eof; end";
    let client = ["client", "127.0.0.1", client];
    let mut client = stage.python(Plays::Client, "host.py", &client);
    client.await_line("here");
    moves(server.pid(), &inner);
    moves(client.pid(), &inner);
    client.tell("connect");
    server.tell("go");
    client.await_line("open");
    moves(server.pid(), &outer);
    moves(client.pid(), &outer);
    fs::remove_dir(&inner).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    client.tell("go");
    client.finish();
    server.finish();
    let cgroup = stage.sandbox.cgroup.clone();
    let records = records_of(stage, 2);
    for (role, cgroup) in [("server", cgroup.clone()), ("client", cgroup + "/inner")] {
        let record = record_of(&records, 0, role);
        is_clean(record);
        let gone = role == "client" && record["cgroup"].is_null();
        assert!(gone || record["cgroup"] == cgroup, "{record}");
    }
}

/// The server gets what a load balancer says of its client first, in one segment with the request or in its own.
#[test]
#[ignore = "needs root"]
fn the_proxy_protocol() {
    let stage = Stage::loopback("the_proxy_protocol");
    let ask = hex(&request("/live?token=secret", "proxied"));
    let text = hex("PROXY TCP4 192.0.2.1 192.0.2.2 40000 80\r\n");
    let binary = format!(
        "{}2111000c{}",
        hex("\r\n\r\n\0\r\nQUIT\n"),
        "c0000201c0000202".to_owned() + "9c400050"
    );
    let tlv = format!(
        "{}21110013{}{}",
        hex("\r\n\r\n\0\r\nQUIT\n"),
        "c0000201c00002029c400050",
        "03000400000000"
    );
    let client = "await-head; texts; close; await-close; await-eof; end";
    let server = |header: &str| {
        let length = header.len() / 2;
        format!("await-bytes:{length}; accept; await-close; close; end")
    };
    let pairs: Vec<Pair> = [&text, &binary, &tlv]
        .into_iter()
        .flat_map(|header| {
            [
                pair(&server(header), &format!("bytes:{header}{ask}; {client}")),
                pair(
                    &server(header),
                    &format!("bytes:{header}; pause:0.1; bytes:{ask}; {client}"),
                ),
            ]
        })
        .collect();
    stage.hosts(&pairs);
    let records = records_of(stage, 2 * pairs.len());
    for number in 0..pairs.len() {
        for role in ["client", "server"] {
            let record = record_of(&records, number, role);
            is_clean(record);
            assert_eq!(record["host"], "proxied", "{record}");
            assert_eq!(record["path"], "/live", "{record}");
        }
    }
}

/// What an HTTP or a SOCKS proxy is asked first is no part of the WebSocket.
#[test]
#[ignore = "needs root"]
fn a_tunnel_through_a_proxy() {
    let stage = Stage::loopback("a_tunnel_through_a_proxy");
    let ask = hex("CONNECT chat.test:80 HTTP/1.1\r\nHost: chat.test:80\r\n\r\n");
    let established = hex("HTTP/1.1 200 Connection established\r\n\r\n");
    let client = format!("upgrade; texts; {CLIENT}");
    let pairs = [
        pair(
            &format!("await-head; bytes:{established}; {SERVER}"),
            &format!("bytes:{ask}; await-head; {client}"),
        ),
        pair(
            &format!("await-bytes:3; bytes:0500; {SERVER}"),
            &format!("bytes:050100; await-bytes:2; {client}"),
        ),
    ];
    stage.hosts(&pairs);
    let records = records_of(stage, 2 * pairs.len());
    for number in 0..pairs.len() {
        for role in ["client", "server"] {
            let record = record_of(&records, number, role);
            is_clean(record);
            assert_eq!(record["host"], "raw.test", "{record}");
        }
    }
}

/// Two processes at one port, each with three listening sockets (SO_REUSEPORT): the record has the one that served.
#[test]
#[ignore = "needs root"]
fn a_shared_port() {
    let stage = Stage::loopback("a_shared_port");
    let spec = format!("9000={SERVER}");
    let start = || {
        stage.python(
            Plays::Server,
            "host.py",
            &["server", "shared", &spec, &spec, &spec],
        )
    };
    let servers = [start(), start()];
    let turn = format!("upgrade; texts; {CLIENT}");
    let next = format!("; connect:9000; {turn}");
    let client = format!("9000={turn}{}", next.repeat(5));
    stage
        .python(Plays::Client, "host.py", &["client", "127.0.0.1", &client])
        .finish();
    let pids = servers.each_ref().map(|server| server.pid());
    for server in servers {
        server.finish();
    }
    let records = stage.finish(6);
    for pid in pids {
        let served = |record: &&Value| record["role"] == "server" && record["pid"] == pid;
        assert_eq!(records.iter().filter(served).count(), 3, "{records:#?}");
    }
}
