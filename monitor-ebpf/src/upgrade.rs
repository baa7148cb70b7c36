//! Recognises the response that makes a connection a WebSocket, byte by byte, over any number of
//! packets.
//!
//! In: the bytes of a response from its first on. Out: where the head ends, and whether it is a
//! `101` with `Upgrade: websocket` (RFC 6455 section 4.2.2). Never: what else the head says.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::proxy;

/// The longest head that is followed to its end, in bytes.
pub const HEAD_MAX: u16 = 16 * 1024;

/// How a response that is looked for begins; a blank follows, or the line's end.
pub const STATUS_LINE: [u8; 12] = *b"HTTP/1.1 101";

/// How a request that is kept begins.
pub const REQUEST_LINE: [u8; 4] = *b"GET ";

/// Whether a head ends with its last bytes so far, the last one lowest: with an empty line. LF ends a line
/// with or without a CR (RFC 9112 section 2.2).
#[inline(always)]
#[must_use]
pub fn ends_head(tail: u32) -> bool {
    tail & 0xff_ffff == u32::from_be_bytes(*b"\0\n\r\n")
        || tail & 0xffff == u32::from_be_bytes(*b"\0\0\n\n")
}

/// What the first bytes of a payload begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// A request, whose head is kept until the response.
    Request,
    /// The header of the PROXY protocol, behind which a request may begin: see `proxy.rs`.
    Proxied,
    /// A response that may be the one looked for.
    Response,
    /// Another response.
    OtherResponse,
    /// None of these. An interim response (`100`, `103`) is none either: what it is sent for still waits
    /// (RFC 9110 section 15.2).
    Neither,
}

impl Beginning {
    /// Bytes of a payload that decide.
    pub const BYTES: u32 = STATUS_LINE.len() as u32;

    /// Judges the first `length` bytes. Fewer than decide begin what they agree with.
    #[inline(always)]
    #[must_use]
    pub fn of(bytes: &[u8; 16], length: u32) -> Self {
        const STATUS: [u64; 2] = words(&STATUS_LINE);
        const GET: [u64; 2] = words(&REQUEST_LINE);
        const VERSION: u32 = b"HTTP/1.".len() as u32;
        let [low, high] = words(bytes);
        let first = mask(length);
        let second = mask(length.saturating_sub(8));
        let response = (low ^ STATUS[0]) & first == 0
            && (high ^ STATUS[1]) & second & mask(STATUS_LINE.len() as u32 - 8) == 0;
        let request = (low ^ GET[0]) & first & mask(REQUEST_LINE.len() as u32) == 0;
        let version = (low ^ STATUS[0]) & mask(VERSION) == 0;
        // The blank and the first digit: of status codes below 200, the 101 alone is final.
        let interim = low == STATUS[0] && (high ^ STATUS[1]) & mask(2) == 0;
        const TEXT: [u64; 2] = words(&proxy::TEXT);
        const BINARY: [u64; 2] = words(&proxy::BINARY);
        let text = low & mask(proxy::TEXT.len() as u32) == TEXT[0];
        let binary = low == BINARY[0] && high & mask(proxy::BINARY.len() as u32 - 8) == BINARY[1];
        match (response, request) {
            _ if length == 0 => Self::Neither,
            (true, _) => Self::Response,
            (false, true) => Self::Request,
            (false, false) if text || binary => Self::Proxied,
            (false, false) if version && !interim && length >= Self::BYTES => Self::OtherResponse,
            (false, false) => Self::Neither,
        }
    }
}

/// Up to 16 bytes as two little-endian words, zeros behind.
const fn words(bytes: &[u8]) -> [u64; 2] {
    let mut words = [0; 2];
    let mut at = 0;
    while at < bytes.len() && at < 16 {
        words[at / 8] |= (bytes[at] as u64) << (8 * (at % 8));
        at += 1;
    }
    words
}

/// The first `length` bytes of a little-endian word.
const fn mask(length: u32) -> u64 {
    if length < 8 {
        (1 << (8 * length)) - 1
    } else {
        u64::MAX
    }
}

const FIELD: [u8; 8] = *b"upgrade:";
const TOKEN: [u8; 9] = *b"websocket";
/// Marks a line, or a token of its value, that is not the one looked for.
const OTHER: u8 = 0xff;

