//! What closewatch makes of connections that were open before it started.
//!
//! WebSockets are to be found by their frames, and their records are compared, field by field, with what
//! the packets say, from the capture that began before the first of them. Everything else that talks over
//! TCP is not to be taken for one.
//!
//! `CLOSEWATCH_ADOPTION_CONNECTIONS` sets how many connections that are no WebSockets are tried, and
//! `CLOSEWATCH_ADOPTION_TURNS` how many requests and answers each of them gets.

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
    "../loss/network.rs" network
    "../end_to_end/peers.rs" peers
    "../end_to_end/sandbox.rs" sandbox
    "../end_to_end/tcp.rs" tcp
    "../end_to_end/websocket.rs" websocket
    "../end_to_end/witness.rs" witness
}

mod cases;
mod late;
mod lossy;
mod moments;
mod open_before;
mod opened_after;
mod others;
mod restarts;
mod servers;
mod verdict;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// One at a time: some compare times, and others keep a small machine busy.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
