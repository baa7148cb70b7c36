//! Segments that passed before their turn: behind a hole in front of a frame header.
//!
//! In: such a segment, and a way to copy its bytes. Out, once the hole is filled: the segments again,
//! each with the time at which it passed. TCP itself keeps the same bytes until they are in order; this
//! keeps the first 32 KiB of them for the few directions that are in disorder at one time. What does
//! not fit is not kept, and the stream says so when it comes to it.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    frame::HEADER_MAX,
    stream::{Next, Segment, Stream},
};

/// Bytes from the hole on that are kept.
pub const WINDOW: usize = 32 * 1024;
/// Segments that are kept.
pub const PIECES: usize = 128;
/// Bytes that are copied in one go.
pub const CHUNK: usize = 256;

/// A segment that is kept.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
struct Piece {
    /// Where it begins, from `base` on.
    from: u32,
    /// Where it ends.
    to: u32,
    /// When it passed, ns since boot.
    at_ns: u64,
}

/// What is kept of one direction. All zero is nothing.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Early {
    /// Whose this is.
    pub cookie: u64,
    /// Position of the hole.
    base: u64,
    count: u32,
    /// The piece that [`Early::step`] looks at next. In memory with the rest, so that the verifier need
    /// not follow every value of it.
    number: u8,
    /// The piece before that one is being read.
    reads: u8,
    /// A piece was read in this round.
    progressed: u8,
    reserved: u8,
    pieces: [Piece; PIECES],
    /// The bytes from `base` on, where pieces say so. Longer than the window, so that the verifier sees
    /// that a header's bytes at any place of it are inside.
    bytes: [u8; WINDOW + CHUNK],
}

/// What [`Early::step`] wants.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// A turn of the stream with this segment; then [`Early::has_read`].
    Read(Segment),
    /// Another step.
    More,
    /// Nothing more.
    Done,
}

/// Where bytes of a segment are to be put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// From here on: see [`Early::chunk`].
    pub at: u32,
    /// So many bytes.
    pub length: u32,
}

impl Early {
    /// Begins anew, at the hole that `stream` has come to.
    #[inline(always)]
    pub fn begin(&mut self, cookie: u64, stream: &Stream) {
        self.cookie = cookie;
        self.base = stream.cursor;
        self.count = 0;
    }

    /// One step of reading what is kept, in rounds, until a round finds nothing whose turn has come.
    #[inline(always)]
    pub fn step(&mut self, stream: &mut Stream) -> Step {
        if self.reads != 0 {
            return match self.segment(u32::from(self.number).wrapping_sub(1)) {
                Some(segment) => Step::Read(segment),
                None => Step::Done,
            };
        }
        let Some(segment) = self.segment(self.number.into()) else {
            let again = self.progressed != 0;
            self.number = 0;
            self.progressed = 0;
            return if again { Step::More } else { Step::Done };
        };
        self.number += 1;
        if stream.take(&segment) == Next::Turn {
            self.reads = 1;
            self.progressed = 1;
        }
        Step::More
    }

    /// What [`Stream::turn`] said of the segment that was to be read.
    #[inline(always)]
    pub fn has_read(&mut self, next: Next) {
        self.reads = u8::from(next == Next::Turn);
    }

    /// Takes a segment in whose bytes are then to be put into [`Early::chunk`]s, as far as there is
    /// room; none when there is none.
    #[inline(always)]
    pub fn keep(&mut self, stream: &Stream, segment: &Segment) -> Option<Room> {
        let from = stream.position(segment.sequence).checked_sub(self.base)?;
        if from >= WINDOW as u64 {
            return None;
        }
        let from = from as u32;
        let left = WINDOW as u32 - from;
        let length = if segment.length < left {
            segment.length
        } else {
            left
        };
        let piece = self.pieces.get_mut(self.count as usize)?;
        *piece = Piece {
            from,
            to: from + length,
            at_ns: segment.now_ns,
        };
        self.count += 1;
        Some(Room { at: from, length })
    }

    /// The next bytes to be filled, of those from `at` on.
    #[inline(always)]
    pub fn chunk(&mut self, at: u32) -> Option<&mut [u8; CHUNK]> {
        let at = at as usize & (WINDOW - 1);
        self.bytes.get_mut(at..at + CHUNK)?.first_chunk_mut()
    }

    /// The kept segment of this number, as it passed.
    #[inline(always)]
    fn segment(&self, number: u32) -> Option<Segment> {
        if number >= self.count {
            return None;
        }
        let piece = self.pieces.get(number as usize & (PIECES - 1))?;
        Some(Segment {
            sequence: (self.base as u32).wrapping_add(piece.from),
            length: piece.to - piece.from,
            now_ns: piece.at_ns,
            ..Segment::default()
        })
    }

    /// What a header at `offset` in a kept segment can need.
    #[inline(always)]
    #[must_use]
    pub fn header(&self, segment: &Segment, offset: u32) -> Option<&[u8; HEADER_MAX]> {
        let at = segment.sequence.wrapping_sub(self.base as u32) + offset;
        let at = at as usize & (WINDOW - 1);
        self.bytes.get(at..at + HEADER_MAX)?.first_chunk()
    }
}

/// The bytes of a kept segment, on the host.
#[cfg(not(target_arch = "bpf"))]
pub struct Kept<'a>(pub &'a Early, pub &'a Segment);

#[cfg(not(target_arch = "bpf"))]
impl crate::stream::Payload for Kept<'_> {
    fn load(&self, offset: u32, into: &mut [u8]) -> bool {
        let Some(bytes) = self.0.header(self.1, offset) else {
            return false;
        };
        into.copy_from_slice(&bytes[..into.len()]);
        true
    }
}
