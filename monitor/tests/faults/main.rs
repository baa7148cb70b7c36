//! What closewatch does when the world around it fails: its disk, the readers of its log, its CPU.
//!
//! Each fault is a real one, and is looked at as an operator would: what the log says, what the metrics say, and
//! whether the daemon answers meanwhile. Afterwards every record is compared, field by field, with a packet
//! capture: nothing is lost that is not counted.
//!
//! `CLOSEWATCH_FAULTS_STOPPED` sets for how many seconds the daemon is stopped by SIGSTOP.

#![expect(
    clippy::unwrap_used,
    reason = "what goes wrong in a helper fails its test"
)]

#[macro_use]
#[path = "../end_to_end/shared.rs"]
mod macros;

shared! {
    "../end_to_end/capture.rs" capture
    "../end_to_end/compare.rs" compare
    "../end_to_end/daemon.rs" daemon
    "../end_to_end/figures.rs" figures
    "../end_to_end/judge.rs" judge
    "../end_to_end/peers.rs" peers
    "../end_to_end/sandbox.rs" sandbox
    "../end_to_end/stage.rs" stage
    "../end_to_end/tcp.rs" tcp
    "../end_to_end/websocket.rs" websocket
    "../end_to_end/witness.rs" witness
}

mod disk;
mod disks;
mod kernel;
mod log;
mod stopped;

use std::sync::{Mutex, MutexGuard, PoisonError};

use stage::{Pair, Stage};

const CLEAN: Pair = Pair {
    server: "accept; await-close; close; end",
    client: "upgrade; close; await-close; await-eof; end",
};

/// One at a time: they keep a small machine busy.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens and closes connections, and waits until the daemon has counted both ends of all since its start.
fn visit(stage: &Stage, connections: usize, all: usize) {
    let pairs: Vec<Pair> = (0..connections).map(|_| CLEAN).collect();
    stage.raw(&pairs);
    let ended = 2.0 * all as f64;
    stage
        .daemon
        .await_metric("closewatch_connections_ended_total", &[], ended);
}
