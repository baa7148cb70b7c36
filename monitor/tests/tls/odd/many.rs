//! Sessions that come and go: each is counted once, and the kernel keeps none of them.

use std::{
    fs,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use aya::maps::{HashMap, Map, MapData};
use monitor_ebpf::session::Session;

use crate::{
    authority::Authority,
    daemon::{ANYWHERE, BINARY, Daemon},
    peers::{Peer, peer_file, python},
    sandbox::{Plays, Sandbox},
    turn,
};

/// Connections that each of the client's threads has, one after the other.
const EACH: usize = 250;
const THREADS: usize = 8;
/// As many as there is room for.
const ROOM: u64 = 65_536;
const SESSIONS: &str = "closewatch_tls_sessions_total";
/// What goes with a connection is gone when the kernel has told of its end.
const GONE_WITHIN: Duration = Duration::from_secs(5);

#[test]
#[ignore = "needs root"]
fn none_is_left_of_many() {
    let _turn = turn();
    let (sandbox, daemon) = launch();
    let server = begin(&sandbox, &daemon, 1.0, &["server", "9200"], 0);
    let before = Instant::now();
    begin(&sandbox, &daemon, 2.0, &["client", "9200"], EACH).finish();
    let took = before.elapsed();

    let deadline = Instant::now() + GONE_WITHIN;
    while table(&daemon).keys().count() != 0 {
        let left = table(&daemon).keys().count();
        assert!(Instant::now() < deadline, "{left} sessions are left");
        thread::sleep(Duration::from_millis(50));
    }
    let all = (2 * THREADS * EACH) as f64;
    daemon.await_metric(SESSIONS, &[r#"result="bound""#], all);
    let results = ["bound", "unbound", "contradicted", "no_room"];
    let results = results.map(|result| count(&daemon, result));
    eprintln!("none_is_left_of_many: {results:?} in {took:?}");
    assert_eq!(results, [all, 0.0, 0.0, 0.0]);
    server.stop();
    daemon.stop();
}

/// Where all room is taken nothing is found; it is counted, and said; and it is over when there is room again.
#[test]
#[ignore = "needs root"]
fn no_room_is_said() {
    let _turn = turn();
    let (sandbox, mut daemon) = launch();
    let server = begin(&sandbox, &daemon, 1.0, &["server", "9201"], 0);
    let mut sessions = table(&daemon);
    let nothing = [0; size_of::<Session>()];
    let taken = (0..ROOM).map(|number| sessions.insert(number, nothing, 0));
    taken.for_each(|taken| taken.unwrap());

    begin(&sandbox, &daemon, 2.0, &["client", "9201"], 1).finish();
    let ends = (2 * THREADS) as f64;
    daemon.await_metric(SESSIONS, &[r#"result="no_room""#], ends);
    let line = daemon.await_log("no room for more TLS sessions");
    assert!(
        line["fields"]["calls"].as_u64().unwrap() as f64 >= ends,
        "{line}"
    );
    assert_eq!(count(&daemon, "bound"), 0.0);

    (0..ROOM).for_each(|number| sessions.remove(&number).unwrap());
    begin(&sandbox, &daemon, 2.0, &["client", "9201"], 1).finish();
    daemon.await_metric(SESSIONS, &[r#"result="bound""#], ends);
    server.stop();
    daemon.stop();
}

fn launch() -> (Sandbox, Daemon) {
    let sandbox = Sandbox::new(1);
    Authority::new(sandbox.directory.path(), "authority").issue(
        sandbox.directory.path(),
        "server",
        &["127.0.0.1"],
    );
    let mut command = Command::new(BINARY);
    // Of nobody else on the host: what is counted is theirs.
    command.env("CLOSEWATCH_TLS", &sandbox.cgroup);
    let records = sandbox.path("records.jsonl");
    let daemon = Daemon::launch(command, &sandbox, &records, ANYWHERE);
    (sandbox, daemon)
}

fn count(daemon: &Daemon, result: &str) -> f64 {
    daemon.metric(SESSIONS, &[&format!("result=\"{result}\"")])
}

/// Once it is the daemon's process of this number.
fn begin(sandbox: &Sandbox, daemon: &Daemon, number: f64, words: &[&str], count: usize) -> Peer {
    let mut command = sandbox.command(python(), 0, true);
    command
        .arg(peer_file("coming_and_going.py"))
        .args(words)
        .args([THREADS.to_string(), count.to_string()])
        .env("CLOSEWATCH_TEST_TLS", sandbox.directory.path());
    let mut peer = Peer::spawn(sandbox, &mut command);
    peer.await_line("ready");
    sandbox.note_processes(peer.pid(), Plays::Both);
    // Other daemons of the host may have probes in the same code.
    daemon.await_metric("closewatch_tls_processes", &[], number);
    peer.tell("go");
    peer
}

/// Those that the kernel has for the daemon.
fn table(daemon: &Daemon) -> HashMap<MapData, u64, [u8; size_of::<Session>()]> {
    let folder = format!("/proc/{}/fdinfo", daemon.pid());
    let descriptors = fs::read_dir(folder).unwrap();
    let texts = descriptors.filter_map(|file| fs::read_to_string(file.ok()?.path()).ok());
    let ids = texts.filter_map(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("map_id:"))?;
        line.trim().parse::<u32>().ok()
    });
    let map = ids
        .filter_map(|id| MapData::from_id(id).ok())
        .find(|map| map.info().unwrap().name_as_str() == Some("TLS_SESSIONS"))
        .expect("the daemon has the map");
    Map::HashMap(map).try_into().unwrap()
}
