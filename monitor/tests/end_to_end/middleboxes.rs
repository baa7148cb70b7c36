//! What stands between the two TCPs, on the host itself.

use std::process::Command;

use crate::stage::{Pair, Stage};

/// nft's own: the server's host answers SYNs in its stead, and from then on numbers the server's bytes anew.
const SYNPROXY: &str = "
    table ip proxy {
        chain before { type filter hook prerouting priority raw; tcp flags syn notrack; }
        chain input {
            type filter hook input priority filter;
            ct state { invalid, untracked } synproxy mss 1460 wscale 7 timestamp sack-perm;
        }
    }";

/// What the server sends has other numbers on the wire than those that its socket waits to see acknowledged, so
/// its end is not followed, and counted; the client's is whole.
#[test]
#[ignore = "needs root"]
fn a_syn_proxy() {
    let stage = Stage::wire("a_syn_proxy");
    let inside = |program: &str, arguments: &[&str]| {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", stage.sandbox.namespace(1), program]);
        let output = command.args(arguments).output().unwrap();
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {output:?}"
        );
    };
    inside("sysctl", &["-w", "net.netfilter.nf_conntrack_tcp_loose=0"]);
    inside("nft", &[SYNPROXY]);
    stage.raw(&[Pair {
        server: "accept; texts:2; await-close; close; pause:0.2; end",
        client: "upgrade; texts:3; close; await-close; await-eof; end",
    }]);
    let lost = ["renumbered"];
    let lost = stage.daemon.metric("closewatch_sockets_lost_total", &lost);
    let observed = stage.observe(1);
    let told = observed.records.iter().map(|record| {
        let word = |field: &str| record[field].as_str().unwrap_or("nothing").to_owned();
        [word("role"), word("outcome"), word("time_wait")]
    });
    let told: Vec<_> = told.collect();
    assert_eq!(
        told,
        [["client", "clean", "server"]],
        "{:#?}",
        observed.losses
    );
    assert_eq!(lost, 1.0);
}
