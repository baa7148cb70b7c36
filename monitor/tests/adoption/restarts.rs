//! A daemon that is restarted over connections that live on.

use std::{collections::BTreeMap, thread, time::Duration};

use crate::{
    late::{Case, Late, now},
    turn,
    verdict::{Expect, settle},
};

const PORT: u16 = 9100;
const RESTARTS: usize = 5;
const CONNECTIONS: usize = 50;

/// Ends that talk a little in every round until theirs, and then close.
fn case(index: usize) -> Case {
    let round = |number: usize| {
        // Some are silent for rounds.
        let talks = index.is_multiple_of(3) || number == 0;
        let talk = if talks { "turns:3; " } else { "" };
        format!("await-word:round-{number}; {talk}")
    };
    let rounds: String = (0..=round_of(index)).map(round).collect();
    let [server, client] = match index % 4 {
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
        _ => [
            "await-close; close:none; await-eof; end",
            "close:4000:20; await-close; end",
        ],
    };
    Case {
        name: "long-lived",
        address: "127.0.0.1",
        server: format!("accept; say:open; {rounds}{server}"),
        client: format!("upgrade; say:open; {rounds}{client}"),
        expect: Expect::Adopted,
    }
}

/// In which round a connection closes.
fn round_of(index: usize) -> usize {
    index % (RESTARTS + 1)
}

#[test]
#[ignore = "needs root"]
fn every_connection_has_one_record_over_restarts() {
    let _turn = turn();
    let cases: Vec<Case> = (0..CONNECTIONS).map(case).collect();
    let mut late = Late::new();
    let mut daemon = late.start_daemon();
    late.raw("127.0.0.1", PORT, &cases.iter().collect::<Vec<_>>());
    // Since when each round's daemon is there, and what all of them adopted.
    let mut since = BTreeMap::from([(0, now())]);
    let mut adopted = 0.0;
    for round in 0..=RESTARTS {
        if round > 0 {
            adopted += daemon.metric("closewatch_connections_adopted_total", &[]);
            daemon.stop();
            daemon = late.start_daemon();
            since.insert(round, now());
        }
        late.tell(&format!("round-{round}"));
        let ends = 2
            * (0..CONNECTIONS)
                .filter(|&index| round_of(index) == round)
                .count();
        let ended = "closewatch_connections_ended_total";
        daemon.await_metric(ended, &[], ends as f64);
        // What the others say in this round has been said.
        thread::sleep(Duration::from_millis(100));
    }
    let observed = late.finish(daemon);
    adopted += observed.counts.adopted;
    assert_eq!(observed.views.len(), 2 * CONNECTIONS);
    settle(
        "every_connection_has_one_record_over_restarts",
        &observed,
        false,
        |view| {
            let index = usize::from(view.server_address.port() - PORT);
            let round = round_of(index);
            let expect = if round == 0 {
                Expect::Opened
            } else {
                Expect::Adopted
            };
            (format!("round {round}"), expect, since[&round])
        },
    );
    assert_eq!(observed.records.len(), 2 * CONNECTIONS);
    eprintln!("{adopted} adoptions by {} daemons", RESTARTS + 1);
}
