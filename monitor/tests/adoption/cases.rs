//! What raw ends do before the daemon starts, and after.

use crate::{late::Case, moments::MOMENTS, verdict::Expect};

/// Some messages each way, and then nothing until the daemon has started.
const TALK: &str = "texts:2; await-frames:2; say:open; await-word:go-on";
/// Enough frames each way to be told from anything else.
const TURNS: &str = "turns:4";

pub(crate) const ADOPTED: Expect = Expect::Adopted;
pub(crate) const SILENT: Expect = Expect::Never("a direction is silent");

/// On which address, what passes before, the server's and the client's steps after, what is expected.
pub(crate) type Line = (&'static str, [&'static str; 2], Expect);

/// Nothing passes after the start but Close frames and what follows them.
const IDLE: [Line; 14] = [
    (
        "idle, the client closes",
        [
            "await-close; close; end",
            "close; await-close; await-eof; end",
        ],
        ADOPTED,
    ),
    (
        "idle, the server closes",
        [
            "close:1001; await-close; end",
            "await-close; close:1001; await-eof; end",
        ],
        ADOPTED,
    ),
    (
        "idle, slow server",
        [
            "await-close; close; pause:1.3; end",
            "close; await-close; await-eof; end",
        ],
        ADOPTED,
    ),
    (
        "idle, the client gives up",
        [
            "await-close; close; await-eof; pause:0.2; end",
            "close; await-close; pause:1.3; end",
        ],
        ADOPTED,
    ),
    (
        "idle, a late answer, slow server",
        [
            "await-close; pause:0.4; close; pause:1.3; end",
            "close; await-close; await-eof; end",
        ],
        ADOPTED,
    ),
    (
        "idle, the client is early",
        [
            "await-close; close; await-eof; end",
            "close; await-close; end",
        ],
        ADOPTED,
    ),
    (
        "idle, no codes",
        [
            "await-close; close:none; end",
            "close:none; await-close; await-eof; end",
        ],
        ADOPTED,
    ),
    (
        "idle, long reasons",
        [
            "await-close; close:3000:123; end",
            "close:4999:123; await-close; await-eof; end",
        ],
        ADOPTED,
    ),
    (
        "idle, Close frame and FIN in a packet",
        [
            "await-close; close-fin; await-eof; end",
            "close; await-close; await-eof; end",
        ],
        ADOPTED,
    ),
    (
        "idle, reset by the server",
        [
            "await-close; close; reset",
            "close; await-close; await-eof; end",
        ],
        ADOPTED,
    ),
    (
        "idle, reset by the client",
        [
            "await-close; close; await-eof; end",
            "close; await-close; pause:1.2; reset",
        ],
        ADOPTED,
    ),
    (
        "idle, unanswered by the server",
        ["await-eof; end", "close; pause:1.3; end"],
        SILENT,
    ),
    (
        "idle, unanswered by the client",
        ["close; pause:1.3; end", "await-eof; end"],
        SILENT,
    ),
    (
        "idle, no Close frame",
        ["pause:0.2; end", "await-eof; end"],
        SILENT,
    ),
];

/// Both directions show frames before they end, in whatever way.
const TALKING: [Line; 15] = [
    (
        "clean",
        [
            "await-close; close; end",
            "close; await-close; await-eof; end",
        ],
        ADOPTED,
    ),
    (
        "slow server",
        [
            "await-close; close; pause:1.3; end",
            "close; await-close; await-eof; end",
        ],
        ADOPTED,
    ),
    (
        "the client gives up",
        [
            "await-close; close; await-eof; end",
            "close; await-close; pause:1.3; end",
        ],
        ADOPTED,
    ),
    (
        "unanswered by the server",
        ["await-eof; end", "close; pause:1.3; end"],
        ADOPTED,
    ),
    (
        "unanswered by the server that ends",
        ["await-close; end", "close; await-eof; end"],
        ADOPTED,
    ),
    (
        "unanswered by the client",
        ["close; pause:1.3; end", "await-eof; end"],
        ADOPTED,
    ),
    ("server early", ["close; end", "await-eof; end"], ADOPTED),
    (
        "the server ends without a Close frame",
        ["end", "await-eof; end"],
        ADOPTED,
    ),
    (
        "the client ends without a Close frame",
        ["await-eof; end", "end"],
        ADOPTED,
    ),
    (
        "the server resets",
        ["pause:0.1; reset", "await-eof; end"],
        ADOPTED,
    ),
    (
        "the client resets",
        ["await-eof; end", "pause:0.1; reset"],
        ADOPTED,
    ),
    (
        "codes that may not be sent",
        [
            "await-close; close:1005; end",
            "close:999; await-close; await-eof; end",
        ],
        ADOPTED,
    ),
    (
        "Close frames in many packets",
        [
            "await-close; close-cut:1000:20; end",
            "close-cut:4001:123; await-close; await-eof; end",
        ],
        ADOPTED,
    ),
    (
        "every header in every cut",
        [
            "cuts; await-close; close; end",
            "cuts; close; await-close; await-eof; end",
        ],
        ADOPTED,
    ),
    (
        "every length in every form",
        [
            "encodings; fragments; await-close; close; end",
            "encodings; fragments; close; await-close; await-eof; end",
        ],
        ADOPTED,
    ),
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for (before, lines) in [
        (TALK.to_owned(), &IDLE[..]),
        (format!("{TALK}; {TURNS}"), &TALKING[..]),
    ] {
        cases.extend(lines.iter().map(|&(name, [server, client], expect)| Case {
            name,
            address: "127.0.0.1",
            server: format!("accept; {before}; {server}"),
            client: format!("upgrade; {before}; {client}"),
            expect,
        }));
    }
    let others = MOMENTS.iter().map(|&(name, scripts, expect)| {
        let [server, client] = scripts.map(|script| script.replace("{TALK}", TALK));
        let opened = |word: &str, script: String| {
            if script.starts_with(word) || script.contains("accept;") || script.contains("answer;")
            {
                script
            } else {
                format!("{word}; {script}")
            }
        };
        Case {
            name,
            address: "127.0.0.1",
            server: opened("accept", server),
            client: opened("upgrade", client),
            expect,
        }
    });
    cases.extend(others);
    let six: Vec<Case> = [0, 1, 2, IDLE.len(), IDLE.len() + 7]
        .iter()
        .map(|&index| Case {
            name: cases[index].name,
            address: "::1",
            server: cases[index].server.clone(),
            client: cases[index].client.clone(),
            expect: cases[index].expect,
        })
        .collect();
    cases.extend(six);
    cases
}
