//! Whoever reads the log: one that does not, and one that goes away.

use std::{
    fs,
    net::TcpListener,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    CLEAN,
    daemon::{BINARY, http_get, read_records},
    peers::{Peer, end_process, peer_file, python},
    sandbox::{Plays, Sandbox},
    turn,
};

/// Everything is logged, to a pipe that nobody reads, or that has lost its reader; the daemon goes on, and ends
/// within a second.
fn log_is_not_read(is_gone: bool) {
    let _turn = turn();
    let sandbox = Sandbox::new(1);
    let records = sandbox.path("records.jsonl");
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = free.local_addr().unwrap();
    drop(free);
    let mut daemon = Command::new(BINARY)
        .args(["run", "--listen", &listen.to_string(), "--cgroup"])
        .arg(sandbox.cgroup_directory())
        .arg("--records")
        .arg(&records)
        .env("CLOSEWATCH_LOG", "trace")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map(Ended)
        .unwrap();
    if is_gone {
        drop(daemon.0.stderr.take());
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while !http_get(listen, "/readyz").starts_with("HTTP/1.1 200") {
        assert!(Instant::now() < deadline, "never ready");
        thread::sleep(Duration::from_millis(10));
    }
    let rounds = 6;
    for _ in 0..rounds {
        let specs = |script: &str| {
            (9000..9050)
                .map(|port| format!("{port}={script}"))
                .collect()
        };
        let server: Vec<String> = specs(CLEAN.server);
        let client: Vec<String> = specs(CLEAN.client);
        let start = |role: &str, plays, specs: &[String]| {
            let mut command = sandbox.command(python(), 0, true);
            command.arg(peer_file("raw.py")).args([role, "127.0.0.1"]);
            Peer::start(
                &sandbox,
                {
                    command.args(specs);
                    command
                },
                plays,
            )
        };
        let server = start("server", Plays::Server, &server);
        start("client", Plays::Client, &client).finish();
        server.finish();
        assert!(http_get(listen, "/livez").starts_with("HTTP/1.1 200"));
    }
    thread::sleep(Duration::from_millis(300));
    let metrics = http_get(listen, "/metrics");
    let lost = metrics
        .lines()
        .find_map(|line| line.strip_prefix("closewatch_log_lines_lost_total "));
    let lost: f64 = lost.unwrap().parse().unwrap();
    if is_gone {
        assert!(lost > 0.0, "lines that nobody can read are lost");
    }
    let status = end_process(&mut daemon.0, libc::SIGTERM, Duration::from_secs(1));
    assert_eq!(
        status.and_then(|status| status.code()),
        Some(0),
        "{status:?}"
    );
    assert_eq!(read_records(&records).len(), 100 * rounds);
    fs::remove_file(&records).unwrap();
}

/// Ended in any case.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        end_process(&mut self.0, libc::SIGKILL, Duration::from_secs(5));
    }
}

#[test]
#[ignore = "needs root"]
fn a_log_that_nobody_reads_holds_nothing_up() {
    log_is_not_read(false);
}

#[test]
#[ignore = "needs root"]
fn a_log_whose_reader_is_gone_ends_nothing() {
    log_is_not_read(true);
}
