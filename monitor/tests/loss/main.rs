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
//! how many of them at one time, and `CLOSEWATCH_LOSS_RATES` the rates, as `1,5`.

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
    "../end_to_end/tcp.rs" tcp
    "../end_to_end/websocket.rs" websocket
    "../end_to_end/witness.rs" witness
}

mod crowd;
mod ledger;
mod network;
mod tally;
mod tshark;

use std::{
    env,
    sync::{Mutex, PoisonError},
};

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
    every_rate(Report::new("segments", true), |lost| {
        Network::veth(lost, false)
    });
}

/// Packets pass from end to end as TCP hands them out, up to 64 KiB long, and are lost whole. tshark's
/// dissector loses its way in those that hold many hundred frames, so here it is only counted.
#[test]
#[ignore = "needs root"]
fn long_packets_are_lost() {
    every_rate(Report::new("long packets", false), |lost| {
        Network::veth(lost, true)
    });
}

#[test]
#[ignore = "needs root"]
fn packets_overtake_each_other() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut report = Report::new("disorder", true);
    for (lost, late) in [(0, 5), (1, 20), (5, 20)] {
        report.add(lost, run(&Network::cable(lost, late)));
    }
    report.settle();
}

fn rates() -> Vec<u32> {
    let chosen = env::var("CLOSEWATCH_LOSS_RATES");
    chosen.map_or(RATES.to_vec(), |rates| {
        rates.split(',').map(|rate| rate.parse().unwrap()).collect()
    })
}

fn every_rate(mut report: Report, network: impl Fn(u32) -> Network) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    for lost in rates() {
        report.add(lost, run(&network(lost)));
    }
    report.settle();
}
