//! Sockets used as no library uses them: lengths that lie, resets within a Close frame, files and pinned pages as
//! payload, descriptors that are handed on.

use crate::{
    hostile::{CLIENT, SERVER, pair, says_nothing_false},
    stage::{Stage, record_of},
};

/// A server that only waits for the end.
const WAITS: &str = "accept; await-eof; end";

#[test]
#[ignore = "needs root"]
fn lengths_that_lie() {
    let lengths = [
        "7fffffffffffffff",
        "ffffffffffffffff",
        "8000000000000000",
        "0000000100000000",
        "0000000080000000",
    ];
    let stage = Stage::loopback("lengths_that_lie");
    // The Close frame is payload of the frame before; one of 2⁶³ bytes or more breaks RFC 6455 section 5.2.
    let pairs = lengths.map(|length| {
        let header = format!("82ff{length}00000000");
        pair(
            WAITS,
            &format!("upgrade; texts; bytes:{header}; close; pause:0.05; end"),
        )
    });
    stage.hostile(&pairs);
    let records = stage.finish(pairs.len());
    for record in &records {
        assert_eq!(record["outcome"], "abnormal", "{record}");
    }
}

#[test]
#[ignore = "needs root"]
fn resets_within_a_close_frame() {
    let parts = ["88", "8882", "88820000", "888200000000", "88820000000003"];
    let stage = Stage::loopback("resets_within_a_close_frame");
    let pairs = parts.map(|part| {
        pair(
            WAITS,
            &format!("upgrade; texts; bytes:{part}; pause:0.05; reset"),
        )
    });
    stage.hostile(&pairs);
    let records = stage.finish(pairs.len());
    for record in &records {
        assert_eq!(record["outcome"], "abnormal", "{record}");
        assert_eq!(record["time_wait"], "none", "{record}");
    }
}

#[test]
#[ignore = "needs root"]
fn every_way_to_send() {
    let stage = Stage::loopback("every_way_to_send");
    let ways = [
        "sendfile:300000",
        "zerocopy:300000",
        "splice:60000",
        "hand-on; texts",
        // A continuation of nothing is a frame like any other.
        "part:0; part:0:end:1",
    ];
    let pairs = ways.map(|way| pair(SERVER, &format!("upgrade; {way}; {CLIENT}")));
    stage.hostile(&pairs);
    let records = stage.finish(pairs.len());
    for role in ["client", "server"] {
        for number in 0..pairs.len() {
            let record = record_of(&records, number, role);
            assert_eq!(record["outcome"], "clean", "{record}");
        }
    }
}

#[test]
#[ignore = "needs root"]
fn urgent_data() {
    let stage = Stage::loopback("urgent_data");
    let pairs = ["78", "81", "88"].map(|byte| {
        pair(
            "accept; await-close; close; end",
            &format!("upgrade; texts; urgent:{byte}; pause:0.05; texts; {CLIENT}"),
        )
    });
    stage.hostile(&pairs);
    let observed = stage.observe(pairs.len());
    assert_eq!(observed.records.len(), 2 * pairs.len());
    for record in &observed.records {
        says_nothing_false(record, "clean", "client");
        let frames = match record["role"].as_str() {
            Some("client") => "frames_sent",
            _ => "frames_received",
        };
        assert!(record[frames].is_null(), "{record}");
    }
}

/// Where no header is read, the frames behind it are not those that the receiver finds.
#[test]
#[ignore = "needs root"]
fn urgent_data_within_a_frame() {
    let stage = Stage::loopback("urgent_data_within_a_frame");
    let client = "upgrade; texts; bytes:8285000000006161; urgent:62; pause:0.05; bytes:6161; texts; \
                  close; pause:0.05; end";
    stage.hostile(&[pair(WAITS, client)]);
    let observed = stage.observe(1);
    assert_eq!(observed.records.len(), 2);
    for record in &observed.records {
        let frames = match record["role"].as_str() {
            Some("client") => "frames_sent",
            _ => "frames_received",
        };
        assert!(record[frames].is_null(), "{record}");
    }
}
