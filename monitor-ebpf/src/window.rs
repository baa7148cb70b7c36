//! Many headers at one reading: a packet full of short frames is copied piece by piece, not header by header, for
//! what a copy costs is its call.
//!
//! In: a segment, a way to copy its bytes. Out: what [`Stream::turn`] says, header by header.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    event::Lost,
    frame::HEADER_MAX,
    stream::{Next, Payload, Segment, Stream},
};

/// Bytes that are copied in one go: a power of two.
pub const WINDOW: usize = 256;

/// A source of payload bytes that fills a window.
pub trait Bulk: Payload {
    /// Copies the `length` bytes from `offset` on, 1 to [`WINDOW`]; false when they are not all there.
    fn fill(&self, offset: u32, into: &mut [u8; WINDOW], length: u32) -> bool;
}

/// A part of a segment.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Window {
    /// Who is at work with it, or asks whether he may be.
    pub busy: u32,
    /// Where in the segment its bytes begin.
    from: u32,
    /// How many there are.
    have: u32,
    reserved: u32,
    /// Longer than the window, so that the verifier sees that a header at any place of it is inside.
    bytes: [u8; WINDOW + 16],
}

impl Window {
    /// Another segment is to be read.
    #[inline(always)]
    pub fn begin(&mut self) {
        self.have = 0;
    }

    /// Reads at most one header, at the cursor, where nothing of it has passed: [`Stream::turn`] has read one before
    /// in this segment.
    #[inline(always)]
    pub fn turn(&mut self, stream: &mut Stream, segment: &Segment, payload: &impl Bulk) -> Next {
        let Some(offset) = stream.offset(segment) else {
            return Next::Done;
        };
        let at = offset.wrapping_sub(self.from);
        let is_whole = at < self.have
            && (self.have - at >= HEADER_MAX as u32 || self.from + self.have == segment.length);
        if !is_whole {
            let there = segment.length - offset;
            let length = if there < WINDOW as u32 {
                there
            } else {
                WINDOW as u32
            };
            self.from = offset;
            self.have = length;
            let filled = match self.bytes.first_chunk_mut() {
                Some(into) => payload.fill(offset, into, length),
                None => false,
            };
            if !filled {
                return stream.lose(Lost::Unreadable);
            }
        }
        let at = offset.wrapping_sub(self.from);
        let there = self.have.wrapping_sub(at);
        let Some(bytes) = self.header(at) else {
            return stream.lose(Lost::Unreadable);
        };
        stream.turn_at(segment, payload, bytes, there)
    }

    /// What a header at `at` can need; what the window does not have is anything.
    #[inline(always)]
    fn header(&self, at: u32) -> Option<&[u8; HEADER_MAX]> {
        let at = at as usize & (WINDOW - 1);
        self.bytes.get(at..at + HEADER_MAX)?.first_chunk()
    }
}
