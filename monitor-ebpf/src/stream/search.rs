//! Finds the frames again in a direction that is lost, or that was not followed from its beginning.
//!
//! In: segments as they pass, and what seems to be a header at their beginning. Out: how improbable it is
//! that these are no frames, in bits; a direction with enough of them is followed again. A guess that the
//! next header contradicts costs all its evidence. Everything here is stricter than
//! [`parse`](crate::frame::parse): the mask bit of this end (RFC 6455 section 5.1), the shortest form of a length
//! (5.2), fragments in their order (5.4), Close frames with a code that may be sent (7.4) and nothing
//! behind them.
//!
//! A Close frame without enough evidence of its own is believed when TCP ends right behind it, or when the
//! other end sent one as well: see [`Stream::believes_close`].

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{CLOSE, Next, Payload, Segment, Stream};
use crate::{
    event::Lost,
    frame::{CloseBody, FrameHeader},
};

mod evidence;

use evidence::{HEADER_OF_EITHER, may_be_sent};

/// Evidence that makes a WebSocket's direction followed again: random bytes reach it once in 2²⁴.
const LOCKS: u8 = 24;
/// The same where it is not even known that this is a WebSocket.
const LOCKS_UNSEEN: u8 = 32;

/// A Close frame that is not yet believed was found at the end of a chain of headers.
const BY_CHAIN: u8 = 1;
/// It was found by its own bytes at the end of a segment.
const BY_TAIL: u8 = 2;

/// A candidate that shows no frames in 64 short segments, or 64 times as many long ones, is none.
const MISSES_MAX: u16 = 1 << 12;
const SHORT: u32 = 512;
const MISS_OF_SHORT: u16 = 64;

/// How far the search is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Search {
    /// Evidence for the headers read since the search began anew, in bits.
    evidence: u8,
    /// The cursor is where the next header is expected.
    tracks: u8,
    /// A fragmented message has begun.
    in_message: u8,
    /// How this direction's frames are masked: 0 when not known, [`UNMASKED`], [`MASKED`].
    masking: u8,
    /// How a Close frame was found that is not yet believed: 0, [`BY_CHAIN`], [`BY_TAIL`].
    close: u8,
    /// [`MISSED`] and [`DATA`].
    inexact: u8,
    /// How much has passed that was no chain of frames.
    misses: u16,
}

/// This direction was lost at least once, or not followed from its beginning.
const MISSED: u8 = 1;
/// Data frames have passed since. Only control frames may follow a Close frame (RFC 6455 section 5.5.1), so
/// where there was data, none was missed before.
const DATA: u8 = 2;

const UNMASKED: u8 = 1;
const MASKED: u8 = 2;

impl Search {
    #[inline(always)]
    fn begin_anew(&mut self) {
        self.evidence = 0;
        self.tracks = 0;
        self.in_message = 0;
        self.inexact &= MISSED;
    }

    /// A search of a direction that has missed frames, or not, and has shown only control frames since.
    #[cfg(any(test, feature = "model"))]
    pub(super) fn telling(missed: bool, only_control: bool) -> Self {
        let data = if only_control { 0 } else { DATA };
        Self {
            inexact: if missed { MISSED | data } else { 0 },
            ..Self::default()
        }
    }

    /// How a Close frame was found that is not yet believed; 0 when none was.
    #[inline(always)]
    pub(super) fn close_found(&self) -> u8 {
        self.close
    }

    /// Takes the first byte of a frame that was followed.
    #[inline(always)]
    pub(super) fn note_frame(&mut self, first: u8) {
        let is_data = u8::from(first & 0x8 == 0);
        self.inexact |= (self.inexact & is_data & MISSED) << 1;
    }
}

impl Stream {
    /// A direction of which nothing was seen before the byte with the sequence number `sequence`, and
    /// that may be anything.
    #[inline(always)]
    #[must_use]
    pub fn unseen_before(sequence: u32) -> Self {
        let mut stream = Self::starting_at(sequence);
        stream.lose(Lost::Unseen);
        stream
    }

