//! Both streams of a TCP connection → the opening handshake and the frames of each direction.
//!
//! An RFC 6455 reader written for these tests alone: it works on whole streams, after the fact, and
//! so has nothing in common with the product's, which works on packets.

use crate::tcp::{Connection, Stream};

pub(crate) struct Head<'a> {
    pub(crate) first_line: &'a str,
    headers: Vec<(&'a str, &'a str, usize)>,
    start: usize,
    pub(crate) end: usize,
}

impl<'a> Head<'a> {
    pub(crate) fn get(&self, name: &str) -> Option<&'a str> {
        self.find(name).map(|(_, value, _)| *value)
    }

    /// How many bytes of the head are needed to know the header.
    pub(crate) fn reaches_to(&self, name: &str) -> usize {
        self.find(name)
            .map_or(self.end - self.start, |(_, _, end)| end - self.start)
    }

    pub(crate) fn packets(&self, stream: &Stream) -> usize {
        stream.packets_in(self.start, self.end)
    }

    fn find(&self, name: &str) -> Option<&(&'a str, &'a str, usize)> {
        self.headers
            .iter()
            .find(|(other, ..)| other.eq_ignore_ascii_case(name))
    }

    /// Where the message ends that this head begins.
    fn message_end(&self) -> Option<usize> {
        let length = self
            .get("Content-Length")
            .map_or(Some(0), |value| value.parse().ok())?;
        Some(self.end + length)
    }
}

pub(crate) struct Upgrade<'a> {
    pub(crate) request: Head<'a>,
    pub(crate) response: Head<'a>,
}

/// The opening handshake; none for a connection that never becomes a WebSocket.
pub(crate) fn upgrade(connection: &Connection) -> Option<Upgrade<'_>> {
    let requests = &connection.sent_by_client.bytes;
    let responses = &connection.sent_by_server.bytes;
    let (mut asked, mut answered) = (0, 0);
    loop {
        let request = head(requests, asked)?;
        let response = head(responses, answered)?;
        let status = response.first_line.split(' ').nth(1)?;
        if status == "101" {
            let protocol = response.get("Upgrade")?;
            return protocol
                .eq_ignore_ascii_case("websocket")
                .then_some(Upgrade { request, response });
        }
        // An interim response: the request still waits for its answer (RFC 9110 section 15.2).
        if status.starts_with('1') {
            answered = response.end;
            continue;
        }
        asked = request.message_end()?;
        answered = response.message_end()?;
    }
}

fn head(bytes: &[u8], start: usize) -> Option<Head<'_>> {
    let rest = bytes.get(start..)?;
    // A line may end with LF alone (RFC 9112 section 2.2).
    let ends = |end: &[u8]| rest.windows(end.len()).position(|window| window == end);
    let crlf = ends(b"\n\r\n").map(|at| at + 3);
    let lf = ends(b"\n\n").map(|at| at + 2);
    let length = crlf.into_iter().chain(lf).min()?;
    let text = std::str::from_utf8(&rest[..length]).ok()?;
    let mut end = start;
    let mut lines = text.split_inclusive('\n').map(|line| {
        end += line.len();
        (line.trim_end(), end)
    });
    let (first_line, _) = lines.next()?;
    let headers = lines
        .filter_map(|(line, end)| {
            let (name, value) = line.split_once(':')?;
            Some((name, value.trim(), end))
        })
        .collect();
    Some(Head {
        first_line,
        headers,
        start,
        end: start + length,
    })
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Frames {
    /// The position after the header of each frame, up to the first Close frame.
    pub(crate) headers: Vec<usize>,
    /// The position after the first Close frame, and its code.
    pub(crate) close: Option<(usize, Option<u16>)>,
    /// Reading ended at a frame that RFC 6455 does not allow.
    pub(crate) broken: bool,
}

/// Reads the frames of a stream from a position on.
pub(crate) fn frames(bytes: &[u8], from: usize) -> Frames {
    let mut frames = Frames::default();
    let mut at = from;
    while let Some(header) = header(&bytes[at..]) {
        let control = header.opcode >= 8;
        let reserved = matches!(header.opcode, 3..=7 | 11..);
        let bad_control = control && (!header.fin || header.rsv != 0 || header.length > 125);
        let too_long = header.length >> 63 != 0;
        if reserved || bad_control || too_long || header.rsv & 0b011 != 0 {
            frames.broken = true;
            return frames;
        }
        let body = at + header.size;
        frames.headers.push(body);
        let Some(end) = body
            .checked_add(header.length as usize)
            .filter(|&end| end <= bytes.len())
        else {
            return frames;
        };
        if header.opcode == 8 {
            let byte = |index: usize| bytes[body + index] ^ header.mask[index];
            let code = (header.length >= 2).then(|| u16::from_be_bytes([byte(0), byte(1)]));
            frames.close = Some((end, code));
            return frames;
        }
        at = end;
    }
    frames
}

struct Header {
    fin: bool,
    rsv: u8,
    opcode: u8,
    length: u64,
    mask: [u8; 4],
    size: usize,
}

fn header(bytes: &[u8]) -> Option<Header> {
    let [first, second, rest @ ..] = bytes else {
        return None;
    };
    let (length, extra) = match second & 0x7f {
        126 => (u64::from(u16::from_be_bytes(*rest.first_chunk()?)), 2),
        127 => (u64::from_be_bytes(*rest.first_chunk()?), 8),
        short => (u64::from(short), 0),
    };
    let masked = second & 0x80 != 0;
    let mask = if masked {
        *rest.get(extra..)?.first_chunk()?
    } else {
        [0; 4]
    };
    Some(Header {
        fin: first & 0x80 != 0,
        rsv: first >> 4 & 7,
        opcode: first & 0xf,
        length,
        mask,
        size: 2 + extra + if masked { 4 } else { 0 },
    })
}