/// What one more byte says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    /// The head goes on.
    More,
    /// The head ended with this byte, and made the connection a WebSocket.
    WebSocket,
    /// This is no WebSocket's opening.
    Other,
    /// The head is longer than [`HEAD_MAX`].
    TooLong,
}

/// How far a head was read. All zero is its beginning.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ResponseHead {
    /// Bytes read.
    length: u16,
    /// Bytes read of this line, without its end; stops at 255.
    line: u8,
    /// Bytes of `FIELD` that this line began with, or `OTHER`.
    field: u8,
    /// Bytes of `TOKEN` that the current token of the value began with, or `OTHER`.
    token: u8,
    /// A line said `Upgrade: websocket`.
    websocket: u8,
    reserved: u16,
}

impl ResponseHead {
    /// Whether no byte was taken yet.
    #[inline(always)]
    #[must_use]
    pub fn is_at_beginning(&self) -> bool {
        self.length == 0
    }

    /// Takes the next byte.
    #[inline(always)]
    pub fn push(&mut self, byte: u8) -> Scan {
        let at = self.length;
        self.length = at + 1;
        if let Some(expected) = STATUS_LINE.get(usize::from(at)) {
            // The status line is neither empty nor a field, whatever ends it.
            self.line = 1;
            self.field = OTHER;
            return if byte == *expected {
                Scan::More
            } else {
                Scan::Other
            };
        }
        if at == STATUS_LINE.len() as u16 && !matches!(byte, b' ' | b'\r' | b'\n') {
            return Scan::Other;
        }
        if at >= HEAD_MAX {
            return Scan::TooLong;
        }
        match byte {
            b'\n' => self.end_line(),
            // RFC 9112 section 2.2: a line may end with LF alone, so CR says nothing by itself.
            b'\r' => Scan::More,
            _ => {
                self.read(byte);
                Scan::More
            }
        }
    }

    #[inline(always)]
    fn end_line(&mut self) -> Scan {
        self.end_token();
        let empty = self.line == 0;
        self.line = 0;
        self.field = 0;
        match (empty, self.websocket != 0) {
            (false, _) => Scan::More,
            (true, true) => Scan::WebSocket,
            (true, false) => Scan::Other,
        }
    }

    /// Takes a byte of a line. Field names and the token are matched in any case.
    #[inline(always)]
    fn read(&mut self, byte: u8) {
        let lower = byte.to_ascii_lowercase();
        self.line = self.line.saturating_add(1);
        if self.field == FIELD.len() as u8 {
            match byte {
                b' ' | b'\t' | b',' => self.end_token(),
                _ if TOKEN.get(usize::from(self.token)) == Some(&lower) => self.token += 1,
                _ => self.token = OTHER,
            }
        } else if self.field != OTHER {
            let matches = FIELD.get(usize::from(self.field)) == Some(&lower);
            self.field = if matches { self.field + 1 } else { OTHER };
        }
    }

