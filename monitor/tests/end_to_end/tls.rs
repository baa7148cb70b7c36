//! What TLS hides: counted, so that nobody takes silence for health, and never guessed at.

use crate::{
    authority::Authority,
    sandbox::Plays,
    stage::{Pair, RAW_PORT, Stage, WIRE_SERVER},
};

/// A port beside those of raw ends.
const PORT: u16 = RAW_PORT - 1;
const CLEAN: Pair = Pair {
    server: "accept; await-close; close; end",
    client: "upgrade; close; await-close; await-eof; end",
};

/// Has a client open connections of these versions, one after the other; `curve` is what the server insists on.
fn visits(stage: &Stage, [client, server]: [usize; 2], curve: &[&str], versions: &[&str]) {
    let folder = stage.sandbox.directory.path();
    Authority::new(folder, "authority").issue(folder, "server", &["localhost"]);
    let files = folder.join("server");
    let files = files.to_str().unwrap();
    let address = if client == server {
        "127.0.0.1"
    } else {
        WIRE_SERVER
    };
    let port = PORT.to_string();
    let there = [&["server", address, &port, files], curve].concat();
    let there = stage.python_in(server, Plays::Server, "tls_peer.py", &there);
    let here = [&["client", address, &port], versions].concat();
    let here = stage.python_in(client, Plays::Client, "tls_peer.py", &here);
    here.finish();
    there.kill();
}

/// How many connections were counted, as their clients' ends and as their servers'.
fn counted(stage: &Stage) -> [f64; 2] {
    [r#"role="client""#, r#"role="server""#].map(|role| {
        stage
            .daemon
            .metric("closewatch_tls_connections_total", &[role])
    })
}

#[test]
#[ignore = "needs root"]
fn tls_is_counted_once_for_each_end() {
    let stage = Stage::loopback("tls_is_counted_once_for_each_end");
    assert_eq!(counted(&stage), [0.0, 0.0]);
    visits(
        &stage,
        [0, 0],
        &[],
        &["TLSv1_2", "TLSv1_3", "TLSv1_3", "TLSv1_2", "TLSv1_3"],
    );
    assert_eq!(counted(&stage), [5.0, 5.0]);
    stage.raw(&[CLEAN, CLEAN]);
    assert_eq!(counted(&stage), [5.0, 5.0], "plaintext is no TLS");
    let records = stage.finish(2);
    assert_eq!(records.len(), 4, "what is in TLS is not seen: {records:#?}");
}

#[test]
#[ignore = "needs root"]
fn a_hello_that_is_said_twice() {
    let stage = Stage::loopback("a_hello_that_is_said_twice");
    visits(&stage, [0, 0], &["secp384r1"], &["TLSv1_3"; 3]);
    assert_eq!(counted(&stage), [3.0, 3.0]);
    assert!(stage.finish(0).is_empty());
}

/// Of what is sent again nothing begins a connection.
#[test]
#[ignore = "needs root"]
fn hellos_that_are_lost_on_the_way() {
    let stage = Stage::lossy_wire("hellos_that_are_lost_on_the_way", "25");
    visits(&stage, [0, 1], &[], &["TLSv1_3"; 12]);
    assert_eq!(counted(&stage), [12.0, 12.0]);
    assert!(stage.observe(0).records.is_empty());
}
