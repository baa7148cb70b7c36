//! Connections that were open before the daemon, over networks that delay, lose and reorder.

use std::{thread, time::Duration};

use crate::{
    cases::cases,
    late::{Case, Late, now},
    network::{Network, SERVER},
    turn,
    verdict::{Expect, settle},
};

const PORT: u16 = 9100;

/// What both do at once crosses on the way: nothing is lost, so nothing may be missed.
#[test]
#[ignore = "needs root"]
fn adopted_over_a_cable() {
    run("adopted_over_a_cable", Network::cable(0, 0), 1, false);
}

#[test]
#[ignore = "needs root"]
fn adopted_while_segments_are_lost() {
    let name = "adopted_while_segments_are_lost";
    run(name, Network::veth(3, false), 2, true);
}

#[test]
#[ignore = "needs root"]
fn adopted_while_packets_overtake_each_other() {
    let name = "adopted_while_packets_overtake_each_other";
    run(name, Network::cable(1, 20), 2, true);
}

fn run(test: &str, network: Network, times: usize, lossy: bool) {
    let _turn = turn();
    let cases: Vec<Case> = (0..times).flat_map(|_| cases()).collect();
    let cases: Vec<&Case> = cases.iter().filter(|case| fits(case, lossy)).collect();
    let mut late = Late::between(network);
    late.raw(SERVER, PORT, &cases);
    thread::sleep(Duration::from_millis(500));
    let daemon = late.start_daemon();
    let since = now();
    late.go_on();
    let observed = late.finish(daemon);
    assert_eq!(observed.views.len(), 2 * cases.len());
    settle(test, &observed, lossy, |view| {
        let case = cases[usize::from(view.server_address.port() - PORT)];
        let may_fail = lossy && matches!(case.expect, Expect::Adopted);
        let expect = if may_fail {
            Expect::Maybe("evidence may be lost")
        } else {
            case.expect
        };
        (case.name.to_owned(), expect, since)
    });
}

fn fits(case: &Case, lossy: bool) -> bool {
    // Both ends write more than is on the way at one time before they read.
    let long = ["in the middle", "in every cut", "in every form"];
    // A reset in front of its turn is answered and comes again; the end that it meets may not have read.
    let resets = lossy && case.name.contains("reset");
    case.address != "::1" && !resets && !long.iter().any(|long| case.name.contains(long))
}
