//! What raw ends do before the daemon starts, and after.

use crate::{late::Case, verdict::Expect};

/// Some messages each way, and then nothing until the daemon has started.
const TALK: &str = "texts:2; await-frames:2; say:open; await-word:go-on";
/// Enough frames each way to be told from anything else.
const TURNS: &str = "turns:4";

const ADOPTED: Expect = Expect::Adopted;
const SILENT: Expect = Expect::Never("a direction is silent");
const BEFORE: Expect = Expect::Maybe("a Close frame passed before the start");

/// On which address, what passes before, the server's and the client's steps after, what is expected.
type Line = (&'static str, [&'static str; 2], Expect);

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

/// Whole scripts, but for the opening.
const OTHERS: [Line; 21] = [
    (
        "pushed to a silent client, which closes",
        [
            "{TALK}; ticks:5:0.01; await-close; close; end",
            "{TALK}; await-frames:5; close; await-close; await-eof; end",
        ],
        ADOPTED,
    ),
    (
        "pushed to a silent client, the server closes",
        [
            "{TALK}; ticks:5:0.01; close; await-close; end",
            "{TALK}; await-frames:5; await-close; close; await-eof; end",
        ],
        ADOPTED,
    ),
    (
        "pushed to a silent client, no Close frame",
        [
            "{TALK}; ticks:5:0.01; end",
            "{TALK}; await-frames:5; await-eof; end",
        ],
        SILENT,
    ),
    (
        "a silent server",
        [
            "{TALK}; await-close; close; end",
            "{TALK}; ticks:5:0.01; close; await-close; await-eof; end",
        ],
        ADOPTED,
    ),
    (
        "pushed while the daemon starts",
        [
            "accept; say:open; ticks-until:go-on:0.002; await-close; close; end",
            "upgrade; say:open; await-word:go-on; close; await-close; await-eof; end",
        ],
        ADOPTED,
    ),
    (
        "turns while the daemon starts",
        [
            "accept; say:open; echo-until-close; close; end",
            "upgrade; say:open; turns-until:go-on; close; await-close; await-eof; end",
        ],
        ADOPTED,
    ),
    (
        "64 KiB each way, then closed",
        [
            "{TALK}; turns:3:65536; await-close; close; end",
            "{TALK}; turns:3:65536; close; await-close; await-eof; end",
        ],
        ADOPTED,
    ),
    (
        "1 MB each way, then closed",
        [
            "{TALK}; await-frames:2; texts:2:1000000; await-close; close; end",
            "{TALK}; texts:2:1000000; await-frames:2; close; await-close; await-eof; end",
        ],
        ADOPTED,
    ),
    (
        "in the middle of the server's message",
        [
            "accept; say:open; texts:1:20000000; turns:4; await-close; close; end",
            "upgrade; say:open; await-word:go-on; await-frames:1; turns:4; close; await-close; await-eof; end",
        ],
        ADOPTED,
    ),
    (
        "in the middle of the client's message",
        [
            "accept; say:open; await-word:go-on; await-frames:1; turns:4; close; await-close; end",
            "upgrade; say:open; texts:1:20000000; turns:4; await-close; close; await-eof; end",
        ],
        ADOPTED,
    ),
    (
        "between the fragments of the server's message",
        [
            "accept; part:1; say:open; await-word:go-on; part:0; part:9:ping:1; part:0:last:1; turns:3; await-close; close; end",
            "upgrade; say:open; await-word:go-on; await-frames:4; turns:3; close; await-close; await-eof; end",
        ],
        ADOPTED,
    ),
    (
        "between the fragments of the client's message",
        [
            "accept; say:open; await-word:go-on; await-frames:3; turns:3; close; await-close; end",
            "upgrade; part:1; say:open; await-word:go-on; part:0; part:0:last:1; turns:3; await-close; close; await-eof; end",
        ],
        ADOPTED,
    ),
    (
        "between the bytes of headers",
        [
            "accept; bytes:817e00; say:open; await-word:go-on; bytes:057474747474; turns:4; await-close; close; end",
            "upgrade; bytes:8281; say:open; await-word:go-on; bytes:ffff000078; turns:4; close; await-close; await-eof; end",
        ],
        ADOPTED,
    ),
    (
        "between the bytes of a header whose rest looks like another",
        [
            "accept; bytes:81; say:open; await-word:go-on; bytes:0178; turns:4; await-close; close; end",
            "upgrade; say:open; await-word:go-on; turns:4; close; await-close; await-eof; end",
        ],
        Expect::Maybe("a frame seems to go on for longer than all that follows"),
    ),
    (
        "in pieces that begin and end anywhere",
        [
            "{TALK}; texts:100:3:7; await-close; close; end",
            "{TALK}; texts:100:130:11; close; await-close; await-eof; end",
        ],
        ADOPTED,
    ),
    (
        "a client that does not mask",
        [
            "{TALK}; turns:4; await-close; close; end",
            "{TALK}; unmasked; await-frames:1; unmasked; await-frames:1; unmasked; await-frames:1; unmasked; await-frames:1; bytes:880203e8; await-close; await-eof; end",
        ],
        Expect::Never("its frames are not masked"),
    ),
    (
        "closed by the client before the start",
        [
            "accept; await-close; say:open; await-word:go-on; close; end",
            "upgrade; close; say:open; await-close; await-eof; end",
        ],
        BEFORE,
    ),
    (
        "closed by the server before the start",
        [
            "accept; close; say:open; await-close; end",
            "upgrade; await-close; say:open; await-word:go-on; ticks:5:0.01; close; await-eof; end",
        ],
        BEFORE,
    ),
    (
        "closed by both before the start",
        [
            "accept; await-close; close; say:open; await-word:go-on; end",
            "upgrade; close; await-close; say:open; await-eof; end",
        ],
        BEFORE,
    ),
    (
        "closed by the client before the start, the server talks on",
        [
            "accept; await-close; say:open; await-word:go-on; ticks:5:0.01; close; end",
            "upgrade; close; say:open; await-close; await-eof; end",
        ],
        BEFORE,
    ),
    (
        "half-closed by the client before the start",
        [
            "accept; await-close; await-eof; say:open; await-word:go-on; ticks:5:0.01; close; end",
            "upgrade; close; fin; say:open; await-close; await-eof; end",
        ],
        BEFORE,
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
    let others = OTHERS.iter().map(|&(name, scripts, expect)| {
        let [server, client] = scripts.map(|script| script.replace("{TALK}", TALK));
        let opened = |word: &str, script: String| {
            if script.starts_with(word) {
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
