//! Frames of every form, in every cut, and what is no frame.

use crate::stage::{Pair, Stage, record_of};

const END_SERVER: &str = "await-close; close; end";
const END_CLIENT: &str = "close; await-close; await-eof; end";

#[test]
#[ignore = "needs root"]
fn every_form_and_cut() {
    let pairs = [
        ("encodings; fragments", "encodings; fragments"),
        ("cuts", "cuts"),
        (
            "fragments; cuts; encodings",
            "unmasked; texts:2; unmasked:70000",
        ),
        // Five megabytes, each way.
        ("texts:2:5000000", "texts:1:1"),
        ("texts:1:1", "texts:2:5000000"),
        ("texts:300:20000", "await-frames:300; texts:300:20000"),
        // The window closes while nobody reads, and opens again.
        ("texts:4:5000000", "pause:1.2"),
        ("pause:1.2", "texts:3000:5000"),
        // Thousands of tiny frames in one send.
        ("texts:8000:0", "texts:8000:0"),
        ("texts:8000:1", "texts:1:1"),
        ("texts:1:1", "texts:8000:3"),
        // In pieces that begin and end anywhere.
        ("texts:500:3:7", "texts:300:130:11"),
        ("texts:200:3:1", "texts:200:3:1"),
        ("texts:100:1000:1461", "texts:100:1000:333"),
    ];
    let stage = Stage::loopback("every_form_and_cut");
    let scripts = pairs.map(|(server, client)| Pair {
        server: format!("accept; {server}; {END_SERVER}").leak(),
        client: format!("upgrade; {client}; {END_CLIENT}").leak(),
    });
    stage.raw(&scripts);
    let records = stage.finish(pairs.len());
    assert!(records.iter().all(|record| record["frames_sent"].is_u64()));
    assert_eq!(record_of(&records, 8, "server")["frames_sent"], 8001);
}

#[test]
#[ignore = "needs root"]
fn bodies_of_close_frames() {
    let bodies = [
        ("close-body:0", "close-body:0"),
        ("close-body:1", "close-body:1"),
        ("close-body:2", "close-body:2"),
        ("close-body:125", "close-body:125"),
        ("close:4999:123", "close:3000:1"),
        ("close-cut:1000:20", "close-cut:4001:123"),
        ("close-cut:none", "close-cut:none"),
        ("close:1005", "close:65535"),
        ("close:0", "close:999"),
    ];
    let stage = Stage::loopback("bodies_of_close_frames");
    let scripts = bodies.map(|(server, client)| Pair {
        server: format!("accept; await-close; {server}; end").leak(),
        client: format!("upgrade; {client}; await-close; await-eof; end").leak(),
    });
    stage.raw(&scripts);
    let records = stage.finish(bodies.len());
    let code = |pair, end: &str| record_of(&records, pair, "server")[end]["code"].clone();
    assert!(code(0, "client_close").is_null() && code(1, "client_close").is_null());
    assert_eq!(code(3, "server_close"), 1001);
    assert_eq!(code(5, "client_close"), 4001);
}

/// After a frame that RFC 6455 forbids, nothing is a Close frame, however much it looks like one.
#[test]
#[ignore = "needs root"]
fn broken_framing() {
    let broken = [
        "8300",
        "8b00",
        "9100",
        "a100",
        // Control frames: with RSV1, in fragments, too long.
        "c900",
        "0900",
        "897e0080",
        "887f0000000000000080",
        // The beginning of an HTTP response.
        "485454502f312e3120343030204261642052657175657374",
    ];
    let stage = Stage::loopback("broken_framing");
    let mut pairs = Vec::new();
    for bytes in broken {
        let server = format!("accept; texts:2; bytes:{bytes}; close; pause:0.1; end").leak();
        pairs.push(Pair {
            server,
            client: "upgrade; await-eof; end",
        });
        let client = format!("upgrade; texts:2; bytes:{bytes}; close; pause:0.1; end").leak();
        pairs.push(Pair {
            server: "accept; await-eof; end",
            client,
        });
    }
    // The other direction is read on.
    pairs.push(Pair {
        server: "accept; bytes:8300; close; await-eof; end",
        client: "upgrade; texts:4; close; pause:1.1; end",
    });
    // A Close frame before the broken one counts.
    pairs.push(Pair {
        server: "accept; close; bytes:8300; await-close; end",
        client: "upgrade; await-close; close; bytes:8300; await-eof; end",
    });
    stage.raw(&pairs);
    // Each connection has two ends, and both see it.
    let lost = (2 * broken.len() as u32 + 1) * 2;
    stage
        .daemon
        .await_metric("closewatch_streams_lost_total", &[], f64::from(lost));
    let records = stage.finish(pairs.len());
    for role in ["client", "server"] {
        for pair in 0..2 * broken.len() {
            let record = record_of(&records, pair, role);
            assert_eq!(record["outcome"], "abnormal", "pair {pair}: {record}");
        }
        let pair = 2 * broken.len();
        assert_eq!(
            record_of(&records, pair, role)["outcome"],
            "unanswered_by_server"
        );
        assert_eq!(record_of(&records, pair + 1, role)["initiator"], "server");
    }
}
