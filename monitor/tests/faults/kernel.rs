//! What the kernel refuses or takes away, and who else is at work in it.

use std::{
    fs, io,
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    process::Command,
};

use serde_json::Value;

use crate::{
    daemon::{ANYWHERE, BINARY, Daemon, read_records},
    peers::{Peer, peer_file, python},
    sandbox::{Plays, Sandbox, ip},
    stage::Stage,
    turn, visit,
};

const NAMESPACES: &str = "closewatch_time_wait_namespaces";
const ENDED: &str = "closewatch_connections_ended_total";

/// The rest goes on, and no figure is not 0.
#[test]
#[ignore = "needs root"]
fn sock_diag_that_is_refused_takes_the_time_wait_of_now_alone() {
    let _turn = turn();
    let mut stage = Stage::with_daemon("sock_diag_that_is_refused", |sandbox| {
        let mut command = Command::new(BINARY);
        // SAFETY: between fork and exec only prctl is called, on what lives on its stack.
        unsafe { command.pre_exec(forbid_sock_diag) };
        Daemon::launch(command, sandbox, &sandbox.path("records.jsonl"), ANYWHERE)
    });
    visit(&stage, 5, 5);
    let told = stage
        .daemon
        .await_log("TIME_WAIT is not counted in every network namespace");
    assert!(told.to_string().contains("not permitted"), "{told}");
    stage
        .daemon
        .await_metric(NAMESPACES, &["result=\"failed\""], 1.0);
    let metrics = stage.daemon.metrics();
    assert!(!metrics.contains("closewatch_time_wait_sockets{"));
    let entered = "closewatch_time_wait_entered_total";
    assert_eq!(stage.daemon.metric(entered, &[]), 10.0);
    stage.finish(5);
}

/// Neither takes anything from the other, nor when one of them goes.
#[test]
#[ignore = "needs root"]
fn two_daemons_see_the_same() {
    let _turn = turn();
    let stage = Stage::loopback("two_daemons_see_the_same");
    let second = Daemon::start(&stage.sandbox, &stage.sandbox.path("second.jsonl"));
    visit(&stage, 5, 5);
    second.await_metric(ENDED, &[], 10.0);
    let path = second.records.clone();
    second.stop();
    let second = read_records(&path);
    visit(&stage, 5, 10);
    let first = stage.finish(10);
    let told = |record: &Value| {
        let text = |field: &str| record[field].to_string();
        [
            "role",
            "local",
            "remote",
            "outcome",
            "initiator",
            "time_wait",
        ]
        .map(text)
    };
    let first: Vec<_> = first.iter().map(told).collect();
    let second: Vec<_> = second.iter().map(told).collect();
    assert_eq!(second.len(), 10);
    assert!(second.iter().all(|record| first.contains(record)));
}

/// Seen within a tick and mended; what opens from then on is seen.
#[test]
#[ignore = "needs root"]
fn probes_that_somebody_detached_are_attached_again() {
    let _turn = turn();
    let mut stage = Stage::loopback("probes_that_somebody_detached");
    visit(&stage, 5, 5);
    let cgroup = fs::metadata(stage.sandbox.cgroup_directory())
        .unwrap()
        .ino();
    let links = bpftool(&["--json", "link", "show"]);
    let links: Vec<Value> = serde_json::from_str(&links).unwrap();
    let of_cgroup = links.iter().filter(|link| link["cgroup_id"] == cgroup);
    let ids: Vec<String> = of_cgroup.map(|link| link["id"].to_string()).collect();
    assert!(ids.len() >= 2, "{links:?}");
    for id in &ids {
        bpftool(&["link", "detach", "id", id]);
    }
    let told = stage
        .daemon
        .await_log("another program detached the probes");
    assert!(told.to_string().contains("attached again"), "{told}");
    let attached = stage.daemon.metrics();
    let detached = attached
        .lines()
        .filter(|line| line.starts_with("closewatch_probe_attached{") && line.ends_with(" 0"));
    assert_eq!(detached.count(), 0, "{attached}");
    visit(&stage, 5, 10);
    stage.finish(10);
}

/// Nobody holds its sockets any more, and no FIN gets anywhere: they end when TCP gives up, and each end's record has
/// its own FIN.
#[test]
#[ignore = "needs root"]
fn a_namespace_is_deleted_with_its_connections() {
    let _turn = turn();
    let sandbox = Sandbox::new(1);
    let daemon = Daemon::start(&sandbox, &sandbox.path("records.jsonl"));
    // TCP would try again for two minutes.
    let mut patience = sandbox.command("sysctl", 0, false);
    patience.args(["-q", "net.ipv4.tcp_orphan_retries=1"]);
    assert!(patience.status().unwrap().success());
    let peer = |role: &str, script: &str, plays| {
        let mut command = sandbox.command(python(), 0, true);
        command.arg(peer_file("raw.py"));
        command.args([role, "127.0.0.1", &format!("9000={script}")]);
        Peer::start(&sandbox, command, plays)
    };
    let server = peer("server", "accept; pause:60", Plays::Server);
    let client = peer("client", "upgrade; pause:60", Plays::Client);
    daemon.await_metric("closewatch_connections_opened_total", &[], 2.0);
    ip(&["-n", sandbox.namespace(0), "link", "set", "lo", "down"]);
    client.kill();
    server.kill();
    ip(&["netns", "del", sandbox.namespace(0)]);
    daemon.await_metric(ENDED, &[], 2.0);
    assert_eq!(daemon.metric("closewatch_connections", &[]), 0.0);
    assert_eq!(daemon.losses(), Vec::<String>::new());
    let path = daemon.records.clone();
    daemon.stop();
    let records = read_records(&path);
    assert_eq!(records.len(), 2);
    for record in records {
        let sent_fin = |end: &str| !record[format!("{end}_fin")].is_null();
        let role = record["role"].as_str().unwrap();
        assert_eq!(
            ["client", "server"].map(sent_fin),
            ["client", "server"].map(|end| end == role)
        );
        assert_eq!(record["outcome"], "abnormal", "{record}");
        assert!(record["initiator"].is_null(), "{record}");
    }
}

fn bpftool(arguments: &[&str]) -> String {
    let output = Command::new("bpftool").args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "bpftool {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// From now on this process and what it starts are refused sockets of sock_diag with EPERM.
fn forbid_sock_diag() -> io::Result<()> {
    const DIAG: u32 = libc::NETLINK_SOCK_DIAG as u32;
    let step = |code: u32, jt, jf, k| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    // Where `struct seccomp_data` has the number of the call, and the lower halves of its first and third arguments.
    let [number, domain, protocol] = [0, 16, 32];
    let load = |at| step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, at);
    let unless = |value, skip| step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, skip, value);
    let end = |with| step(libc::BPF_RET | libc::BPF_K, 0, 0, with);
    let filter = [
        load(number),
        unless(libc::SYS_socket as u32, 5),
        load(domain),
        unless(libc::AF_NETLINK as u32, 3),
        load(protocol),
        unless(DIAG, 1),
        end(libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        end(libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel copies the program, which outlives the call.
    let result = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
