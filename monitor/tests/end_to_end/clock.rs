//! The clock is set while connections are open. It is that of the whole machine, so only a virtual one is asked.

use std::{env, mem::MaybeUninit, time::Duration};

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    daemon::{Daemon, read_records},
    peers::{Peer, peer_file, python},
    sandbox::{Plays, Sandbox},
};

/// `CLOSEWATCH_TEST_CLOCK` is set where this may set the clock.
const ALLOWED: &str = "CLOSEWATCH_TEST_CLOCK";
const HOUR: i64 = 3600;

/// What is measured does not move, and the times of one record are of one clock: that in which it was written.
#[test]
#[ignore = "needs root"]
fn the_clock_is_set_back_while_connections_are_open() {
    if env::var_os(ALLOWED).is_none() {
        eprintln!("not run here, for it sets the clock: `cargo xtask vm` does, in its machines");
        return;
    }
    let sandbox = Sandbox::new(1);
    let daemon = Daemon::start(&sandbox, &sandbox.path("records.jsonl"));
    let peer = |role: &str, script: &str, plays| {
        let mut command = sandbox.command(python(), 0, true);
        command.arg(peer_file("raw.py"));
        command.args([role, "127.0.0.1", &format!("9000={script}")]);
        Peer::start(&sandbox, command, plays)
    };
    let server = peer(
        "server",
        "accept; await-close; close; pause:1.5; end",
        Plays::Server,
    );
    let client = peer(
        "client",
        "upgrade; pause:2; close; await-close; await-eof; end",
        Plays::Client,
    );
    daemon.await_metric("closewatch_connections_opened_total", &[], 2.0);
    set_clock(-HOUR);
    client.finish();
    server.finish();
    daemon.await_metric("closewatch_connections_ended_total", &[], 2.0);
    let now = Timestamp::now();
    assert_eq!(daemon.metric("closewatch_connections", &[]), 0.0);
    let path = daemon.records.clone();
    daemon.stop();
    set_clock(HOUR);

    let records = read_records(&path);
    assert_eq!(records.len(), 2);
    for record in records {
        let time = |value: &Value| value.as_str().unwrap().parse::<Timestamp>().unwrap();
        let opened = time(&record["opened_at"]);
        let closed = time(&record["client_close"]["time"]);
        let ended = time(&record["ended_at"]);
        let between = |from: Timestamp, to: Timestamp| to.duration_since(from).as_secs_f64();
        assert!((1.9..2.4).contains(&between(opened, closed)), "{record}");
        assert!((1.4..2.0).contains(&between(closed, ended)), "{record}");
        assert!(
            (0.0..30.0).contains(&between(ended, now)),
            "{now}: {record}"
        );
        let measured = record["close_to_fin_seconds"].as_f64().unwrap();
        assert!((1.4..1.8).contains(&measured), "{record}");
        assert_eq!(record["outcome"], "slow_server", "{record}");
    }
}

/// Moves the wall clock.
fn set_clock(by: i64) {
    let mut now = MaybeUninit::uninit();
    // SAFETY: the kernel writes a whole structure, or says that it did not; the second call reads one.
    let set = unsafe {
        assert_eq!(
            libc::clock_gettime(libc::CLOCK_REALTIME, now.as_mut_ptr()),
            0
        );
        let mut then = now.assume_init();
        then.tv_sec += by;
        libc::clock_settime(libc::CLOCK_REALTIME, &raw const then)
    };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    std::thread::sleep(Duration::from_millis(10));
}
