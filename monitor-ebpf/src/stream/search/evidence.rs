//! How improbable it is that what looks like a header is none, in bits.

use super::{DATA, MASKED, Search, UNMASKED};
use crate::frame::FrameHeader;

/// A header that is final, of a known opcode, and masked or not as it must be: 7 of 256 first bytes, and
/// one bit of the second.
const HEADER: u8 = 6;
/// The same while it is not known how it must be masked.
pub(super) const HEADER_OF_EITHER: u8 = 5;
/// One of 128 length fields says that two bytes of length follow, and one that eight do, of which four are
/// zero.
const LENGTH_16: u8 = 6;
const LENGTH_64: u8 = 14;
/// The frame ends exactly where its segment does: one of so many lengths.
const ENDS_SEGMENT: u8 = 7;
const ENDS_SEGMENT_16: u8 = 16;
/// A Close frame is one of 256 first bytes, and its code one of 31 or fewer.
const IS_CLOSE: u8 = 3;
const VALID_CODE: u8 = 5;

impl Search {
    /// Adds what a header says; false when it can be none.
    #[inline(always)]
    pub(super) fn weigh(
        &mut self,
        first: [u8; 2],
        header: &FrameHeader,
        ends_segment: bool,
    ) -> bool {
        let (opcode, is_final) = (first[0] & 0x0f, first[0] & 0x80 != 0);
        let is_control = opcode & 0x8 != 0;
        let length = first[1] & 0x7f;
        let masking = if first[1] & 0x80 != 0 {
            MASKED
        } else {
            UNMASKED
        };
        if self.masking != 0 && self.masking != masking {
            return false;
        }
        // Zeros look like a fragment.
        let mut bits = if !is_final {
            0
        } else if self.masking == 0 {
            HEADER_OF_EITHER
        } else {
            HEADER
        };
        self.masking = masking;

        let payload = header.rest;
        match length {
            126 if payload < 126 => return false,
            127 if !(1 << 16..1 << 32).contains(&payload) => return false,
            126 => bits += LENGTH_16,
            127 => bits += LENGTH_64,
            _ => {}
        }
        if ends_segment {
            bits += if length < 126 {
                ENDS_SEGMENT
            } else {
                ENDS_SEGMENT_16
            };
        }
        match header.close {
            Some(_) if !ends_segment => return false,
            Some(body) if body.has_code && !may_be_sent(body.code) => return false,
            Some(body) if body.has_code => bits += IS_CLOSE + VALID_CODE,
            // One byte of body is no code (RFC 6455 section 5.5.1).
            Some(_) if length != 0 => return false,
            Some(_) => bits += IS_CLOSE,
            None => {}
        }
        if !is_control {
            let goes_on = opcode == 0;
            if goes_on != (self.in_message != 0) {
                return false;
            }
            self.in_message = u8::from(!is_final);
            self.inexact |= DATA;
            if length == 0 {
                bits = 0;
            }
        }
        self.evidence = self.evidence.saturating_add(bits);
        true
    }
}

/// Whether a Close frame may carry this code (RFC 6455 section 7.4, and the registry that it founds).
#[inline(always)]
pub(super) fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}
