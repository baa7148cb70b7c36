//! What the daemon may still do once it watches: read from `/proc`, for each of its threads.

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt as _, thread, time::Duration};

use crate::{
    daemon::{Daemon, read_records},
    peers::{Peer, peer_file, python},
    sandbox::{Plays, Sandbox},
};

// Kernel: include/uapi/linux/capability.h.
const CAP_NET_ADMIN: u64 = 1 << 12;
const CAP_SYS_PTRACE: u64 = 1 << 19;
const CAP_SYS_ADMIN: u64 = 1 << 21;
const CAP_PERFMON: u64 = 1 << 38;
const CAP_BPF: u64 = 1 << 39;

/// Where the kernel asks for CAP_BPF at each look into a map, as it did before 5.19.
fn for_maps() -> u64 {
    let version = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = version
        .split(['.', '-'])
        .map(|number| number.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    let unprivileged = fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled");
    let is_open = unprivileged.is_ok_and(|setting| setting.trim() == "0");
    if version < (5, 19) && !is_open {
        CAP_BPF
    } else {
        0
    }
}

#[test]
#[ignore = "needs root"]
fn root_keeps_what_the_work_ahead_takes() {
    let sandbox = Sandbox::new(1);
    let daemon = Daemon::start(&sandbox, &sandbox.path("records.jsonl"));
    work(&daemon, &sandbox);
    check(&daemon, 0, 0, CAP_SYS_ADMIN | CAP_SYS_PTRACE);
    daemon.stop();
}

#[test]
#[ignore = "needs root"]
fn what_the_unit_starts_keeps_less_and_works_on() {
    let sandbox = Sandbox::new(1);
    let daemon = Daemon::start_confined(&sandbox);
    work(&daemon, &sandbox);
    check(&daemon, 65534, CAP_BPF | CAP_PERFMON | CAP_NET_ADMIN, 0);

    // After a rotation it opens the file again, which is its own.
    let old = daemon.records.with_extension("1");
    fs::rename(&daemon.records, &old).unwrap();
    daemon.hang_up();
    while !daemon.records.exists() {
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(read_records(&old).len(), 20);
    let records = fs::metadata(&daemon.records).unwrap();
    assert_eq!((records.uid(), records.gid()), (65534, 65534));
    daemon.stop();
}

/// Ten connections, and every question that is answered on a thread of its own.
fn work(daemon: &Daemon, sandbox: &Sandbox) {
    let mut command = sandbox.command(python(), 0, true);
    command.arg(peer_file("leave.py"));
    let mut peer = Peer::start(sandbox, command, Plays::Both);
    for what in [
        "listen 127.0.0.1 9000",
        "websocket 127.0.0.1 9000 server 10 10000",
    ] {
        peer.tell(what);
        peer.await_line("done");
    }
    peer.kill();
    daemon.await_metric("closewatch_connections_ended_total", &[], 20.0);
    for path in ["/api/v1/servers", "/api/v1/connections", "/api/v1/health"] {
        let response = daemon.get(path);
        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    }
    assert_eq!(daemon.losses(), Vec::<String>::new());
}

fn check(daemon: &Daemon, user: u32, bounds: u64, time_wait: u64) {
    let threads = daemon.threads();
    let names: BTreeSet<&str> = threads.iter().map(|(name, _)| name.as_str()).collect();
    assert!(
        names.is_superset(&BTreeSet::from(["http", "log", "records", "time-wait"])),
        "{names:?}"
    );
    assert!(threads.len() > 3, "no thread encodes answers: {names:?}");
    for (name, status) in &threads {
        let field = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            line.unwrap_or_else(|| panic!("{field} is not in {status}"))
                .trim()
        };
        let capabilities = |set: &str| u64::from_str_radix(field(set), 16).unwrap();
        let kept = match name.as_str() {
            "time-wait" => time_wait,
            // The sandbox's cgroup is watched with --cgroup, and may be replaced.
            "closewatch" => CAP_NET_ADMIN | for_maps(),
            _ => 0,
        };
        for (set, expected) in [
            ("CapEff:", kept),
            ("CapPrm:", kept),
            ("CapInh:", 0),
            ("CapAmb:", 0),
            ("CapBnd:", bounds),
        ] {
            assert_eq!(
                capabilities(set),
                expected,
                "{set} of {name} ({:#x})",
                capabilities(set)
            );
        }
        assert_eq!(field("NoNewPrivs:"), "1", "{name}");
        let users: Vec<u32> = field("Uid:")
            .split_whitespace()
            .map(|id| id.parse().unwrap())
            .collect();
        assert_eq!(users, [user; 4], "{name}");
    }
    let log = daemon.log();
    let told: Vec<_> = log
        .iter()
        .filter(|line| line.contains("privileges dropped"))
        .collect();
    assert_eq!(told.len(), 1, "{log:#?}");
    assert!(
        told[0].contains("CAP_NET_ADMIN (to watch the cgroup"),
        "{}",
        told[0]
    );
    assert_eq!(
        told[0].contains("CAP_SYS_ADMIN and CAP_SYS_PTRACE"),
        time_wait != 0,
        "{}",
        told[0]
    );
}
