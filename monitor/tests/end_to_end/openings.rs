//! What comes before the first frame.

use crate::{
    sandbox::Plays,
    stage::{Pair, Stage, record_of},
};

#[test]
#[ignore = "needs root"]
fn what_is_no_websocket_leaves_no_record() {
    let stage = Stage::loopback("what_is_no_websocket_leaves_no_record");
    stage.raw(&[
        Pair {
            server: "serve; serve:70000; serve:0; await-eof; end",
            client: "get; get:/other; get; end",
        },
        // Another protocol switches, and its bytes look like Close frames.
        Pair {
            server: "accept:0:0:h2c; texts:2; close; await-eof; end",
            client: "upgrade:0:0:h2c; close; await-close; end",
        },
        Pair {
            server: "accept:0:1:TLS/1.0, HTTP/1.1; close; await-eof; end",
            client: "upgrade:0:1:TLS/1.0, HTTP/1.1; close; await-close; end",
        },
        Pair {
            server: "await-eof; end",
            client: "texts:3; close; end",
        },
    ]);
    let connections = stage
        .daemon
        .metric("closewatch_connections_opened_total", &[]);
    stage.finish(0);
    assert_eq!(connections, 0.0);
}

#[test]
#[ignore = "needs root"]
fn heads() {
    const CLOSE: &str = "texts:2; close; await-close; await-eof; end";
    let pairs = [
        // Requests before the upgrade, on the same connection.
        ("serve; serve:3000; accept", "get; get:/more; upgrade"),
        // Heads in many packets.
        ("accept:0:7", "upgrade:0:7"),
        ("accept:0:1", "upgrade:0:1"),
        ("accept:0:1", "upgrade"),
        ("accept:0:13", "upgrade:0:0:websocket:/a/path"),
        // The empty line, or half of it, in a packet of its own, as a client that writes line by line sends it.
        ("accept:0:-2", "upgrade:0:-2"),
        ("accept", "upgrade:0:-1"),
        ("accept", "upgrade:0:-3"),
        ("accept:0:-2", "upgrade:1800:-2"),
        // Lines that end with LF alone (RFC 9112 section 2.2).
        ("accept:0:0:WebSocket:0:lf", "upgrade:0:0:websocket:/raw:lf"),
        ("accept:0:1:WebSocket:0:lf", "upgrade:0:1:websocket:/raw:lf"),
        (
            "accept:0:-1:WebSocket:3:lf",
            "upgrade:0:-1:websocket:/raw:lf",
        ),
        // Long heads, whole and in pieces.
        ("accept:16000", "upgrade:16000"),
        ("accept:16000:100", "upgrade:16000:100"),
        ("accept:15000:1", "upgrade"),
        ("accept:900", "upgrade:1800"),
        // Frames in the packet that ends the head.
        ("accept:0:0:websocket:3", "upgrade"),
        ("accept:0:50:websocket:40", "upgrade"),
        ("accept:16000:0:websocket:200", "upgrade"),
        ("accept:0:1:WEBSOCKET:3", "upgrade"),
    ];
    let stage = Stage::loopback("heads");
    let scripts = pairs.map(|(server, client)| {
        let server = format!("{server}; texts:2; await-close; close; end");
        Pair {
            server: server.leak(),
            client: format!("{client}; {CLOSE}").leak(),
        }
    });
    stage.raw(&scripts);
    let observed = stage.observe(pairs.len());
    observed.compare().settle(observed.name);
    let records = &observed.records;
    for role in ["client", "server"] {
        for (pair, (server, client)) in pairs.iter().enumerate() {
            let record = record_of(records, pair, role);
            let told = ["host", "user_agent", "server_software", "outcome"]
                .map(|field| record[field].as_str().unwrap_or("nothing"));
            assert_eq!(
                told,
                ["raw.test", "raw peer/1", "raw/1", "clean"],
                "{role} of {client} and {server}"
            );
        }
        let record = record_of(records, 9, role);
        assert_eq!(
            record["path"], "/raw",
            "without the query, where tokens live"
        );
        assert_eq!(record["subprotocol"], "chat");
    }
    // The two requests and four responses that are longer than what is kept, at both ends; no direction.
    assert_eq!(
        observed.losses,
        [
            r#"closewatch_heads_unparsed_total{head="request",reason="cut"} 4"#,
            r#"closewatch_heads_unparsed_total{head="response",reason="cut"} 8"#,
        ]
    );
}

#[test]
#[ignore = "needs root"]
fn ipv6_and_ipv4_on_an_ipv6_socket() {
    const SERVER: &str = "accept; texts:2; await-close; close; end";
    const CLIENT: &str = "upgrade; texts:3; close; await-close; await-eof; end";
    let stage = Stage::loopback("ipv6_and_ipv4_on_an_ipv6_socket");
    for (port, listen, connect) in [
        ("9000", "::1", "::1"),
        ("9001", "mapped", "127.0.0.1"),
        ("9002", "mapped", "::1"),
    ] {
        let spec = |script| format!("{port}={script}");
        let server = stage.python(Plays::Server, "raw.py", &["server", listen, &spec(SERVER)]);
        stage
            .python(Plays::Client, "raw.py", &["client", connect, &spec(CLIENT)])
            .finish();
        server.finish();
    }
    let records = stage.finish(3);
    assert_eq!(record_of(&records, 0, "server")["local"], "[::1]:9000");
    assert_eq!(record_of(&records, 1, "server")["local"], "127.0.0.1:9001");
}

/// The request is in the packet that makes the server's socket: nginx calls it `deferred`.
#[test]
#[ignore = "needs root"]
fn a_request_before_its_socket() {
    const SERVER: &str = "9000=accept; await-close; close; end";
    const CLIENT: &str = "9000=upgrade; close; await-close; await-eof; end";
    let stage = Stage::loopback("a_request_before_its_socket");
    let server = stage.python(Plays::Server, "raw.py", &["server", "deferred", SERVER]);
    let client = stage.python(Plays::Client, "raw.py", &["client", "127.0.0.1", CLIENT]);
    client.finish();
    server.finish();
    let records = stage.finish(1);
    assert_eq!(record_of(&records, 0, "server")["path"], "/raw");
}
