//! Segments that say different things of the same bytes, and segments that TCP has no use for: what the
//! receiving TCP took is true, and what cannot be known of that is null and counted.

use serde_json::Value;

use crate::{
    forged::forging,
    hostile::{CLIENT, pair},
    stage::{Pair, Stage, record_of},
};

/// Masked with zeros: a text of 6 bytes, and a Close frame with code 4999 and as long.
const TEXT: &str = "8186000000006162636465 66";
const CLOSE: &str = "8886000000001387 61626364";
/// The text that fills the hole in front of them.
const FILLER: &str = "8184000000006162 6364";

fn bytes(hex: &str) -> String {
    hex.replace(' ', "")
}

/// Of the client: two copies behind a hole of ten bytes, then what fills it, and then, for its own TCP, what
/// it would have sent itself in their place.
fn two_copies(first: &str, second: &str) -> Pair {
    let forge = |payload: &str| format!("forge:A:10:0:{}", bytes(payload));
    let client = format!(
        "{}; {}; bytes:{}; pause:0.1; bytes:{}",
        forge(first),
        forge(second),
        bytes(FILLER),
        bytes(TEXT)
    );
    forging(&client, "pause:0")
}

/// Without a witness: the captured packets do not say which copy counts.
fn records_of(name: &'static str, pairs: &[Pair]) -> (Vec<Value>, f64) {
    let stage = Stage::loopback(name);
    stage.hostile(pairs);
    let ended = "closewatch_connections_ended_total";
    stage
        .daemon
        .await_metric(ended, &[], 2.0 * pairs.len() as f64);
    let lost = stage.daemon.metric("closewatch_streams_lost_total", &[]);
    let observed = stage.observe(pairs.len());
    (observed.records, lost)
}

#[test]
#[ignore = "needs root"]
fn copies_behind_a_hole_that_differ() {
    let pairs = [
        two_copies(TEXT, CLOSE),
        two_copies(TEXT, TEXT),
        // The second covers the first, and is what TCP takes.
        pair(
            "accept; await-close; close; end",
            &format!(
                "upgrade; pause:0.1; forge:A:10:0:{}; forge:A:8:0:6364{}; bytes:{}; pause:0.1; \
                 bytes:{}; await-close; await-eof; end",
                bytes(TEXT),
                bytes(CLOSE),
                bytes(FILLER),
                bytes(TEXT)
            ),
        ),
    ];
    let (records, lost) = records_of("copies_behind_a_hole_that_differ", &pairs);
    eprintln!("{lost} directions lost");
    for pair in 0..pairs.len() {
        let record = record_of(&records, pair, "server");
        let (code, taken) = (&record["client_close"]["code"], [1000, 1000, 4999][pair]);
        assert!(code.is_null() || *code == taken, "pair {pair}: {record}");
        let outcome = &record["outcome"];
        assert!(
            outcome.is_null() || outcome == "clean",
            "pair {pair}: {record}"
        );
    }
    assert_eq!(record_of(&records, 1, "server")["outcome"], "clean");
    assert_eq!(
        record_of(&records, 1, "server")["client_close"]["code"],
        1000
    );
}

/// It acknowledges what lies before all that the server has sent: TCP drops it (RFC 5961 section 5.2).
#[test]
#[ignore = "needs root"]
fn acknowledges_what_is_too_old() {
    let close = "8882000000001387";
    let pairs = [
        forging(&format!("forge:AP:0:-1000000:{close}"), "pause:0"),
        forging("pause:0", "forge:AP:0:-1000000:88021387"),
        forging("forge:FA:0:-1000000", "pause:0"),
    ];
    let stage = Stage::loopback("acknowledges_what_is_too_old");
    stage.hostile(&pairs);
    let records = stage.finish(pairs.len());
    assert!(records.iter().all(|record| record["outcome"] == "clean"));
}

/// A Close frame that looks right in every way and that TCP drops all the same: an older timestamp than
/// the last (PAWS, RFC 7323 section 5). Then the client goes, without one.
#[test]
#[ignore = "needs root"]
fn a_close_frame_that_tcp_drops() {
    let forged = "forge-old:AP:8882000000001387";
    let pairs = [
        // It never comes, and the client leaves after a second: no server is to blame.
        pair(
            "accept; texts:2; await-eof; pause:0.1; end",
            &format!(
                "upgrade; await-frames:2; texts:1; pause:0.1; {forged}; pause:1.3; fin; await-eof; end"
            ),
        ),
        // A true one comes later, with another code.
        pair(
            "accept; texts:2; await-close; close; end",
            &format!("upgrade; await-frames:2; texts:1; pause:0.1; {forged}; pause:0.3; {CLIENT}"),
        ),
        // It is an answer that never was.
        pair(
            "accept; texts:2; close; await-eof; pause:0.1; end",
            &format!(
                "upgrade; await-frames:2; texts:1; await-close; {forged}; pause:1.3; fin; await-eof; end"
            ),
        ),
    ];
    let (records, _) = records_of("a_close_frame_that_tcp_drops", &pairs);
    for pair in 0..pairs.len() {
        let record = record_of(&records, pair, "server");
        assert_ne!(
            record["client_close"]["code"], 4999,
            "pair {pair}: {record}"
        );
        assert_ne!(record["slow"], true, "pair {pair}: {record}");
    }
    let found = record_of(&records, 1, "server");
    assert_eq!(found["client_close"]["code"], 1000, "{found}");
    assert_eq!(found["outcome"], "clean", "{found}");
}

/// The same with a FIN. What follows it shows that it was none.
#[test]
#[ignore = "needs root"]
fn a_fin_that_tcp_drops() {
    const FORGED: &str = "forge-old:FA:; pause:0.1";
    let pairs = [
        forging(FORGED, "pause:0"),
        forging("pause:0", FORGED),
        forging(
            &format!("{FORGED}; texts:2"),
            &format!("pause:0.1; {FORGED}; texts:2"),
        ),
    ];
    let (records, _) = records_of("a_fin_that_tcp_drops", &pairs);
    assert!(records.iter().all(|record| record["outcome"] == "clean"));
}
