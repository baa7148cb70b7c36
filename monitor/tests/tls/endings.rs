//! Both ends told what to do, over TLS: every outcome, and keys that are renewed on the way.

use crate::{
    scene::{Scene, now},
    turn,
    verdict::{TOLERANCE, settle},
};

/// What it is, the server's steps and the client's, after the opening.
const CASES: [(&str, [&str; 2]); 13] = [
    (
        "clean",
        [
            "await-close; close; end",
            "close; await-close; await-eof; end",
        ],
    ),
    (
        "slow_server",
        [
            "await-close; close; pause:1.3; end",
            "close; await-close; await-eof; end",
        ],
    ),
    (
        "client_gave_up",
        [
            "await-close; close; await-eof; end",
            "close; await-close; pause:1.3; end",
        ],
    ),
    (
        "client_early",
        [
            "await-close; close; await-eof; end",
            "close; await-close; end",
        ],
    ),
    (
        "unanswered_by_server",
        ["await-eof; end", "close; pause:1.3; end"],
    ),
    (
        "unanswered_by_server",
        ["await-close; end", "close; await-eof; end"],
    ),
    (
        "unanswered_by_client",
        ["close; pause:1.3; end", "await-eof; end"],
    ),
    ("server_early", ["close; end", "await-eof; end"]),
    ("abnormal", ["end", "await-eof; end"]),
    ("abnormal", ["await-eof; end", "pause:0.1; reset"]),
    (
        "clean",
        [
            "await-close; close-cut:4001:9; end",
            "close-cut:4002:123; await-close; await-eof; end",
        ],
    ),
    (
        "clean",
        [
            "renew; turns:2; await-close; close:4003; end",
            "turns:1; renew; turns:1; renew; close:4003; await-close; await-eof; end",
        ],
    ),
    (
        "clean",
        [
            "cuts; encodings; fragments; await-close; close:4004; end",
            "cuts; fragments; close:4004; await-close; await-eof; end",
        ],
    ),
];

#[test]
#[ignore = "needs root"]
fn every_outcome() {
    let _turn = turn();
    let mut scene = Scene::new(None);
    let daemon = scene.daemon();
    let since = now();
    scene.raw(CASES.map(|(_, [server, client])| {
        [
            format!("accept; turns:2; {server}"),
            format!("upgrade; turns:2; {client}"),
        ]
    }));
    for role in [r#"role="client""#, r#"role="server""#] {
        let counted = daemon.metric("closewatch_tls_connections_total", &[role]);
        assert_eq!(counted, CASES.len() as f64, "{role}");
    }
    let observed = scene.finish(daemon);
    assert_eq!(observed.views.len(), 2 * CASES.len());
    for view in &observed.views {
        let case = usize::from(view.server_address.port() - crate::scene::RAW_PORT);
        let judged = crate::judge::judge(view.client, view.server, 1_000_000_000).unwrap();
        assert_eq!(judged.outcome, CASES[case].0, "{view:?}");
    }
    settle("every_outcome", &observed, TOLERANCE, since);
}
