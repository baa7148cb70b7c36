//! WebSockets over TLS, of the programs that are found in production.
//!
//! What must be recorded is worked out from a packet capture, opened with the keys that the clients write down
//! (`plaintext`), by the same reader as for plaintext, and tshark's own dissectors must find the same Close
//! frames at the same times. Every connection has a code of its own, so none is taken for another.
//!
//! Daemons follow TLS; one does not, and then no record may be of TLS.

#![expect(
    clippy::unwrap_used,
    reason = "what goes wrong in a helper fails its test"
)]

#[macro_use]
#[path = "../end_to_end/shared.rs"]
mod macros;

shared! {
    "../endpoint/authority.rs" authority
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

mod cipher;
mod code;
mod crowds;
mod endings;
mod found;
mod fresh;
mod keys;
mod libraries;
mod lossy;
mod odd;
mod plaintext;
mod programs;
mod scene;
mod tshark;
mod verdict;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// One at a time: they compare times.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
