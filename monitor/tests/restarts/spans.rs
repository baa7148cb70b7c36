//! Connections that live over a restart, a `kill -9`, an upgrade and a time without a daemon.

use std::{thread, time::Duration};

use crate::{
    daemon::{ANYWHERE, Daemon},
    late::{Case, Late},
    pinned::{Bpffs, command, kill, start},
    turn,
    verdict::{Expect, settle},
};

const PORT: u16 = 9300;
const ROUNDS: usize = 5;
const CONNECTIONS: usize = 20;

/// Ends that talk in every round until theirs, and then close.
fn case(index: usize) -> Case {
    let rounds: String = (0..=index % ROUNDS)
        .map(|round| format!("await-word:round-{round}; turns:3; "))
        .collect();
    let [server, client] = match index / ROUNDS % 4 {
        0 => [
            "await-close; close; end",
            "close; await-close; await-eof; end",
        ],
        1 => [
            "close:1001; await-close; end",
            "await-close; close:1001; await-eof; end",
        ],
        2 => [
            "await-close; close; pause:1.2; end",
            "close; await-close; await-eof; end",
        ],
        _ => ["await-eof; end", "pause:0.1; reset"],
    };
    Case {
        name: "long-lived",
        address: "127.0.0.1",
        server: format!("accept; say:open; {rounds}{server}"),
        client: format!("upgrade; say:open; {rounds}{client}"),
        expect: Expect::Opened,
    }
}

/// Connections that end in a round, or behind it.
fn from(round: usize) -> f64 {
    (0..CONNECTIONS)
        .filter(|index| index % ROUNDS >= round)
        .count() as f64
}

/// The daemon has taken all up, and nothing twice.
fn check(daemon: &Daemon, live: f64) {
    let sum = |name: &str| daemon.metric(&format!("closewatch_{name}"), &[]);
    assert_eq!(sum("connections"), 2.0 * live, "live connections, at once");
    assert_eq!(sum("connections_opened_total"), 0.0);
    assert_eq!(sum("connections_adopted_total"), 0.0);
    assert_eq!(sum("adoption_candidates_total"), 0.0);
    assert_eq!(daemon.losses(), Vec::<String>::new());
    let page = daemon.get("/api/v1/connections?limit=1");
    assert!(live == 0.0 || page.contains(r#""path":"/raw""#), "{page}");
}

#[test]
#[ignore = "needs root"]
fn one_exact_record_over_a_restart_an_upgrade_a_kill_and_a_pause() {
    let _turn = turn();
    let cases: Vec<Case> = (0..CONNECTIONS).map(case).collect();
    let mut late = Late::new();
    let bpffs = Bpffs::mount(late.sandbox());

    // The version before the upgrade has other programs for a socket's end.
    let mut old = command(late.sandbox(), &bpffs);
    old.env("CLOSEWATCH_TEST_ENDS", "callbacks");
    let daemon = Daemon::launch(old, late.sandbox(), &late.records(), ANYWHERE);
    late.raw("127.0.0.1", PORT, &cases.iter().collect::<Vec<_>>());
    daemon.await_metric("closewatch_connections_opened_total", &[], 2.0 * from(0));
    let link = bpffs.link("observe_egress");
    assert!(bpffs.layout().join("observe_end").exists());
    round(&mut late, &daemon, 0);
    daemon.stop();

    let daemon = start(&late, &bpffs);
    check(&daemon, from(1));
    let updated = bpffs.link("observe_egress");
    assert_eq!(updated["id"], link["id"], "the link stays");
    assert_ne!(updated["prog_id"], link["prog_id"], "with another program");
    assert!(bpffs.layout().join("observe_state").exists());
    assert!(!bpffs.layout().join("observe_end").exists());
    round(&mut late, &daemon, 1);
    kill(daemon);

    let daemon = start(&late, &bpffs);
    check(&daemon, from(2));
    round(&mut late, &daemon, 2);
    daemon.stop();

    // Nobody is there, and what happens is told later.
    late.tell("round-3");
    thread::sleep(Duration::from_secs(2));
    let daemon = start(&late, &bpffs);
    check(&daemon, from(4));
    let ended = "closewatch_connections_ended_total";
    daemon.await_metric(ended, &[], 2.0 * (from(3) - from(4)));
    kill(daemon);

    let daemon = start(&late, &bpffs);
    check(&daemon, from(4));
    late.tell("round-4");
    let observed = late.finish(daemon);
    assert_eq!(observed.views.len(), 2 * CONNECTIONS);
    settle(
        "one_exact_record_over_a_restart_an_upgrade_a_kill_and_a_pause",
        &observed,
        false,
        |view| {
            let index = usize::from(view.server_address.port() - PORT);
            (format!("round {}", index % ROUNDS), Expect::Opened, 0)
        },
    );
    assert_eq!(observed.records.len(), 2 * CONNECTIONS);
}

/// Lets the connections of a round end, and the daemon see it.
fn round(late: &mut Late, daemon: &Daemon, round: usize) {
    late.tell(&format!("round-{round}"));
    let ends = 2.0 * (from(round) - from(round + 1));
    daemon.await_metric("closewatch_connections_ended_total", &[], ends);
    // What the others say in this round has been said.
    thread::sleep(Duration::from_millis(100));
}
