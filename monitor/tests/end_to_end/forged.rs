//! Segments that TCP does not take, sockets that are nobody's connection.
//!
//! The witness does not see what was forged, so each record must be as if it had never been sent.

use serde_json::Value;

use crate::{
    hostile::{CLIENT, SERVER, says_nothing_false},
    sandbox::Plays,
    stage::{Pair, Stage, record_of},
};

/// Close frames with code 4999, from a client and from a server.
const CLIENT_CLOSE: &str = "8882000000001387";
const SERVER_CLOSE: &str = "88021387";

/// One end forges, then both close by the book.
pub(crate) fn forging(client: &str, server: &str) -> Pair {
    Pair {
        server: format!("accept; {server}; await-close; close; end").leak(),
        client: format!("upgrade; pause:0.1; {client}; pause:0.1; {CLIENT}").leak(),
    }
}

#[test]
#[ignore = "needs root"]
fn segments_that_tcp_does_not_take() {
    const NOTHING: &str = "pause:0";
    let stage = Stage::loopback("segments_that_tcp_does_not_take");
    let forged = [
        // FINs: acknowledging what was never sent, without ACK, in a SYN, old.
        "forge:FA:1073741824:12345",
        "forge:FA:0:1000000",
        "forge:F",
        "forge:SF:-1",
        "forge:FA:-5",
        // RSTs: out of the window, in it and not next, old.
        "forge:R:100000",
        "forge:R:10",
        "forge:R:-1",
        "forge:RA:10:1000000",
        // The probe of a keep-alive, with a byte that begins a Close frame.
        "forge:A:-1:0:88",
    ];
    let closes = |close: &str| {
        [
            format!("forge:AP:0:1000000:{close}"),
            format!("forge:P:0:0:{close}"),
            format!("forge:S:-1:0:{close}"),
            format!("forge:SA:-1:0:{close}"),
        ]
    };
    let mut pairs = vec![];
    for step in forged {
        pairs.push(forging(step, NOTHING));
        pairs.push(forging(NOTHING, step));
    }
    for (client, server) in closes(CLIENT_CLOSE).iter().zip(closes(SERVER_CLOSE).iter()) {
        pairs.push(forging(client, NOTHING));
        pairs.push(forging(NOTHING, server));
    }
    stage.hostile(&pairs);
    let records = stage.finish(pairs.len());
    assert!(records.iter().all(|record| record["outcome"] == "clean"));
}

/// What was kept of it may cost the direction, never the truth.
#[test]
#[ignore = "needs root"]
fn data_far_ahead() {
    let stage = Stage::loopback("data_far_ahead");
    const AHEAD: &str = "forge:A:1000000:0:78787878787878787878";
    let pairs = [
        forging(&format!("{AHEAD}; forge:R:1000010"), "pause:0"),
        forging("pause:0", &format!("{AHEAD}; forge:R:1000010")),
        Pair {
            server: "accept; await-close; close; await-eof; pause:1.2; end",
            client: format!(
                "upgrade; pause:0.1; {AHEAD}; pause:0.1; close; await-close; fin; await-eof; end"
            )
            .leak(),
        },
        Pair {
            server: format!("accept; pause:0.1; {AHEAD}; await-close; close; pause:0.1; end")
                .leak(),
            client: CLIENT_LATER,
        },
    ];
    stage.hostile(&pairs);
    let ended = f64::from(2 * pairs.len() as u32);
    stage
        .daemon
        .await_metric("closewatch_connections_ended_total", &[], ended);
    let lost = stage.daemon.metric("closewatch_streams_lost_total", &[]);
    let observed = stage.observe(pairs.len());
    let unknown = |record: &&Value| record["outcome"].is_null();
    let unknown = observed.records.iter().filter(unknown).count();
    eprintln!("data_far_ahead: {unknown} outcomes unknown, {lost} directions lost");
    assert_eq!(lost, unknown as f64, "what is not known is counted");
    assert_eq!(observed.records.len(), 2 * pairs.len());
    for (pair, outcome) in ["clean", "clean", "client_early", "clean"]
        .into_iter()
        .enumerate()
    {
        for role in ["client", "server"] {
            let record = record_of(&observed.records, pair, role);
            says_nothing_false(record, outcome, "client");
            assert!(record["client_rst"].is_null(), "{record}");
            assert!(record["server_rst"].is_null(), "{record}");
            let first = if pair == 2 { "client" } else { "server" };
            assert_eq!(record["time_wait"], first, "{record}");
        }
    }
}

const CLIENT_LATER: &str = "upgrade; pause:0.3; close; await-close; await-eof; end";

#[test]
#[ignore = "needs root"]
fn answers_to_a_listening_port() {
    let stage = Stage::loopback("answers_to_a_listening_port");
    let start = |role, plays, address, specs: &[&str]| {
        stage.python(plays, "hostile.py", &[&[role, address], specs].concat())
    };
    let server = start(
        "server",
        Plays::Server,
        "deferred",
        &[
            &format!("9000={SERVER}"),
            "9001=await-eof; end",
            &format!("9002={SERVER}"),
        ],
    );
    // Strangers' segments, and an answer as the first that a socket's maker sends.
    let strays = format!("9000=stray:AP; stray:S; stray:AP; upgrade; {CLIENT}");
    start("client", Plays::Client, "127.0.0.1", &[&strays]).finish();
    let client = start(
        "client",
        Plays::Client,
        "127.0.0.1",
        &["9001=answer; pause:0.3; end"],
    );
    client.finish();
    let opened = "closewatch_connections_opened_total";
    assert_eq!(stage.daemon.metric(opened, &[]), 2.0);
    let honest = format!("9002=upgrade; {CLIENT}");
    start("client", Plays::Client, "127.0.0.1", &[&honest]).finish();
    server.finish();
    stage.daemon.await_metric(opened, &[], 4.0);
    assert_eq!(stage.daemon.metric("closewatch_connections", &[]), 0.0);
    let observed = stage.observe(2);
    observed.compare().settle(observed.name);
    for pair in [0, 2] {
        let record = record_of(&observed.records, pair, "server");
        assert_eq!(record["host"], "raw.test");
        assert_eq!(record["server_software"], "raw/1");
    }
}

#[test]
#[ignore = "needs root"]
fn a_sniffing_socket() {
    let stage = Stage::loopback("a_sniffing_socket");
    let host = ["server", "127.0.0.1", "9900=await-eof; end"];
    let host = stage.python(Plays::Server, "hostile.py", &host);
    let script = "9900=sniff; say:sniffing; await-word:enough; stray:AP; end";
    let sniffer = ["client", "127.0.0.1", script];
    let mut sniffer = stage.python(Plays::Client, "hostile.py", &sniffer);
    sniffer.await_line("sniffing");
    let pairs: Vec<Pair> = (0..10)
        .map(|_| Pair {
            server: "accept; texts:2; await-close; close; end",
            client: "upgrade; texts:3; close; await-close; await-eof; end",
        })
        .collect();
    stage.raw(&pairs);
    let ended = "closewatch_connections_ended_total";
    stage.daemon.await_metric(ended, &[], 20.0);
    assert_eq!(stage.daemon.metric("closewatch_connections", &[]), 0.0);
    sniffer.tell("enough");
    sniffer.finish();
    host.finish();
    let opened = "closewatch_connections_opened_total";
    assert_eq!(stage.daemon.metric(opened, &[]), 20.0);
    stage.finish(pairs.len());
}
