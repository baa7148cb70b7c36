//! Ends that do what no library does, and more of them than any library would.

use std::{thread, time::Duration};

use serde_json::Value;

use crate::{
    sandbox::Plays,
    stage::{Pair, Stage, record_of},
};

/// What both ends do by the book; the client's begins with `upgrade`.
pub(crate) const SERVER: &str = "accept; await-close; close; end";
pub(crate) const CLIENT: &str = "close; await-close; await-eof; end";

const UNASKED: [&str; 2] = [
    "closewatch_sockets_lost_total",
    "reason=\"response_unasked\"",
];

/// A record in which something could not be seen: null where that is so, and else the truth.
pub(crate) fn says_nothing_false(record: &Value, outcome: &str, initiator: &str) {
    for (field, truth) in [("outcome", outcome), ("initiator", initiator)] {
        let found = &record[field];
        assert!(found.is_null() || found == truth, "{field}: {record}");
    }
    for close in ["client_close", "server_close"] {
        let found = &record[close];
        assert!(
            found.is_null() || found["code"] == 1000,
            "{close}: {record}"
        );
    }
    let outcome_unknown = record["outcome"].is_null();
    assert_eq!(record["slow"].is_null(), outcome_unknown, "{record}");
}

pub(crate) fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// The step that sends a request to upgrade.
pub(crate) fn ask(target: &str, host: &str) -> String {
    format!("bytes:{}", hex(&request(target, host)))
}

pub(crate) fn request(target: &str, host: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
}

pub(crate) fn pair(server: &str, client: &str) -> Pair {
    Pair {
        server: server.to_owned().leak(),
        client: client.to_owned().leak(),
    }
}

#[test]
#[ignore = "needs root"]
fn answers_that_nobody_asked_for() {
    let stage = Stage::loopback("answers_that_nobody_asked_for");
    stage.hostile(&[
        pair("await-eof; end", "answer; close:4242; pause:0.1; end"),
        pair("answer; close:4242; pause:0.1; end", "await-eof; end"),
        // The server's own request is answered by its client.
        pair(
            &format!("{}; await-eof; end", ask("/", "evil")),
            "await-head; pause:0.1; end",
        ),
        pair("serve-answer; await-eof; end", "get:/rfc6455.txt; end"),
    ]);
    stage.daemon.await_metric(UNASKED[0], &UNASKED[1..], 4.0);
    let opened = "closewatch_connections_opened_total";
    assert_eq!(stage.daemon.metric(opened, &[]), 0.0);
    assert_eq!(stage.daemon.metric("closewatch_connections", &[]), 0.0);
    let observed = stage.observe(0);
    assert_eq!(observed.records, Vec::<Value>::new());
}

#[test]
#[ignore = "needs root"]
fn a_crowd_while_one_waits() {
    let stage = Stage::loopback("a_crowd_while_one_waits");
    stage.hostile(&[pair(
        &format!("await-more; crowd:6000; {SERVER}"),
        &format!("upgrade; {CLIENT}"),
    )]);
    let records = stage.finish(1);
    for role in ["client", "server"] {
        assert_eq!(record_of(&records, 0, role)["host"], "raw.test");
    }
}

#[test]
#[ignore = "needs root"]
fn a_socket_used_again() {
    let stage = Stage::loopback("a_socket_used_again");
    let spec = |port: u16, script: &str| format!("{port}={script}");
    let begun = hex("GET /old HTTP/1.1\r\nHost: old.test\r\n");
    let servers = [
        spec(9000, SERVER),
        // Taken apart by the client while it is open.
        spec(9001, "accept; await-eof; end"),
        spec(9002, SERVER),
        // A request that is never whole.
        spec(9003, "await-more; await-eof; end"),
        spec(9004, SERVER),
    ];
    let mut arguments = vec!["server", "127.0.0.1"];
    arguments.extend(servers.iter().map(String::as_str));
    let server = stage.python(Plays::Server, "hostile.py", &arguments);
    let new = ask("/new", "new.test");
    let closing = "close; await-close; await-eof";
    let clients = [
        spec(
            9000,
            &format!(
                "upgrade; {closing}; reuse:9001; upgrade; reuse:9002; \
                 upgrade; pause:0.1; {CLIENT}"
            ),
        ),
        spec(
            9003,
            &format!("bytes:{begun}; pause:0.1; reuse:9004; {new}; await-head; {CLIENT}"),
        ),
    ];
    let arguments = ["client", "127.0.0.1", &clients[0], &clients[1]];
    let client = stage.python(Plays::Client, "hostile.py", &arguments);
    client.finish();
    server.finish();
    let records = stage.finish(4);
    for (pair, outcome) in [(0, "clean"), (1, "abnormal"), (2, "clean"), (4, "clean")] {
        for role in ["client", "server"] {
            let record = record_of(&records, pair, role);
            assert_eq!(record["outcome"], outcome, "{record}");
        }
    }
    assert_eq!(record_of(&records, 4, "client")["path"], "/new");
}

