//! Readers that are slow, or do not read, and what is as short as an alert: the server's steps and the client's, once a
//! WebSocket is open.

use super::rule::{Rule, Rule::*};

/// What counts is when a Close frame passed, and not when it was read.
pub(super) const SLOW: [(&str, [&str; 2], [Rule; 2]); 4] = [
    (
        "a slow server",
        [
            "pause:1.5; await-close; close; end",
            "close; await-close; await-eof; end",
        ],
        [Told, Told],
    ),
    (
        "a slow server that writes",
        [
            "texts:20:9000; pause:1.5; texts:20:9000; await-close; close; notify; end",
            "close:4000; await-close; notify; await-eof; end",
        ],
        [Told, Told],
    ),
    (
        "a slow client that wrote",
        [
            "close:4001; await-close; end",
            "texts:20:9000; pause:1.5; await-close; close; await-eof; end",
        ],
        [Told, Told],
    ),
    (
        "both slow, and both sessions ended at once",
        [
            "pause:1.5; await-close; close:none; notify; end",
            "texts:3:100; close:none; notify; pause:1.6; await-close; await-eof; end",
        ],
        // The alert that the server did not read makes it reset the connection, maybe before the client has read all.
        [Told, MayBeLost],
    ),
];

/// Of what one end did not read it may know nothing. What the other one read, or sent, it knows.
pub(super) const UNREAD: [(&str, [&str; 2], [Rule; 2]); 12] = [
    (
        "a server ends with the Close frame unread",
        ["pause:0.3; end", "close; await-eof; end"],
        [MayBeLost, Told],
    ),
    (
        "both do",
        ["close; pause:0.3; end", "close; pause:0.3; end"],
        [MayBeLost, MayBeLost],
    ),
    (
        "a client does, with a message in front of it",
        ["texts:2; close:4001; await-eof; end", "pause:0.3; end"],
        [Told, MayBeLost],
    ),
    (
        "a client does, with an alert behind it",
        ["close:4001; notify; await-eof; end", "pause:0.3; end"],
        [Told, MayBeLost],
    ),
    (
        "a client does, with an alert and a FIN behind it",
        ["close:4001; notify; end", "pause:0.3; end"],
        [MayBeLost, MayBeLost],
    ),
    (
        "a client does, and it is empty",
        ["close:none; end", "pause:0.3; end"],
        [MayBeLost, MayBeLost],
    ),
    (
        "a client does, and it is empty, with an alert behind it",
        ["close:none; notify; end", "pause:0.3; end"],
        [MayBeLost, MayBeLost],
    ),
    (
        "a client does that has sent one, and it is empty",
        ["close:none; await-eof; end", "close:none; pause:0.3; end"],
        [Told, MayBeLost],
    ),
    (
        "a client ends with an alert unread",
        ["notify; end", "pause:0.3; end"],
        [MayBeLost, MayBeLost],
    ),
    (
        "a server ends with an empty Close frame and an alert unread",
        ["pause:0.3; end", "close:none; notify; end"],
        [MayBeLost, MayBeLost],
    ),
    (
        "a server does that says so",
        [
            "pause:0.3; notify; end",
            "close:none; notify; await-eof; end",
        ],
        [MayBeLost, MayBeLost],
    ),
    (
        "a server resets the connection with a Close frame unread",
        ["pause:0.3; reset", "texts:1; close:4009; await-eof; end"],
        [MayBeLost, Told],
    ),
];

/// A Close frame without a code is as long as an alert, over TLS 1.3 and where it is not masked.
pub(super) const AS_SHORT_AS_AN_ALERT: [(&str, [&str; 2], [Rule; 2]); 8] = [
    (
        "empty Close frames",
        [
            "await-close; close:none; end",
            "close:none; await-close; await-eof; end",
        ],
        [Told, Told],
    ),
    (
        "empty Close frames with alerts",
        [
            "await-close; close:none; notify; end",
            "close:none; notify; await-close; await-eof; end",
        ],
        [Told, MayBeLost],
    ),
    (
        "empty Close frames with alerts, the server's first",
        [
            "close:none; await-close; notify; end",
            "await-close; close:none; notify; await-eof; end",
        ],
        [Told, Told],
    ),
    (
        "empty Close frames, the server's with its alert",
        [
            "close:none; notify; await-close; end",
            "await-close; close:none; await-eof; end",
        ],
        [Told, Told],
    ),
    (
        "an empty Close frame without an answer",
        [
            "close:none; pause:0.3; end",
            "await-close; pause:1.2; close; await-eof; end",
        ],
        // The server's kernel answers with an RST before the call that writes the Close frame returns.
        [MayBeLost, MayBeUnsent],
    ),
    (
        "an empty Close frame and an alert without an answer",
        ["close:none; notify; await-eof; end", "await-close; end"],
        [Told, Told],
    ),
    (
        "alerts alone",
        ["notify; await-eof; end", "await-eof; notify; end"],
        [Told, Told],
    ),
    (
        "the client's alert alone",
        ["await-eof; end", "notify; end"],
        [Told, MayBeLost],
    ),
];
