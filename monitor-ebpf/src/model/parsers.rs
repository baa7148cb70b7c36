//! Plain parsers, of frames and of a response's head, that see everything at once.

use crate::upgrade::{HEAD_MAX, STATUS_LINE, Scan};

/// A frame header, as a parser sees it that has all of it at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainHeader {
    /// The opcode.
    pub opcode: u8,
    /// Bytes of the header, mask and all.
    pub header: usize,
    /// Bytes of the payload.
    pub payload: u64,
    /// The mask, zeros without one.
    pub mask: [u8; 4],
}

impl PlainHeader {
    /// Reads the header at the start of `bytes`; none when it is not all there, an error when it
    /// is none (RFC 6455 sections 5.2 and 5.5).
    ///
    /// # Errors
    ///
    /// When the first bytes break the RFC, as soon as they are there.
    pub fn read(bytes: &[u8]) -> Result<Option<Self>, Broken> {
        let &[first, second, ref rest @ ..] = bytes else {
            return Ok(None);
        };
        let (fin, reserved, opcode) = (first >> 7, first >> 4 & 7, first & 15);
        let short = u64::from(second & 0x7f);
        match opcode {
            0..=2 if reserved & 3 == 0 => {}
            8..=10 if reserved == 0 && fin == 1 && short <= 125 => {}
            _ => return Err(Broken),
        }
        let extended = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let key = if second & 0x80 != 0 { 4 } else { 0 };
        let Some(rest) = rest.get(..extended + key) else {
            return Ok(None);
        };
        let (length, key) = rest.split_at(extended);
        let payload = match extended {
            0 => short,
            _ => length
                .iter()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        };
        if payload > i64::MAX as u64 {
            return Err(Broken);
        }
        Ok(Some(Self {
            opcode,
            header: 2 + rest.len(),
            payload,
            mask: key.try_into().unwrap_or_default(),
        }))
    }
}

/// No frame begins here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// What a plain parser says of a whole stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plain {
    /// Frames whose header is there, with a Close frame's code, up to the first Close frame.
    pub frames: u64,
    /// The first Close frame: where it ends, and its code.
    pub close: Option<(usize, Option<u16>)>,
    /// Framing breaks before the first Close frame.
    pub broken: bool,
}

/// Parses a stream that is there as a whole.
#[must_use]
pub fn plain(bytes: &[u8]) -> Plain {
    let mut plain = Plain::default();
    let mut rest = bytes;
    loop {
        let header = match PlainHeader::read(rest) {
            Ok(Some(header)) => header,
            Ok(None) => return plain,
            Err(Broken) => {
                plain.broken = true;
                return plain;
            }
        };
        let body = &rest[header.header..];
        let whole = body.len() as u64 >= header.payload;
        if header.opcode == 8 {
            let code = match body {
                [high, low, ..] if header.payload >= 2 => Some(u16::from_be_bytes([
                    high ^ header.mask[0],
                    low ^ header.mask[1],
                ])),
                _ => None,
            };
            let end = bytes.len() - body.len() + header.payload as usize;
            plain.close = whole.then_some((end, code));
        }
        plain.frames += 1;
        if header.opcode == 8 || !whole {
            return plain;
        }
        rest = &body[header.payload as usize..];
    }
}

/// What a plain parser says of a response that is there as far as `bytes` go, and how many of them
/// it takes to say so.
#[must_use]
pub fn plain_head(bytes: &[u8]) -> (Scan, usize) {
    let agree = bytes
        .iter()
        .zip(&STATUS_LINE)
        .take_while(|(a, b)| a == b)
        .count();
    match bytes.get(agree) {
        None => return (Scan::More, bytes.len()),
        Some(b' ' | b'\r' | b'\n') if agree == STATUS_LINE.len() => {}
        Some(_) => return (Scan::Other, agree + 1),
    }
    let end = bytes
        .split_inclusive(|byte| *byte == b'\n')
        .scan(0, |end, line| {
            *end += line.len();
            Some((*end, line))
        })
        .find(|(_, line)| line.ends_with(b"\n") && line.iter().all(|b| b"\r\n".contains(b)))
        .map(|(end, _)| end);
    let longest = usize::from(HEAD_MAX);
    match end {
        Some(end) if end <= longest && says_websocket(&bytes[..end]) => (Scan::WebSocket, end),
        Some(end) if end <= longest => (Scan::Other, end),
        _ if bytes.len() > longest => (Scan::TooLong, longest + 1),
        _ => (Scan::More, bytes.len()),
    }
}

/// Whether a field of a head is `Upgrade` and lists `websocket`, in any case.
fn says_websocket(head: &[u8]) -> bool {
    let text: String = head
        .iter()
        .filter(|byte| **byte != b'\r')
        .map(|byte| char::from(byte.to_ascii_lowercase()))
        .collect();
    text.split('\n')
        .skip(1)
        .filter_map(|line| line.strip_prefix("upgrade:"))
        .flat_map(|value| value.split([' ', '\t', ',']))
        .any(|token| token == "websocket")
}