    /// How the frames of this direction are masked: a client's are, a server's are not.
    #[inline(always)]
    pub(crate) fn set_masked(&mut self, masked: bool) {
        self.search.masking = if masked { MASKED } else { UNMASKED };
    }

    /// Gives this direction up until its frames are found again. What is known of it stays.
    #[inline(always)]
    pub fn lose(&mut self, why: Lost) -> Next {
        self.lost = why as u8;
        self.keeps_early = 0;
        self.header_have = 0;
        self.search.begin_anew();
        // After a frame that breaks the protocol nothing counts, but where the frames were found again
        // they may have been none.
        if why != Lost::InvalidFrame {
            self.search.inexact = MISSED;
        }
        Next::Done
    }

    /// Whether frames may have passed that were not counted.
    #[inline(always)]
    #[must_use]
    pub fn has_missed(&self) -> bool {
        self.search.inexact != 0
    }

    /// Whether the first Close frame may have been among what was missed.
    #[inline(always)]
    #[must_use]
    pub(crate) fn has_shown_only_control(&self) -> bool {
        self.search.inexact == MISSED
    }

    /// Looks at the place of a segment of a lost direction. [`Next::Turn`]: a header may begin with it.
    #[inline(always)]
    pub(super) fn seek(&mut self, start: u64, end: u64, is_old: bool) -> Next {
        if is_old | !self.has_missed() | self.has_close() {
            return Next::Done;
        }
        if self.search.close != 0 {
            if end <= self.close_end {
                return Next::Done;
            }
            // Nothing follows a Close frame: it was none.
            self.search.close = 0;
            self.search.begin_anew();
            self.close_end = 0;
            self.close_ns = 0;
            self.has_code = 0;
        }
        if self.search.tracks != 0 && start <= self.cursor && end > self.cursor {
            return Next::Turn;
        }
        // Inside of a frame, unless that is too bare a guess to pass over what may be true ones.
        if self.search.tracks != 0 && end <= self.cursor && self.search.evidence >= HEADER_OF_EITHER
        {
            return Next::Done;
        }
        self.search.begin_anew();
        // A guess that leads nowhere says nothing of the mask either.
        if self.lost == Lost::Unseen as u8 {
            self.search.masking = 0;
        }
        self.search.tracks = 1;
        self.header_have = 0;
        self.cursor = start;
        Next::Turn
    }

    /// Takes a header of a lost direction, whose frame ends at the cursor.
    #[inline(always)]
    pub(super) fn weigh(
        &mut self,
        first: [u8; 2],
        header: &FrameHeader,
        segment: &Segment,
    ) -> Next {
        let end = self.position(segment.sequence) + u64::from(segment.length);
        let ends_segment = self.cursor == end;
        if !self.search.weigh(first, header, ends_segment) {
            return self.miss(segment.length);
        }
        let enough = if self.lost == Lost::Unseen as u8 {
            LOCKS_UNSEEN
        } else {
            LOCKS
        };
        let locks = self.search.evidence >= enough;
        if locks {
            self.lost = 0;
            self.search.misses = 0;
        }
        let Some(body) = header.close else {
            return Next::Turn;
        };
        self.note_found(body, end, segment.now_ns);
        self.search.close = BY_CHAIN;
        if locks {
            self.facts |= CLOSE;
        }
        Next::Done
    }

    /// What seemed to be a header of a lost direction is none.
    #[inline(always)]
    pub(super) fn miss(&mut self, length: u32) -> Next {
        self.search.begin_anew();
        self.header_have = 0;
        if self.lost == Lost::Unseen as u8 {
            self.search.masking = 0;
            let weight = if length < SHORT { MISS_OF_SHORT } else { 1 };
            self.search.misses = self.search.misses.saturating_add(weight);
        }
        Next::Done
    }