#[test]
#[ignore = "needs root"]
fn closed_before_the_answer() {
    let stage = Stage::loopback("closed_before_the_answer");
    stage.hostile(&[
        pair(
            "pause:0.1; accept; close; await-eof; pause:0.1; end",
            "ask; fin; await-head; await-close; await-eof; end",
        ),
        // Answer and FIN in one packet: the server's own socket has closed when it leaves.
        pair(
            "await-head; answer-fin; await-eof; end",
            "ask; await-head; pause:0.1; end",
        ),
    ]);
    let before = ["reason=\"closed_before\""];
    stage
        .daemon
        .await_metric("closewatch_sockets_lost_total", &before, 3.0);
    let observed = stage.observe(2);
    let [record] = &observed.records[..] else {
        panic!("{:#?}", observed.records)
    };
    assert_eq!(record["server"], "127.0.0.1:9001");
    assert_eq!(record["role"], "client");
    assert_eq!(record["outcome"], "abnormal");
    assert_eq!(record["time_wait"], "server");
}

#[test]
#[ignore = "needs root"]
fn frames_before_the_answer() {
    let stage = Stage::loopback("frames_before_the_answer");
    let asked = request("/early", "raw.test");
    let (begun, rest) = asked.split_at(asked.len() - 2);
    // A text and a Close frame with code 1000, masked with zeros.
    let frames = "81810000000061888200000000".to_owned() + "03e8";
    let whole = hex(&asked) + &frames;
    let (begun, rest) = (hex(begun), hex(rest));
    stage.hostile(&[
        pair(
            SERVER,
            &format!("bytes:{whole}; await-head; await-close; await-eof; end"),
        ),
        pair(
            &format!("pause:0.2; {SERVER}"),
            &format!(
                "bytes:{}; pause:0.02; bytes:{frames}; await-head; await-close; await-eof; end",
                hex(&asked)
            ),
        ),
        // The answer comes before the request is whole.
        pair(
            &format!(
                "await-more; answer; await-head; {}",
                &SERVER["accept; ".len()..]
            ),
            &format!("bytes:{begun}; await-head; bytes:{rest}; pause:0.02; {CLIENT}"),
        ),
        pair(SERVER, &format!("upgrade; {CLIENT}")),
    ]);
    stage
        .daemon
        .await_metric("closewatch_connections_ended_total", &[], 8.0);
    let gap = ["reason=\"gap\""];
    let lost = stage.daemon.metric("closewatch_streams_lost_total", &gap);
    let records = stage.observe(4).records;
    assert_eq!(records.len(), 8);
    for role in ["client", "server"] {
        let frames = match role {
            "client" => "frames_sent",
            _ => "frames_received",
        };
        for pair in [0, 1, 2] {
            let record = record_of(&records, pair, role);
            says_nothing_false(record, "clean", "client");
            assert!(record[frames].is_null(), "{record}");
            assert_eq!(record["server_close"]["code"], 1000, "{record}");
        }
        for pair in [0, 1] {
            let record = record_of(&records, pair, role);
            assert!(record["outcome"].is_null(), "{record}");
            assert!(record["client_close"].is_null(), "{record}");
        }
        // Its Close frame comes after the answer, and is found.
        let found = record_of(&records, 2, role);
        assert_eq!(found["client_close"]["code"], 1000, "{found}");
        assert_eq!(found["outcome"], "clean", "{found}");
        assert_eq!(record_of(&records, 3, role)["outcome"], "clean");
    }
    assert_eq!(lost, 6.0, "each end's view of the three");
}

/// The reset comes after a FIN, when the socket has reached TCP_CLOSE.
#[test]
#[ignore = "needs root"]
fn an_abort_after_a_fin() {
    let stage = Stage::loopback("an_abort_after_a_fin");
    stage.raw(&[
        // Bytes that nobody reads.
        pair(
            "accept; await-close; close; pause:0.1; texts:1; pause:0.4; end",
            "upgrade; close; await-close; fin; pause:0.3; end",
        ),
        pair(
            "accept; await-close; close; fin; pause:0.3; end",
            "upgrade; close; await-close; pause:0.1; texts:1; pause:0.4; end",
        ),
        // An end that does not linger.
        pair(
            "accept; await-eof; pause:0.3; end",
            "upgrade; fin; pause:0.1; reset",
        ),
        pair(
            "accept; fin; pause:0.1; reset",
            "upgrade; await-eof; pause:0.3; end",
        ),
    ]);
    let ended = "closewatch_connections_ended_total";
    stage.daemon.await_metric(ended, &[], 8.0);
    let entered = "closewatch_time_wait_entered_total";
    let entered = stage.daemon.metric(entered, &[]);
    assert_eq!(entered, 0.0, "an RST leaves nothing to hold");
    let records = stage.finish(4);
    for (pair, local) in ["client", "server", "client", "server"].iter().enumerate() {
        let record = record_of(&records, pair, local);
        let (fin, rst) = (
            &record[format!("{local}_fin")],
            &record[format!("{local}_rst")],
        );
        assert!(fin.is_string() && rst.is_string(), "pair {pair}: {record}");
        assert_eq!(record["time_wait"], *local, "pair {pair}: {record}");
    }
}

pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
pub(crate) const POST: &str = "POST /post HTTP/1.1\r\nHost: post.test\r\nContent-Length: 3\r\n\r\n";

pub(crate) fn get(name: &str) -> String {
    format!("GET /{name} HTTP/1.1\r\nHost: {name}.test\r\n\r\n")
}

/// The step that sends the text, in a segment of its own.
pub(crate) fn send(text: &str) -> String {
    format!("bytes:{}; pause:0.05", hex(text))
}

/// What both ends do on a connection until the request for `/new` is answered.
pub(crate) fn until_answered(server: &[&str], client: &[&str]) -> Pair {
    let server = server.join("; ");
    let client = client.join("; ");
    pair(
        &format!("{server}; await-head; answer; await-close; close; end"),
        &format!("{client}; await-head; {CLIENT}"),
    )
}

/// A record may lack the host, and a `101` may be counted instead of followed; never is another
/// request's host told.
pub(crate) fn tells_no_other_request(name: &'static str, pairs: &[Pair]) {
    let stage = Stage::loopback(name);
    stage.hostile(pairs);
    thread::sleep(Duration::from_millis(200));
    let unasked = stage.daemon.metric(UNASKED[0], &UNASKED[1..]);
    let observed = stage.observe(pairs.len());
    let (followed, all) = (observed.records.len(), 2 * pairs.len());
    eprintln!("{name}: {followed} of {all} followed, {unasked} counted");
    for record in &observed.records {
        for (field, truth) in [("host", "new.test"), ("path", "/new")] {
            let found = &record[field];
            assert!(found.is_null() || found == truth, "{field}: {record}");
        }
        says_nothing_false(record, "clean", "client");
    }
    // What is counted may be followed all the same, once its frames show what it is.
    let adopted = |record: &&Value| record["adopted"] == true;
    let adopted = observed.records.iter().filter(adopted).count();
    assert_eq!((followed - adopted) as f64 + unasked, all as f64);
}

#[test]
#[ignore = "needs root"]
fn requests_on_one_connection() {
    let new = request("/new", "new.test");
    let (one, two) = (send(&get("one")), send(&get("two")));
    let both = send(&(get("one") + &new));
    let (behind_line, behind_body) = (send(&format!("\r\n{new}")), send(&format!("abc{new}")));
    let (new, ok, post) = (send(&new), send(OK), send(POST));
    const HEAD: &str = "await-head";
    tells_no_other_request(
        "requests_on_one_connection",
        &[
            // Each answered before the next.
            until_answered(&[HEAD, &ok, HEAD, &ok], &[&one, HEAD, &two, HEAD, &new]),
            // Two in one segment.
            until_answered(&[HEAD, &ok], &[&both, HEAD]),
            // In a segment each, before the first is answered.
            until_answered(&["await-more", "pause:0.2", HEAD, &ok], &[&one, &new, HEAD]),
            until_answered(
                &["await-more", "pause:0.3", HEAD, &ok, HEAD, &ok],
                &[&one, &two, &new, HEAD, HEAD],
            ),
            // Behind an empty line, and behind the rest of a body.
            until_answered(&[HEAD, &ok], &[&one, HEAD, &behind_line]),
            until_answered(
                &[HEAD, &ok, HEAD, "await-bytes:3", &ok],
                &[&one, HEAD, &post, &behind_body, HEAD],
            ),
        ],
    );
}

#[test]
#[ignore = "needs root"]
fn targets_with_an_authority() {
    let targets = [
        ("ws://user:secret@raw.test/p?token=1", "/p"),
        ("http://user:secret@raw.test/", "/"),
        ("ws://user:secret@raw.test", "/"),
        ("/redirect?to=http://user:secret@raw.test/p", "/redirect"),
    ];
    let stage = Stage::loopback("targets_with_an_authority");
    let pairs = targets.map(|(target, _)| {
        let asking = ask(target, "raw.test");
        pair(SERVER, &format!("{asking}; await-head; {CLIENT}"))
    });
    stage.hostile(&pairs);
    let records = stage.finish(pairs.len());
    for role in ["client", "server"] {
        for (pair, (_, path)) in targets.into_iter().enumerate() {
            assert_eq!(record_of(&records, pair, role)["path"], path);
        }
    }
}