    #[inline(always)]
    fn end_token(&mut self) {
        if self.token == TOKEN.len() as u8 {
            self.websocket = 1;
        }
        self.token = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the head's last byte said, and how many bytes were taken.
    fn scan(head: &[u8]) -> (Scan, usize) {
        let mut state = ResponseHead::default();
        for (index, byte) in head.iter().enumerate() {
            let scan = state.push(*byte);
            if scan != Scan::More {
                return (scan, index + 1);
            }
        }
        (Scan::More, head.len())
    }

    fn response(fields: &str) -> String {
        format!("HTTP/1.1 101 Switching Protocols\r\n{fields}\r\n")
    }

    #[test]
    fn beginnings() {
        let of = |bytes: &[u8]| {
            let mut first = [0xee; 16];
            let length = bytes.len().min(16);
            first[..length].copy_from_slice(&bytes[..length]);
            Beginning::of(&first, bytes.len() as u32)
        };
        assert_eq!(of(b""), Beginning::Neither);
        assert_eq!(of(b"HTTP/1.1 101 Switching Protocols"), Beginning::Response);
        assert_eq!(of(b"HTTP/1.1 200 OK"), Beginning::OtherResponse);
        assert_eq!(of(b"HTTP/1.0 101"), Beginning::OtherResponse);
        assert_eq!(of(b"HTTP/1.1 100 Continue"), Beginning::Neither);
        assert_eq!(of(b"HTTP/1.1 103 Early Hints"), Beginning::Neither);
        assert_eq!(of(b"HTTP/2.0 200"), Beginning::Neither);
        assert_eq!(of(b"GET / HTTP/1.1\r\n\r\n"), Beginning::Request);
        assert_eq!(of(b"GETS / HTTP/1.1"), Beginning::Neither);
        assert_eq!(of(b"PROXY TCP4 "), Beginning::Proxied);
        assert_eq!(of(b"PROXY"), Beginning::Neither);
        assert_eq!(of(&proxy::BINARY), Beginning::Proxied);
        assert_eq!(of(&proxy::BINARY[..11]), Beginning::Neither);
        for length in 1..=12 {
            assert_eq!(
                of(&b"HTTP/1.1 101"[..length]),
                Beginning::Response,
                "{length} bytes"
            );
        }
        for length in 1..=4 {
            assert_eq!(of(&b"GET "[..length]), Beginning::Request, "{length} bytes");
        }
    }

    #[test]
    fn any_case_and_any_place_of_the_field() {
        for fields in [
            "Upgrade: websocket\r\n",
            "UPGRADE:WebSocket\r\n",
            "connection: upgrade\r\nupgrade: \tWEBSOCKET \r\nserver: x\r\n",
            "Upgrade: h2c, websocket\r\n",
            "Upgrade: websocket\n",
        ] {
            let head = response(fields);
            assert_eq!(
                scan(head.as_bytes()),
                (Scan::WebSocket, head.len()),
                "{fields:?}"
            );
        }
    }

    /// Found by the fuzz target: CR says nothing by itself, and LF alone ends a line.
    #[test]
    fn the_status_line_ends_with_its_line_and_is_no_field() {
        let go_on = b"HTTP/1.1 101\r\r\nUpgrade: websocket\n\n";
        assert_eq!(scan(go_on), (Scan::WebSocket, go_on.len()));
        let ended = b"HTTP/1.1 101\n\nUpgrade: websocket\n\n";
        assert_eq!(scan(ended), (Scan::Other, 14));
        let no_field = b"HTTP/1.1 101\rUpgrade: websocket\n\n";
        assert_eq!(scan(no_field), (Scan::Other, no_field.len()));
    }

    #[test]
    fn the_head_ends_where_it_ends() {
        let head = response("Upgrade: websocket\r\n");
        let with_frame = [head.as_bytes(), &[0x88, 0]].concat();
        assert_eq!(scan(&with_frame), (Scan::WebSocket, head.len()));
    }

    #[test]
    fn other_upgrades_and_other_responses() {
        for fields in [
            "Upgrade: h2c\r\n",
            "Upgrade: websocket2\r\n",
            "Upgrade: notwebsocket\r\n",
            "Upgrade: web socket\r\n",
            "X-Upgrade: websocket\r\n",
            "X: Upgrade: websocket\r\n",
            "",
        ] {
            assert_eq!(
                scan(response(fields).as_bytes()).0,
                Scan::Other,
                "{fields:?}"
            );
        }
        assert_eq!(scan(b"HTTP/1.1 1010 x").0, Scan::Other);
        assert_eq!(
            scan(b"HTTP/1.1 200 OK\r\nUpgrade: websocket\r\n\r\n").0,
            Scan::Other
        );
    }

    #[test]
    fn sixteen_kib_and_not_a_byte_more() {
        let filled = |total: usize| {
            let rest = response("Upgrade: websocket\r\nX: \r\n").len();
            response(&format!(
                "Upgrade: websocket\r\nX: {}\r\n",
                "x".repeat(total - rest)
            ))
        };
        let longest = filled(usize::from(HEAD_MAX));
        assert_eq!(longest.len(), usize::from(HEAD_MAX));
        assert_eq!(scan(longest.as_bytes()).0, Scan::WebSocket);
        assert_eq!(
            scan(filled(usize::from(HEAD_MAX) + 1).as_bytes()).0,
            Scan::TooLong
        );
    }
}
