//! A daemon that gets no CPU for a while.

use std::{env, thread, time::Duration};

use crate::{CLEAN, stage::Stage, turn, visit};

/// What happened while it was stopped waited in the kernel's ring, with the kernel's times.
#[test]
#[ignore = "needs root"]
fn what_happens_while_it_is_stopped_is_told_afterwards() {
    let _turn = turn();
    let seconds = env::var("CLOSEWATCH_FAULTS_STOPPED").map_or(3, |text| text.parse().unwrap());
    let stage = Stage::loopback("what_happens_while_it_is_stopped_is_told_afterwards");
    visit(&stage, 5, 5);
    stage.daemon.signal(libc::SIGSTOP);
    let pairs: Vec<_> = (0..50).map(|_| CLEAN).collect();
    stage.raw(&pairs);
    thread::sleep(Duration::from_secs(seconds));
    stage.daemon.signal(libc::SIGCONT);
    let ended = "closewatch_connections_ended_total";
    stage.daemon.await_metric(ended, &[], 110.0);
    assert_eq!(stage.daemon.metric("closewatch_connections", &[]), 0.0);
    stage.finish(55);
}
