//! What those who send packets can do to the daemon, to its records, and to the traffic of others.
//!
//! Floods of openings, of SYNs, of guessed RSTs and FINs, requests that never end, a kernel buffer that runs over,
//! peers that do not read, text that is meant to break what shows it; MPTCP and TCP Fast Open, with which traffic
//! comes in other ways. Each attack is a program in a cgroup and a network namespace of its own (`attacker`), and
//! after each the books must balance: what ended is recorded or counted as lost, nothing else is said, and
//! memory stays within what the README promises.
//!
//! `CLOSEWATCH_ATTACK_OPENINGS` sets how many connections the flood opens, `CLOSEWATCH_ATTACK_REQUESTS` how
//! many requests are begun and never ended.

#![expect(
    clippy::unwrap_used,
    reason = "what goes wrong in a helper fails its test"
)]

#[macro_use]
#[path = "../end_to_end/shared.rs"]
mod macros;

shared! {
    "../end_to_end/daemon.rs" daemon
    "../end_to_end/peers.rs" peers
    "../end_to_end/sandbox.rs" sandbox
}

mod attacker;
mod bystander;
mod connection;
mod flood;
mod memory;
mod requests;
mod ring;
mod scene;
mod sockets;
mod spoofed;
mod text;

use std::{
    env,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// One at a time: they measure, and each keeps a small machine busy.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A size of an attack, from the environment if it is there.
fn size(variable: &str, default: u32) -> u32 {
    env::var(variable).map_or(default, |size| size.parse().unwrap())
}
