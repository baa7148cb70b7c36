//! Every row of the table of outcomes, by ends that do exactly what the row says.

use crate::stage::{Pair, Stage, record_of};

struct Row {
    server: &'static str,
    client: &'static str,
    /// What the client's and the server's record say.
    outcome: [&'static str; 2],
    slow: bool,
}

fn check(name: &'static str, rows: &[Row]) {
    let stage = Stage::loopback(name);
    let pairs: Vec<Pair> = rows
        .iter()
        .map(|row| Pair {
            server: row.server,
            client: row.client,
        })
        .collect();
    stage.raw(&pairs);
    let records = stage.finish(rows.len());
    for (pair, row) in rows.iter().enumerate() {
        for (role, outcome) in ["client", "server"].into_iter().zip(row.outcome) {
            let record = record_of(&records, pair, role);
            assert_eq!(record["outcome"], outcome, "pair {pair}: {record}");
            assert_eq!(record["slow"], row.slow, "pair {pair}: {record}");
        }
    }
}

#[test]
#[ignore = "needs root"]
fn both_sent_close_frames() {
    const CLIENT: &str = "upgrade; texts:3; close; await-close; await-eof; end";
    check(
        "both_sent_close_frames",
        &[
            Row {
                server: "accept; await-close; close; end",
                client: CLIENT,
                outcome: ["clean", "clean"],
                slow: false,
            },
            Row {
                server: "accept; await-close; close; pause:0.5; end",
                client: CLIENT,
                outcome: ["clean", "clean"],
                slow: false,
            },
            Row {
                server: "accept; await-close; close-fin; await-eof; end",
                client: CLIENT,
                outcome: ["clean", "clean"],
                slow: false,
            },
            Row {
                server: "accept; await-close; close; pause:1.5; end",
                client: CLIENT,
                outcome: ["slow_server", "slow_server"],
                slow: true,
            },
            Row {
                server: "accept; await-close; close; pause:1.2; fin; await-eof; end",
                client: CLIENT,
                outcome: ["slow_server", "slow_server"],
                slow: true,
            },
            Row {
                server: "accept; await-close; close; await-eof; end",
                client: "upgrade; close; await-close; pause:1.3; end",
                outcome: ["client_gave_up", "client_gave_up"],
                slow: true,
            },
            // The server stays in CLOSE_WAIT, long after the client's socket is gone.
            Row {
                server: "accept; await-close; close; await-eof; pause:1; end",
                client: "upgrade; close; await-close; pause:1.3; end",
                outcome: ["client_gave_up", "client_gave_up"],
                slow: true,
            },
            // A half-closed client sees the late FIN.
            Row {
                server: "accept; await-close; close; await-eof; pause:0.4; end",
                client: "upgrade; close; await-close; pause:1.1; fin; await-eof; end",
                outcome: ["client_gave_up", "client_gave_up"],
                slow: true,
            },
            Row {
                server: "accept; await-close; close; await-eof; end",
                client: "upgrade; close; await-close; end",
                outcome: ["client_early", "client_early"],
                slow: false,
            },
            Row {
                server: "accept; close:1001; await-close; end",
                client: "upgrade; await-close; close:1001; await-eof; end",
                outcome: ["clean", "clean"],
                slow: false,
            },
            Row {
                server: "accept; close:1001; await-close; pause:1.3; end",
                client: "upgrade; await-close; close:1001; await-eof; end",
                outcome: ["slow_server", "slow_server"],
                slow: true,
            },
        ],
    );
}

#[test]
#[ignore = "needs root"]
fn one_sent_a_close_frame() {
    check(
        "one_sent_a_close_frame",
        &[
            Row {
                server: "accept; await-eof; end",
                client: "upgrade; close; pause:1.3; end",
                outcome: ["unanswered_by_server", "unanswered_by_server"],
                slow: true,
            },
            Row {
                server: "accept; await-eof; end",
                client: "upgrade; close; pause:0.3; end",
                outcome: ["client_early", "client_early"],
                slow: false,
            },
            // The answer comes to a client that has gone.
            Row {
                server: "accept; await-close; await-eof; pause:0.2; close; end",
                client: "upgrade; close; end",
                outcome: ["client_early", "client_early"],
                slow: false,
            },
            Row {
                server: "accept; await-close; end",
                client: "upgrade; close; await-eof; end",
                outcome: ["unanswered_by_server", "unanswered_by_server"],
                slow: false,
            },
            Row {
                server: "accept; await-close; pause:1.3; end",
                client: "upgrade; close; await-eof; end",
                outcome: ["unanswered_by_server", "unanswered_by_server"],
                slow: true,
            },
            Row {
                server: "accept; close; pause:1.3; end",
                client: "upgrade; await-eof; end",
                outcome: ["unanswered_by_client", "unanswered_by_client"],
                slow: false,
            },
            Row {
                server: "accept; close; await-eof; end",
                client: "upgrade; await-close; end",
                outcome: ["unanswered_by_client", "unanswered_by_client"],
                slow: false,
            },
            Row {
                server: "accept; close; end",
                client: "upgrade; await-eof; end",
                outcome: ["server_early", "server_early"],
                slow: false,
            },
            Row {
                server: "accept; close-fin; await-eof; end",
                client: "upgrade; await-eof; end",
                outcome: ["server_early", "server_early"],
                slow: false,
            },
            // The client's answer comes after the server's FIN, once to a half-closed socket and
            // once to one that has gone.
            Row {
                server: "accept; close; fin; await-close; await-eof; end",
                client: "upgrade; await-close; await-eof; close; end",
                outcome: ["server_early", "server_early"],
                slow: false,
            },
            Row {
                server: "accept; close; end",
                client: "upgrade; await-close; await-eof; pause:0.2; close; await-eof; end",
                outcome: ["server_early", "server_early"],
                slow: false,
            },
        ],
    );
}

#[test]
#[ignore = "needs root"]
fn no_close_frame() {
    check(
        "no_close_frame",
        &[
            Row {
                server: "accept; texts:2; end",
                client: "upgrade; await-eof; end",
                outcome: ["abnormal", "abnormal"],
                slow: false,
            },
            Row {
                server: "accept; await-eof; end",
                client: "upgrade; texts:2; end",
                outcome: ["abnormal", "abnormal"],
                slow: false,
            },
            // Close frames that come after the first end do not change it.
            Row {
                server: "accept; fin; await-close; end",
                client: "upgrade; await-eof; close; end",
                outcome: ["abnormal", "abnormal"],
                slow: false,
            },
            Row {
                server: "accept; await-eof; close; pause:0.2; end",
                client: "upgrade; fin; await-close; await-eof; end",
                outcome: ["abnormal", "abnormal"],
                slow: false,
            },
        ],
    );
}