    #[inline(always)]
    fn note_found(&mut self, body: CloseBody, end: u64, now_ns: u64) {
        if body.has_code {
            self.code = body.code;
            self.has_code = 1;
        }
        self.close_end = end;
        self.close_ns = now_ns;
        if self.has_fin() {
            self.end_confirms(self.fin_at);
        }
    }

    /// TCP ends at this position: a Close frame that ends there is believed.
    #[inline(always)]
    pub(super) fn end_confirms(&mut self, at: u64) {
        if self.search.close != 0 && self.close_end == at {
            self.facts |= CLOSE;
        }
    }

    /// How many lengths of a Close frame's body [`Stream::look_back`] can try.
    pub const BODIES: u32 = 124;

    /// Whether a Close frame at the end of the segment that was read is to be looked for: in a WebSocket's
    /// direction that is lost.
    #[inline(always)]
    #[must_use]
    pub fn wants_look_back(&self) -> bool {
        let search = &self.search;
        let is_lost = self.lost != 0 && self.lost != Lost::Unseen as u8 && self.has_missed();
        is_lost && !self.has_close() && search.close == 0 && self.header_have == 0
    }

    /// Looks for a Close frame whose body is `number` + 2 bytes long and ends with the segment.
    /// [`Next::Done`]: found, or there is no room for it.
    #[inline(always)]
    pub fn look_back(&mut self, segment: &Segment, payload: &impl Payload, number: u32) -> Next {
        let body = number + 2;
        let masked = self.search.masking == MASKED;
        let (header, mask) = if masked { (6, 0x80) } else { (2, 0) };
        let Some(offset) = segment.length.checked_sub(header + body) else {
            return Next::Done;
        };
        let mut bytes = [0; 8];
        let wanted = if masked {
            &mut bytes[..8]
        } else {
            &mut bytes[..4]
        };
        if !payload.load(offset, wanted) {
            return Next::Done;
        }
        let code = if masked {
            [bytes[6] ^ bytes[2], bytes[7] ^ bytes[3]]
        } else {
            [bytes[2], bytes[3]]
        };
        let code = u16::from_be_bytes(code);
        if bytes[0] != 0x88 || u32::from(bytes[1]) != mask | body || !may_be_sent(code) {
            return Next::Turn;
        }
        let end = self.position(segment.sequence) + u64::from(segment.length);
        self.search.begin_anew();
        self.search.close = BY_TAIL;
        self.note_found(CloseBody::of(code), end, segment.now_ns);
        Next::Done
    }

    /// Whether the first Close frame passed: followed to it, or found and confirmed by what `other`, the
    /// other end, sent.
    #[inline(always)]
    #[must_use]
    pub(crate) fn believes_close(&self, other: &Self) -> bool {
        if self.has_close() {
            return true;
        }
        match self.search.close {
            BY_CHAIN => other.has_close() || other.search.close == BY_CHAIN,
            // Before the other end's it may be anything that was sent while that was on its way.
            BY_TAIL => other.has_close() && other.close_ns > self.close_ns,
            _ => false,
        }
    }

    /// A direction of a candidate that was followed and lost again: nothing is believed of it any more.
    #[inline(always)]
    pub(crate) fn stay_unseen(&mut self) {
        if self.lost != 0 && self.lost != Lost::Unseen as u8 {
            self.lose(Lost::Unseen);
            self.miss(0);
        }
    }

    /// Whether this direction shows the frames of a WebSocket.
    #[inline(always)]
    #[must_use]
    pub(crate) fn shows_frames(&self) -> bool {
        self.lost == 0 || self.search.close == BY_CHAIN
    }

    /// Whether the frames that were found are masked.
    #[inline(always)]
    #[must_use]
    pub(crate) fn is_masked(&self) -> bool {
        self.search.masking == MASKED
    }

    /// Whether so much has passed that was no frames that none are to be expected.
    #[inline(always)]
    #[must_use]
    pub(crate) fn is_hopeless(&self) -> bool {
        self.search.misses >= MISSES_MAX
    }
}

#[cfg(test)]
mod tests;
