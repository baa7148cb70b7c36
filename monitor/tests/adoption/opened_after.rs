//! What opens after the start is followed from its opening, and is nobody's candidate.

use std::{thread, time::Duration};

use crate::{
    late::{Case, Late, now},
    turn,
    verdict::{Expect, settle},
};

const PORT: u16 = 9100;
const LATER_PORT: u16 = 9200;

#[test]
#[ignore = "needs root"]
fn what_opens_after_the_start_is_not_adopted() {
    let _turn = turn();
    let case = |name, server: &str, client: &str| Case {
        name,
        address: "127.0.0.1",
        server: server.to_owned(),
        client: client.to_owned(),
        expect: Expect::Opened,
    };
    const SERVER: &str = "turns:3; await-close; close; end";
    const CLIENT: &str = "turns:3; close; await-close; await-eof; end";
    const WAIT: &str = "say:open; await-word:go-on";
    let kept_alive = |served: &str, asked: &str| {
        case(
            "upgraded after the start",
            &format!("{served}; {WAIT}; accept; {SERVER}"),
            &format!("{asked}; {WAIT}; upgrade; {CLIENT}"),
        )
    };
    let before = [
        kept_alive("serve", "get"),
        kept_alive("serve; serve:70000; serve:0", "get; get:/other; get"),
        kept_alive("pause:0", "pause:0"),
        // Other requests come first after the start, too.
        case(
            "upgraded after other requests",
            &format!("serve; {WAIT}; serve:300; serve:70000; accept; {SERVER}"),
            &format!("get; {WAIT}; get; get; upgrade; {CLIENT}"),
        ),
    ];
    let mut late = Late::new();
    late.raw("127.0.0.1", PORT, &before.each_ref());
    thread::sleep(Duration::from_millis(100));
    let daemon = late.start_daemon();
    let since = now();
    let candidates = daemon.metric("closewatch_adoption_candidates_total", &[]);
    let after: Vec<Case> = (0..20)
        .map(|_| {
            case(
                "opened after the start",
                &format!("accept; {WAIT}; {SERVER}"),
                &format!("upgrade; {WAIT}; {CLIENT}"),
            )
        })
        .collect();
    late.raw("127.0.0.1", LATER_PORT, &after.iter().collect::<Vec<_>>());
    late.go_on();
    let observed = late.finish(daemon);
    assert_eq!(observed.views.len(), 2 * (before.len() + after.len()));
    settle(
        "what_opens_after_the_start_is_not_adopted",
        &observed,
        false,
        |view| {
            let later = view.server_address.port() >= LATER_PORT;
            let kind = if later { "opened" } else { "upgraded" };
            (format!("{kind} after the start"), Expect::Opened, since)
        },
    );
    let counts = &observed.counts;
    assert_eq!(
        (counts.adopted, counts.opened),
        (0.0, observed.views.len() as f64),
        "{counts:?}"
    );
    assert_eq!(
        counts.candidates, candidates,
        "only the start looks for them"
    );
    assert!(candidates >= 2.0 * before.len() as f64);
}
