//! Daemons that start in the middle of something.

use crate::{
    cases::{ADOPTED, Line, SILENT},
    verdict::Expect,
};

const BEFORE: Expect = Expect::Maybe("a Close frame passed before the start");

/// Whole scripts, but for the opening.
pub(crate) const MOMENTS: [Line; 25] = [
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
    (
        "closed by the client before the start, which answers pings",
        [
            "accept; await-close; say:open; await-word:go-on; part:9:ping:1; part:9:ping:1; ticks:5:0.01; await-frames:4; close; end",
            "upgrade; close; say:open; await-word:go-on; part:10:pong:1; pause:0.02; part:10:pong:1; pause:0.02; part:10:pong:1; pause:0.02; part:10:pong:1; await-close; await-eof; end",
        ],
        BEFORE,
    ),
    (
        "closed by the server before the start, which answers pings",
        [
            "accept; close; say:open; await-word:go-on; part:10:pong:1; pause:0.02; part:10:pong:1; pause:0.02; part:10:pong:1; pause:0.02; part:10:pong:1; await-close; end",
            "upgrade; await-close; say:open; await-word:go-on; ticks:5:0.01; await-frames:4; close; await-eof; end",
        ],
        BEFORE,
    ),
    (
        "answered after the start, the client closes",
        [
            "pause:0.1; say:open; await-word:go-on; accept; await-close; close; end",
            "ask; say:open; await-word:go-on; answer; close; await-close; await-eof; end",
        ],
        ADOPTED,
    ),
    (
        "answered after the start",
        [
            "pause:0.1; say:open; await-word:go-on; accept; turns:4; await-close; close; end",
            "ask; say:open; await-word:go-on; answer; turns:4; close; await-close; await-eof; end",
        ],
        ADOPTED,
    ),
];
