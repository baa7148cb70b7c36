//! The header of a WebSocket frame, RFC 6455 section 5.2.
//!
//! In: the first bytes of a frame, as many as there are. Out: how many more are needed, what the
//! header says, or why it is none. Never: payload, but for the two bytes of a Close frame's code.

/// The longest header: 2 bytes, 8 of length, 4 of mask. A Close frame's is shorter, so its two
/// bytes of status code fit as well.
pub const HEADER_MAX: usize = 14;

pub(crate) const CLOSE: u8 = 0x8;

/// What a frame is, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes from the frame's first to the last that was read: the header, and a Close frame's
    /// status code.
    pub read: u32,
    /// Bytes of the frame that follow those.
    pub rest: u64,
    /// Some for a Close frame.
    pub close: Option<CloseBody>,
}

/// What a Close frame says. Both fields are always there, so that the compiler keeps no register of a value that
/// was never set: Linux before 6.3 refuses to load what reads one, even for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseBody {
    /// The status code, unmasked; 0 when there is none.
    pub code: u16,
    /// Whether the body has the two bytes of a status code.
    pub has_code: bool,
}

impl CloseBody {
    /// A body shorter than two bytes.
    pub const SHORT: Self = Self {
        code: 0,
        has_code: false,
    };

    /// A body with this status code.
    #[inline(always)]
    #[must_use]
    pub const fn of(code: u16) -> Self {
        Self {
            code,
            has_code: true,
        }
    }
}

/// The first bytes of a frame, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// So many bytes from the frame's first are needed before more can be said.
    Need(u32),
    /// The header is whole.
    Frame(FrameHeader),
    /// This is no frame: a reserved opcode; RSV2 or RSV3 set; a control frame without FIN, with any
    /// RSV bit, or longer than 125 bytes; a length with its highest bit set.
    Invalid,
}

/// Reads the header at the start of `bytes`, of which the first `have` are there.
///
/// RSV1 of a data frame belongs to permessage-deflate (RFC 7692) and says nothing here.
#[inline(always)]
#[must_use]
pub fn parse(bytes: &[u8; HEADER_MAX], have: u32) -> Parsed {
    if have < 2 {
        return Parsed::Need(2);
    }
    let opcode = bytes[0] & 0x0f;
    let control = opcode & 0x8 != 0;
    let final_and_reserved = bytes[0] & 0xf0;
    let length = bytes[1] & 0x7f;
    let invalid = if control {
        opcode > 0xa || final_and_reserved != 0x80 || length > 125
    } else {
        opcode > 0x2 || final_and_reserved & 0x30 != 0
    };
    if invalid {
        return Parsed::Invalid;
    }

    let mask_at = match length {
        127 => 10,
        126 => 4,
        _ => 2,
    };
    let masked = bytes[1] & 0x80 != 0;
    let header = if masked { mask_at + 4 } else { mask_at };
    let code = if opcode == CLOSE && length >= 2 { 2 } else { 0 };
    let needed = header + code;
    if have < needed {
        return Parsed::Need(needed);
    }

    let payload = match length {
        127 => u64::from_be_bytes([
            bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7], bytes[8], bytes[9],
        ]),
        126 => u64::from(u16::from_be_bytes([bytes[2], bytes[3]])),
        _ => u64::from(length),
    };
    if payload >> 63 != 0 {
        return Parsed::Invalid;
    }
    let close = match (opcode == CLOSE, code == 2) {
        (true, true) if masked => {
            let code = [bytes[6] ^ bytes[2], bytes[7] ^ bytes[3]];
            Some(CloseBody::of(u16::from_be_bytes(code)))
        }
        (true, true) => Some(CloseBody::of(u16::from_be_bytes([bytes[2], bytes[3]]))),
        (true, false) => Some(CloseBody::SHORT),
        (false, _) => None,
    };
    Parsed::Frame(FrameHeader {
        read: needed,
        rest: payload - u64::from(code),
        close,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Parsed {
        let mut window = [0; HEADER_MAX];
        let have = bytes.len().min(HEADER_MAX);
        window[..have].copy_from_slice(&bytes[..have]);
        parse(&window, have as u32)
    }

    fn frame(read: u32, rest: u64) -> Parsed {
        Parsed::Frame(FrameHeader {
            read,
            rest,
            close: None,
        })
    }

    fn close(read: u32, rest: u64, body: CloseBody) -> Parsed {
        Parsed::Frame(FrameHeader {
            read,
            rest,
            close: Some(body),
        })
    }

    #[test]
    fn three_encodings_of_the_length() {
        assert_eq!(read(&[0x82, 125]), frame(2, 125));
        assert_eq!(read(&[0x82, 126, 0x01, 0x00]), frame(4, 256));
        assert_eq!(
            read(&[0x82, 127, 0, 0, 0, 1, 0, 0, 0, 0]),
            frame(10, 1 << 32)
        );
        assert_eq!(
            read(&[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4]),
            frame(14, 65536)
        );
    }

    #[test]
    fn needs_are_told_byte_by_byte() {
        assert_eq!(read(&[]), Parsed::Need(2));
        assert_eq!(read(&[0x82]), Parsed::Need(2));
        assert_eq!(read(&[0x82, 0x85]), Parsed::Need(6));
        assert_eq!(read(&[0x82, 0xff, 0]), Parsed::Need(14));
        assert_eq!(read(&[0x88, 0x82, 1, 2, 3, 4, 5]), Parsed::Need(8));
        assert_eq!(read(&[0x88, 0x02, 3]), Parsed::Need(4));
    }

    #[test]
    fn close_codes_masked_unmasked_and_absent() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        let masked = [
            0x88,
            0x85,
            key[0],
            key[1],
            key[2],
            key[3],
            0x03 ^ key[0],
            0xe9 ^ key[1],
        ];
        assert_eq!(read(&masked), close(8, 3, CloseBody::of(1001)));
        assert_eq!(
            read(&[0x88, 0x7d, 0x03, 0xe8]),
            close(4, 123, CloseBody::of(1000))
        );
        assert_eq!(read(&[0x88, 0]), close(2, 0, CloseBody::SHORT));
        assert_eq!(read(&[0x88, 1]), close(2, 1, CloseBody::SHORT));
        assert_eq!(
            read(&[0x88, 0x81, 1, 2, 3, 4]),
            close(6, 1, CloseBody::SHORT)
        );
    }

    #[test]
    fn what_breaks_framing() {
        for opcode in [0x3, 0x4, 0x5, 0x6, 0x7, 0xb, 0xc, 0xd, 0xe, 0xf] {
            assert_eq!(
                read(&[0x80 | opcode, 0]),
                Parsed::Invalid,
                "opcode {opcode:x}"
            );
        }
        for reserved in [0x20, 0x10] {
            assert_eq!(read(&[0x82 | reserved, 0]), Parsed::Invalid);
        }
        for first in [0x08, 0x09, 0xc9, 0xa8, 0x98] {
            assert_eq!(read(&[first, 0]), Parsed::Invalid, "control {first:x}");
        }
        for length in [126, 127] {
            assert_eq!(
                read(&[0x88, length, 0, 0, 0, 0, 0, 0, 0, 0]),
                Parsed::Invalid
            );
        }
        assert_eq!(
            read(&[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0]),
            Parsed::Invalid
        );
        assert_eq!(
            read(b"HTTP/1.1 400"),
            Parsed::Invalid,
            "a response where frames should be"
        );
    }

    #[test]
    fn compressed_data_frames_are_frames() {
        assert_eq!(read(&[0xc1, 5]), frame(2, 5));
    }
}
