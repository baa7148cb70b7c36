//! Answers without end: `101` before, after and instead of the one that opens a WebSocket.

use serde_json::Value;

use crate::{
    hostile::{CLIENT, hex, pair, request, send},
    stage::{Pair, Stage, record_of},
};

const LOST: &str = "closewatch_sockets_lost_total";
const STATUS: &str = "HTTP/1.1 101 Switching Protocols\r\n";
const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n";

/// The server answers with `answers`; both close by the book then.
fn answering(answers: &[&str], client: &str) -> Pair {
    pair(
        &format!(
            "await-head; {}; await-close; close; end",
            answers.join("; ")
        ),
        &format!("{client}; {CLIENT}"),
    )
}

#[test]
#[ignore = "needs root"]
fn interim_answers_are_none() {
    let stage = Stage::loopback("interim_answers_are_none");
    let new = send(&request("/new", "new.test"));
    let heads = "await-head; await-head; await-head";
    let answer = send(&format!("{STATUS}{UPGRADE}\r\n"));
    let interim = send("HTTP/1.1 100 Continue\r\n\r\n");
    let hints = send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
    stage.hostile(&[answering(
        &[&interim, &hints, &answer],
        &format!("{new}; {heads}"),
    )]);
    let records = stage.finish(1);
    for role in ["client", "server"] {
        let record = record_of(&records, 0, role);
        assert_eq!(record["host"], "new.test", "{record}");
        assert_eq!(record["outcome"], "clean", "{record}");
    }
}

#[test]
#[ignore = "needs root"]
fn answers_behind_an_answer_are_no_frames() {
    let stage = Stage::loopback("answers_behind_an_answer_are_no_frames");
    let new = send(&request("/new", "new.test"));
    let one = format!("{STATUS}{UPGRADE}\r\n");
    let many = send(&one).repeat(20).replace("pause:0.05", "pause:0.05; ");
    stage.hostile(&[
        // In one segment, and in many.
        pair(
            &format!("await-head; {}; pause:0.1; end", send(&one.repeat(3))),
            &format!("{new}; await-head; await-eof; end"),
        ),
        pair(
            &format!("await-head; {many}pause:0.1; end"),
            &format!("{new}; await-head; await-eof; end"),
        ),
    ]);
    let invalid = ["reason=\"invalid_frame\""];
    let lost = "closewatch_streams_lost_total";
    stage.daemon.await_metric(lost, &invalid, 4.0);
    assert_eq!(stage.daemon.metric(lost, &[]), 4.0, "once in each record");
    let opened = "closewatch_connections_opened_total";
    assert_eq!(stage.daemon.metric(opened, &[]), 4.0);
    let records = stage.finish(2);
    assert!(records.iter().all(|record| record["outcome"] == "abnormal"));
}

#[test]
#[ignore = "needs root"]
fn answers_again_and_again() {
    const TIMES: usize = 300;
    let stage = Stage::loopback("answers_again_and_again");
    let again = "answer; pause:0.002; ".repeat(TIMES);
    stage.hostile(&[
        pair(&format!("{again}end"), "await-eof; end"),
        pair("await-eof; end", &format!("{again}end")),
    ]);
    let asked = ["reason=\"response_unasked\""];
    // Some may share a segment.
    stage.daemon.await_metric(LOST, &asked, TIMES as f64);
    for nothing in [
        "closewatch_connections_opened_total",
        "closewatch_connections",
    ] {
        assert_eq!(stage.daemon.metric(nothing, &[]), 0.0);
    }
    let observed = stage.observe(0);
    assert_eq!(observed.records, Vec::<Value>::new());
}

#[test]
#[ignore = "needs root"]
fn answers_that_never_end() {
    let stage = Stage::loopback("answers_that_never_end");
    let new = send(&request("/new", "new.test"));
    let field = format!("X: {}\r\n", "y".repeat(95));
    let long = send(&(STATUS.to_owned() + &field.repeat(200)));
    let names = send(&(STATUS.to_owned() + &"a:\r\n".repeat(4_500)));
    let begun = send(STATUS);
    let dripped = format!("bytes-cut:{}", hex(&(STATUS.to_owned() + &field.repeat(3))));
    let asking = format!("{new}; await-eof; end");
    stage.hostile(&[
        // Longer than any head may be, in fields and in names alone.
        pair(&format!("await-head; {long}; end"), &asking),
        pair(&format!("await-head; {names}; end"), &asking),
        // Begun and left, and a byte at a time.
        pair(&format!("await-head; {begun}; end"), &asking),
        pair(&format!("await-head; {dripped}; end"), &asking),
        // The same once more on one connection, then a true one.
        pair(
            &format!("await-head; {long}; await-head; accept; await-close; close; end"),
            &format!("{new}; pause:0.3; {new}; pause:0.2; ask; await-head; {CLIENT}"),
        ),
    ]);
    let too_long = ["reason=\"response_too_long\""];
    stage.daemon.await_metric(LOST, &too_long, 6.0);
    assert_eq!(stage.daemon.metric(LOST, &too_long), 6.0);
    let opened = "closewatch_connections_opened_total";
    let (opened, live) = (
        stage.daemon.metric(opened, &[]),
        stage.daemon.metric("closewatch_connections", &[]),
    );
    let records = crate::daemon::read_records(&stage.daemon.records);
    assert_eq!((opened, live), (2.0, 0.0), "{records:#?}");
}
