//! What the ends do, and what is known of it.

use super::{
    readers::{AS_SHORT_AS_AN_ALERT, SLOW, UNREAD},
    rule::{Rule, Rule::*},
};

pub(super) struct Case {
    pub(super) what: &'static str,
    /// The server's and the client's, in the words of `odd_raw.py`.
    pub(super) scripts: [String; 2],
    /// Of the server's end and of the client's.
    pub(super) rules: [Rule; 2],
    /// What is between them: see `between.rs`.
    pub(super) between: Option<&'static str>,
    /// WebSockets that they open, one after the other.
    pub(super) connections: usize,
}

const OPEN: [&str; 2] = ["accept; turns:2", "upgrade; turns:2"];
const CLOSE: [&str; 2] = [
    "await-close; close:4001; notify; end",
    "close:4000; await-close; await-eof; end",
];
/// Over a socket, or in memory.
const TRANSPORTS: [&str; 2] = ["socket", "memory"];

fn case(what: &'static str, scripts: [String; 2], rules: [Rule; 2]) -> Case {
    Case {
        what,
        scripts,
        rules,
        between: None,
        connections: 1,
    }
}

/// Both ends open a WebSocket, and go on so, over each transport.
fn opened(cases: &[(&'static str, [&str; 2], [Rule; 2])]) -> Vec<Case> {
    let both = cases.iter().flat_map(|(what, scripts, rules)| {
        TRANSPORTS.map(|how| {
            let script = |index: usize| format!("tls:{how}; {}; {}", OPEN[index], scripts[index]);
            case(what, [script(0), script(1)], *rules)
        })
    });
    both.collect()
}

/// Both ends begin so, open a WebSocket and close it.
fn beginning(what: &'static str, begins: [String; 2]) -> Case {
    let script = |index: usize| format!("{}; {}; {}", begins[index], OPEN[index], CLOSE[index]);
    case(what, [script(0), script(1)], [Told, Told])
}

pub(super) fn light() -> Vec<Case> {
    let mut cases = beginnings();
    cases.append(&mut opened(&SLOW));
    cases.append(&mut opened(&UNREAD));
    cases.append(&mut opened(&AS_SHORT_AS_AN_ALERT));
    cases
}

fn beginnings() -> Vec<Case> {
    let mut cases = Vec::new();
    for how in TRANSPORTS {
        cases.push(beginning(
            "behind lines of plaintext",
            [
                format!("line:220 ready; await-line; line:220 go ahead; tls:{how}"),
                format!("await-line; line:STARTTLS; await-line; tls:{how}"),
            ],
        ));
        cases.push(beginning(
            "the server wants another group, and a second Hello (RFC 8446 section 4.1.4)",
            [format!("tls:{how}:secp384r1"), format!("tls:{how}")],
        ));
    }
    cases
}

pub(super) fn beside_a_child() -> Vec<Case> {
    let script = |index: usize| {
        let [open, close] = [OPEN[index], CLOSE[index]];
        format!("tls; {open}; child:0.6; turns:1; {close}")
    };
    let what = "a child has the session and the descriptor, too, and lets go of them";
    vec![case(what, [script(0), script(1)], [Told, Told])]
}

/// As servers do that have a process for each connection, and TLS in the one before.
pub(super) fn handed_to_a_child() -> Vec<Case> {
    let close = CLOSE[0].replace("; ", "+");
    [
        ("right after the handshake", "", "accept+turns:2"),
        ("in an open WebSocket", "accept; turns:1; ", "turns:1"),
    ]
    .map(|(what, before, after)| {
        let server = format!("tls; {before}hand-over:pause:0.6+{after}+{close}");
        let client = format!("tls; {}; {}", OPEN[1], CLOSE[1]);
        case(what, [server, client], [MayBeHidden, Told])
    })
    .into()
}

/// The very records leave two sockets, and only one of them is their session's.
pub(super) fn passed_on() -> Vec<Case> {
    let mut cases = Vec::new();
    for how in TRANSPORTS {
        let connect = beginning(
            "a proxy is asked to connect",
            [
                format!("tls:{how}"),
                format!(
                    "line:CONNECT raw.test HTTP/1.1; line:Host raw.test; line; await-line; await-line; tls:{how}"
                ),
            ],
        );
        cases.push(Case {
            between: Some("connect"),
            ..connect
        });
        for kind in ["bytes", "records"] {
            let script = |index: usize| {
                let [open, close] = [OPEN[index], CLOSE[index]];
                format!("tls:{how}; {open}; turns:2:70000; {close}")
            };
            cases.push(Case {
                what: "TLS is passed on",
                scripts: [script(0), script(1)],
                rules: [Told, Told],
                between: Some(kind),
                connections: 1,
            });
        }
    }
    cases
}

/// One side of TLS is rustls', and the other one of the program has plaintext.
pub(super) fn followed_by_nobody() -> Vec<Case> {
    let mut cases = Vec::new();
    for how in TRANSPORTS {
        let tls = format!("tls:{how}; ");
        for (kind, first) in [
            ("rustls client", [&*tls, ""]),
            ("rustls server", ["", &*tls]),
        ] {
            let script = |index: usize| {
                let [open, close] = [OPEN[index], CLOSE_UNSAID[index]];
                format!("{}{open}; turns:2:70000; {close}", first[index])
            };
            cases.push(Case {
                between: Some(kind),
                ..case("rustls", [script(0), script(1)], [Told, Told])
            });
        }
    }
    cases
}

const CLOSE_UNSAID: [&str; 2] = [
    "await-close; close:4001; end",
    "close:4000; await-close; await-eof; end",
];

/// Opened before the daemon starts, which then finds them at any place of a record.
pub(super) fn long_open() -> Vec<Case> {
    let mut cases = Vec::new();
    for how in TRANSPORTS {
        for kind in ["bytes", "records"] {
            let [server, client] = OPEN;
            cases.push(Case {
                what: "TLS is passed on, and was before the daemon",
                scripts: [
                    format!("tls:{how}; {server}; echo-until-close; close; end"),
                    format!(
                        "tls:{how}; {client}; say:open; await-word:go; texts:3:300000; texts:3:30000; close:4007; await-close; await-eof; end"
                    ),
                ],
                rules: [MayBeHidden, MayBeHidden],
                between: Some(kind),
                connections: 1,
            });
        }
    }
    cases
}

pub(super) fn heavy() -> Vec<Case> {
    opened(&[
        (
            "a client's Close frame waits in the kernel",
            [
                "window:60000; pause:1.2; await-close; close; end",
                "window:60000; texts:1:1500000; close:4002; await-close; await-eof; end",
            ],
            [Told, Told],
        ),
        (
            "a server's Close frame waits in the kernel",
            [
                "window:60000; texts:1:1500000; close:4003; await-close; end",
                "window:60000; pause:1.2; await-close; close; await-eof; end",
            ],
            [Told, Told],
        ),
        (
            "a server's Close frame waits behind less",
            [
                "window:60000; ticks:1:0.05; texts:1:400000; close:4003; await-close; end",
                "window:60000; texts:2:100; pause:0.8; await-close; close; await-eof; end",
            ],
            [Told, Told],
        ),
        (
            "a client's Close frame never leaves, and the server resets",
            [
                "window:20000; pause:1; reset",
                "give-up-sending:4005; pause:0.2; end",
            ],
            [MayBeLost, MayBeUnsent],
        ),
        (
            "a client's Close frame never leaves, and it resets",
            ["window:20000; pause:1; end", "give-up-sending:4005; reset"],
            [MayBeLost, MayBeUnsent],
        ),
        (
            "a server's Close frame never leaves, and the client resets",
            ["give-up-sending:4005; end", "window:20000; pause:1; reset"],
            [MayBeUnsent, MayBeLost],
        ),
    ])
}

/// In the words of `library_peer.py`.
pub(super) fn by_library() -> Vec<Case> {
    let scripts = |between: [&str; 2]| {
        [0, 1].map(|index| {
            let [open, close] = [OPEN[index], CLOSE_BY_LIBRARY[index]];
            format!("tls; {open}; {}; {open}; {close}", between[index])
        })
    };
    vec![
        case(
            "the object of a session that carried nothing is used again",
            [
                format!("tls; again; tls; {}; {}", OPEN[0], CLOSE_BY_LIBRARY[0]),
                format!("tls; again; tls; {}; {}", OPEN[1], CLOSE_BY_LIBRARY[1]),
            ],
            [MayBeHidden, MayBeHidden],
        ),
        case(
            "a session's object has two holders, and one lets go of it",
            [
                format!("tls; {}; lend; turns:1; {}", OPEN[0], CLOSE_BY_LIBRARY[0]),
                format!("tls; {}; lend; turns:1; {}", OPEN[1], CLOSE_BY_LIBRARY[1]),
            ],
            // The call by which the first lets go looks like the one that frees it.
            [MayBeHidden, MayBeHidden],
        ),
        Case {
            connections: 2,
            ..case(
                "a session's object is used again",
                scripts([
                    "await-close; close:4011; again; tls",
                    "close:4010; await-close; await-eof; again; tls",
                ]),
                [Told, Told],
            )
        },
        Case {
            connections: 2,
            ..case(
                "a request comes with the first Hello, and is answered before the handshake is over",
                [
                    format!(
                        "tls; {}; await-close; close:4011; early; accept; texts:1; await-frames:1; expect-early; turns:1; {}",
                        OPEN[0], CLOSE_BY_LIBRARY[0]
                    ),
                    format!(
                        "tls; {}; close:4010; await-close; await-eof; early; ask; finish; answer; texts:1; await-frames:1; turns:1; {}",
                        OPEN[1], CLOSE_BY_LIBRARY[1]
                    ),
                ],
                [Told, Told],
            )
        },
    ]
}

const CLOSE_BY_LIBRARY: [&str; 2] = [
    "await-close; close:4021; end",
    "close:4020; await-close; await-eof; end",
];

/// In the words of `openssl_peer.py`.
pub(super) fn by_program() -> Vec<Case> {
    let script = |index: usize, close: &str| {
        let open = OPEN[index];
        let say = if index == 1 { "say:open; " } else { "" };
        format!("{open}; {say}pause:0.3; texts:3:70; await-frames:3; {close}")
    };
    let closes = [
        [
            "await-close; close:4001; await-eof; end",
            "close:4000; await-close; end",
        ],
        [
            "close:4003; await-close; await-eof; end",
            "await-close; close:4002; end",
        ],
        [
            "await-close; close:none; await-eof; end",
            "close:none; await-close; pause:0.2; end",
        ],
    ];
    closes
        .map(|close| {
            let scripts = [script(0, close[0]), script(1, close[1])];
            case("programs of OpenSSL's", scripts, [Told, Told])
        })
        .into()
}
