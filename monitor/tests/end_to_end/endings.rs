//! Ends that come crosswise, by force, or all at once.

use crate::{
    sandbox::Plays,
    stage::{Pair, RAW_PORT, Stage, record_of},
};

fn outcomes(records: &[serde_json::Value], pair: usize) -> [String; 2] {
    ["client", "server"].map(|role| {
        record_of(records, pair, role)["outcome"]
            .as_str()
            .unwrap()
            .to_owned()
    })
}

#[test]
#[ignore = "needs root"]
fn what_both_do_at_once_crosses_on_the_way() {
    let stage = Stage::wire("what_both_do_at_once_crosses_on_the_way");
    stage.raw(&[
        // Close frames.
        Pair {
            server: "accept; pause:0.05; close:1001; await-close; end",
            client: "upgrade; close:4001; await-close; await-eof; end",
        },
        // FINs, after both Close frames.
        Pair {
            server: "accept; await-close; close; pause:0.05; end",
            client: "upgrade; close; await-close; end",
        },
        // FINs of half-closing ends.
        Pair {
            server: "accept; await-close; close; pause:0.05; fin; await-eof; end",
            client: "upgrade; close; await-close; fin; await-eof; end",
        },
        // FINs without Close frames.
        Pair {
            server: "accept; pause:0.05; fin; await-eof; end",
            client: "upgrade; fin; await-eof; end",
        },
        // The client's answer and the server's FIN.
        Pair {
            server: "accept; close; pause:0.07; fin; await-close; await-eof; end",
            client: "upgrade; await-close; close; await-eof; end",
        },
        // Everything in turn, for comparison.
        Pair {
            server: "accept; await-close; close; end",
            client: "upgrade; close; await-close; await-eof; end",
        },
    ]);
    let records = stage.finish(6);
    assert_eq!(record_of(&records, 0, "client")["initiator"], "client");
    assert_eq!(record_of(&records, 0, "server")["initiator"], "server");
    for pair in [1, 2, 3] {
        for role in ["client", "server"] {
            assert_eq!(record_of(&records, pair, role)["time_wait"], "both");
        }
    }
    assert_eq!(outcomes(&records, 1), ["client_early", "clean"]);
    assert_eq!(outcomes(&records, 4), ["clean", "server_early"]);
}

#[test]
#[ignore = "needs root"]
fn resets() {
    let stage = Stage::loopback("resets");
    stage.raw(&[
        Pair {
            server: "accept; await-close; close; reset",
            client: "upgrade; close; await-close; await-eof; end",
        },
        Pair {
            server: "accept; await-close; close; pause:1.2; reset",
            client: "upgrade; close; await-close; await-eof; end",
        },
        Pair {
            server: "accept; await-close; reset",
            client: "upgrade; close; await-eof; end",
        },
        Pair {
            server: "accept; texts:2; reset",
            client: "upgrade; await-eof; end",
        },
        Pair {
            server: "accept; close; pause:0.1; reset",
            client: "upgrade; await-eof; end",
        },
        Pair {
            server: "accept; await-eof; end",
            client: "upgrade; texts:2; pause:0.1; reset",
        },
        Pair {
            server: "accept; await-close; close; await-eof; end",
            client: "upgrade; close; await-close; reset",
        },
        Pair {
            server: "accept; await-close; close; await-eof; end",
            client: "upgrade; close; await-close; pause:1.2; reset",
        },
        // Closing with unread bytes resets, too.
        Pair {
            server: "accept; await-close; texts:50:1000; await-eof; end",
            client: "upgrade; close; pause:0.2; end",
        },
        // A reset after a FIN.
        Pair {
            server: "accept; await-close; close; fin; pause:0.2; reset",
            client: "upgrade; close; await-close; await-eof; pause:0.1; texts:1; pause:0.3; reset",
        },
    ]);
    let records = stage.finish(10);
    let expected = [
        "clean",
        "slow_server",
        "unanswered_by_server",
        "abnormal",
        "server_early",
        "abnormal",
        "client_early",
        "client_gave_up",
        "client_early",
        "clean",
    ];
    for (pair, expected) in expected.into_iter().enumerate() {
        assert_eq!(outcomes(&records, pair), [expected; 2], "pair {pair}");
    }
    assert_eq!(record_of(&records, 0, "client")["time_wait"], "none");
}

#[test]
#[ignore = "needs root"]
fn resets_over_the_wire() {
    let stage = Stage::wire("resets_over_the_wire");
    stage.raw(&[
        Pair {
            server: "accept; await-close; close; reset",
            client: "upgrade; close; await-close; await-eof; end",
        },
        Pair {
            server: "accept; await-close; close; await-eof; end",
            client: "upgrade; close; await-close; reset",
        },
        // Both at once.
        Pair {
            server: "accept; await-close; close; pause:0.05; reset",
            client: "upgrade; close; await-close; reset",
        },
    ]);
    let records = stage.finish(3);
    assert_eq!(outcomes(&records, 2), ["client_early", "clean"]);
}

#[test]
#[ignore = "needs root"]
fn a_killed_process() {
    const OPEN: &str = "upgrade; texts:2; await-frames:2; say:open; await-eof; end";
    const ANSWER: &str = "accept; texts:2; await-frames:2; say:open; await-eof; end";
    let stage = Stage::loopback("a_killed_process");
    for (number, killed) in [Plays::Client, Plays::Server].into_iter().enumerate() {
        let port = usize::from(RAW_PORT) + number;
        let spec = |script| format!("{port}={script}");
        let server = stage.python(
            Plays::Server,
            "raw.py",
            &["server", "127.0.0.1", &spec(ANSWER)],
        );
        let client = stage.python(
            Plays::Client,
            "raw.py",
            &["client", "127.0.0.1", &spec(OPEN)],
        );
        server.await_line("open");
        client.await_line("open");
        let (dead, other) = if killed == Plays::Client {
            (client, server)
        } else {
            (server, client)
        };
        dead.kill();
        other.finish();
    }
    let records = stage.finish(2);
    for pair in [0, 1] {
        assert_eq!(outcomes(&records, pair), ["abnormal"; 2]);
    }
}

#[test]
#[ignore = "needs root"]
fn three_hundred_at_once() {
    let stage = Stage::loopback("three_hundred_at_once");
    let server = stage.python(
        Plays::Server,
        "websockets_peer.py",
        &["server", "asyncio", "127.0.0.1", "9000"],
    );
    let mut arguments = vec!["client", "asyncio", "10", "ws://127.0.0.1:9000"];
    arguments.extend(["client/1000/0"; 300]);
    stage
        .python(Plays::Client, "websockets_peer.py", &arguments)
        .finish();
    stage.daemon.await_metric(
        "closewatch_connections_ended_total",
        &["role=\"server\""],
        300.0,
    );
    server.stop();
    stage.finish(300);
}
