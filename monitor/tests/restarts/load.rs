//! Restarts while connections come and go.

use std::{env, thread, time::Duration};

use crate::{
    compare::{Expectation, TOLERANCE, compare},
    late::Late,
    pinned::{Bpffs, kill, start},
    sandbox::Plays,
    turn,
};

const PORT: &str = "9200";
const SLOW_AFTER: i64 = 1_000_000_000;

fn setting(name: &str, default: usize) -> usize {
    let value = env::var(name).ok();
    value.map_or(default, |value| value.parse().unwrap())
}

#[test]
#[ignore = "needs root"]
fn no_record_is_lost_or_doubled_over_restarts_under_load() {
    let _turn = turn();
    let restarts = setting("CLOSEWATCH_RESTARTS", 6);
    let clients = setting("CLOSEWATCH_RESTART_CLIENTS", 40).to_string();
    let mut late = Late::new();
    let bpffs = Bpffs::mount(late.sandbox());
    let mut daemon = start(&late, &bpffs);
    let restless = late.python(Plays::Both, "restless.py", &[PORT, &clients, "7"]);
    late.hold(restless, 0);
    let mut adopted = 0.0;
    for restart in 0..restarts {
        // At whatever moment of whatever connection.
        thread::sleep(Duration::from_millis(400 + 97 * (restart as u64 % 7)));
        if restart % 2 == 0 {
            kill(daemon);
        } else {
            daemon.stop();
        }
        // Sometimes nobody is there for a while.
        thread::sleep(Duration::from_millis(if restart % 3 == 2 {
            500
        } else {
            0
        }));
        daemon = start(&late, &bpffs);
        adopted += daemon.metric("closewatch_connections_adopted_total", &[]);
        let losses = daemon.losses();
        assert!(losses.is_empty(), "restart {restart}: {losses:#?}");
    }
    thread::sleep(Duration::from_millis(500));
    late.tell("stop");
    let observed = late.finish(daemon);
    assert_eq!(observed.counts.losses, Vec::<String>::new());
    let expectation = Expectation {
        cgroup: &observed.cgroup,
        processes: &observed.processes,
        slow_after: SLOW_AFTER,
        tolerance: TOLERANCE,
        may_be_lost: false,
        adopted_at: None,
    };
    eprintln!(
        "{restarts} restarts: {} records of {} ends of connections, {adopted} adopted",
        observed.records.len(),
        observed.views.len()
    );
    let figures = compare(&observed.views, &observed.records, &expectation);
    figures.settle("no_record_is_lost_or_doubled_over_restarts_under_load");
    assert_eq!(observed.records.len(), observed.views.len());
    assert!(observed.views.len() > 20 * restarts, "that was no load");
}
