//! What a daemon with `--pin` leaves behind, and what the next one makes of it.
//!
//! Records are compared, field by field, with what a packet capture says that runs over all restarts: there
//! must be one for each end of each connection, as exact as if there had been one daemon.
//!
//! `CLOSEWATCH_RESTARTS` sets how often the daemon is restarted under load, and `CLOSEWATCH_RESTART_CLIENTS`
//! how many clients come and go meanwhile.

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
    "../adoption/late.rs" late
    "../loss/network.rs" network
    "../end_to_end/peers.rs" peers
    "../end_to_end/sandbox.rs" sandbox
    "../end_to_end/tcp.rs" tcp
    "../adoption/verdict.rs" verdict
    "../end_to_end/websocket.rs" websocket
    "../end_to_end/witness.rs" witness
}

mod left;
mod load;
mod pinned;
mod replaced;
mod spans;
mod versions;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// One at a time: they compare times.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
