//! What closewatch makes of networks that lose and reorder packets.
//!
//! Thousands of connections between two network namespaces, at several rates of loss. The truth is what
//! the peers say that they sent (`ledger`). Two witnesses must agree with it before they are believed:
//! the harness of the end-to-end tests, which reads the packets that each end's IP layer saw, and
//! tshark's dissector (`tshark`), which reads those that left the sender. Then every record is
//! compared, field by field, with what the packets say, and the figures are held against what is
//! promised (`tally`).
//!
//! `CLOSEWATCH_LOSS_CONNECTIONS` sets how many connections each rate gets, `CLOSEWATCH_LOSS_CONCURRENT`
//! how many of them at one time.

#![expect(
    clippy::unwrap_used,
    reason = "what goes wrong in a helper fails its test"
)]

macro_rules! shared {
    ($($path:literal $module:ident)*) => {
        $(
            #[path = $path]
            #[allow(dead_code, reason = "the end-to-end tests use the rest")]
            mod $module;
        )*
    };
}

shared! {
    "../end_to_end/capture.rs" capture
    "../end_to_end/compare.rs" compare
    "../end_to_end/daemon.rs" daemon
    "../end_to_end/figures.rs" figures
    "../end_to_end/judge.rs" judge
    "../end_to_end/peers.rs" peers
    "../end_to_end/sandbox.rs" sandbox
    "../end_to_end/tcp.rs" tcp
    "../end_to_end/websocket.rs" websocket
    "../end_to_end/witness.rs" witness
}

mod crowd;
mod ledger;
mod network;
mod tally;
mod tshark;

use std::sync::{Mutex, PoisonError};

use crowd::run;
use network::Network;
use tally::Report;

/// Of 100 packets, on the receiving side.
const RATES: [u32; 5] = [0, 1, 2, 5, 10];

/// One at a time: they measure, and each keeps both CPUs of a small machine busy.
static TURN: Mutex<()> = Mutex::new(());

#[test]
#[ignore = "needs root"]
fn segments_are_lost() {
    every_rate("segments", |lost| Network::veth(lost, false));
}

/// Packets pass from end to end as TCP hands them out, up to 64 KiB long, and are lost whole.
#[test]
#[ignore = "needs root"]
fn long_packets_are_lost() {
    every_rate("long packets", |lost| Network::veth(lost, true));
}

#[test]
#[ignore = "needs root"]
fn packets_overtake_each_other() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut report = Report::new("disorder");
    for (lost, late) in [(0, 5), (1, 20), (5, 20)] {
        report.add(lost, run(&Network::cable(lost, late)));
    }
    report.settle();
}

fn every_rate(name: &'static str, network: impl Fn(u32) -> Network) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut report = Report::new(name);
    let only = std::env::var("ONLY").ok().map(|t| t.parse::<u32>().unwrap());
    for lost in RATES {
        if only.is_some_and(|o| o != lost) { continue; }
        report.add(lost, run(&network(lost)));
    }
    report.settle();
}
