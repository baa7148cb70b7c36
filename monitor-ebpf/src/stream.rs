//! Follows the frames of one direction over TCP sequence numbers.
//!
//! In: the segments of one end in the order in which this host sees them, and a way to read their
//! bytes. Out: when that end sent its first Close frame and with what code, its first FIN and RST,
//! and how many frames. Payload is skipped by arithmetic: only headers are read. A repeated segment
//! changes nothing. A hole inside payload is harmless. A segment behind a hole in front of a header is
//! kept until its turn comes (`early.rs`); where that cannot be, the direction is lost, says so, and its
//! frames are searched for (`stream/search.rs`).
//!
//! Positions are 64-bit, their low 32 bits the TCP sequence number: a frame may be longer than 2³²
//! bytes, and sequence numbers wrap.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    event::Lost,
    frame::{self, FrameHeader, HEADER_MAX, Parsed},
};

mod acknowledged;
mod end;
mod reception;
mod search;

use search::Search;

/// The largest window there is (RFC 7323 section 2.3).
pub const WINDOW_MAX: i32 = 1 << 30;

/// A source of payload bytes: a packet in the kernel, a slice in the tests.
pub trait Payload {
    /// Copies the bytes from `offset` on into `into`, which holds 1 to [`HEADER_MAX`] bytes; false
    /// when they are not all there.
    fn load(&self, offset: u32, into: &mut [u8]) -> bool;

    /// When it passes, ns since boot: asked for where it matters and [`Segment::now_ns`] does not say it, for asking
    /// the clock takes as long as all else that is done with most packets.
    fn now_ns(&self) -> u64;
}

/// What a TCP header says of a segment, and when it passed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Segment {
    /// Sequence number of the first payload byte.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledges: u32,
    /// Bytes of payload.
    pub length: u32,
    /// The sequence number that the receiver waits for, where that is this host; else `sequence`.
    pub awaited: u32,
    /// The FIN flag.
    pub fin: bool,
    /// The RST flag.
    pub rst: bool,
    /// When it passed, ns since boot; 0 when nobody asked yet: see [`Payload::now_ns`].
    pub now_ns: u64,
}

/// What is to be done after a look at a segment or at a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The segment may hold another header.
    Turn,
    /// The segment passed before its turn: bytes in front of it are missing.
    Early,
    /// Done with this segment.
    Done,
}

/// What is remembered of one direction. All zero is a direction that has not begun.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Stream {
    /// Position of the next byte to be read.
    pub(crate) cursor: u64,
    /// End of the furthest segment seen.
    pub(crate) edge: u64,
    /// Everything before this has passed, or TCP has it; the FIN is included.
    pub(crate) through: u64,
    /// Position of the first FIN, which takes up one sequence number; 0 before.
    fin_at: u64,
    /// Position after the first Close frame; 0 before its header was read.
    close_end: u64,
    /// When the last byte of the first Close frame passed; 0 before.
    pub(crate) close_ns: u64,
    /// When the first FIN passed; 0 before.
    pub(crate) fin_ns: u64,
    /// When the first RST passed; 0 before.
    pub(crate) rst_ns: u64,
    /// Frames as long as this direction was followed from its beginning.
    pub(crate) frames: u64,
    /// A header that began in an earlier segment. The size lets the verifier see that 15 bytes at
    /// any index below 16 stay inside.
    header: [u8; 30],
    /// Bytes of the first Close frame, when it was read in its turn.
    close_length: u8,
    /// What the receiving TCP made of the first Close frame, as far as that showed: see `stream/reception.rs`.
    reception: u8,
    /// How many bytes of it are there.
    header_have: u8,
    /// A [`Lost`], or 0.
    pub(crate) lost: u8,
    /// The first Close frame's status code.
    pub(crate) code: u16,
    /// Whether it had one.
    pub(crate) has_code: u8,
    /// The first FIN acknowledged the other end's.
    pub(crate) fin_answers_fin: u8,
    /// Which of `close_ns`, `fin_ns` and `rst_ns` are known. In memory, so that the verifier need not follow
    /// every combination of them.
    facts: u8,
    /// Segments that passed before their turn are kept: see `early.rs`.
    pub(crate) keeps_early: u8,
    /// How far its frames are found again, or were.
    search: Search,
}

const CLOSE: u8 = 1;
const FIN: u8 = 2;
const RST: u8 = 4;

impl Stream {
    /// A direction whose next byte has the sequence number `sequence`.
    #[inline(always)]
    #[must_use]
    pub fn starting_at(sequence: u32) -> Self {
        let start = (1 << 32) | u64::from(sequence);
        Self {
            cursor: start,
            edge: start,
            through: start,
            ..Self::default()
        }
    }

    /// A direction that tells what this side says, but for numbers and times.
    #[cfg(any(test, feature = "model"))]
    pub(crate) fn telling(side: &crate::event::Side) -> Self {
        let facts = [(side.close.is_some(), CLOSE), (side.fin.is_some(), FIN)];
        let reception = [
            (side.close_left, reception::LEFT),
            (side.reread, reception::REREAD),
        ];
        let bits = |flags: [(bool, u8); 2]| {
            let set = flags.into_iter().filter(|(is_set, _)| *is_set);
            set.map(|(_, bit)| bit).sum()
        };
        Self {
            facts: bits(facts),
            reception: bits(reception),
            search: Search::telling(side.missed, side.only_control),
            ..Self::default()
        }
    }

    /// The position that `sequence` stands for: the one nearest to what has passed.
    #[inline(always)]
    pub(crate) fn position(&self, sequence: u32) -> u64 {
        let ahead = sequence.wrapping_sub(self.through as u32).cast_signed();
        self.through.wrapping_add_signed(i64::from(ahead))
    }

    /// Looks at a segment's place and flags. [`Next::Turn`]: it holds the byte at the cursor.
    #[inline(always)]
    pub fn arrive(&mut self, segment: &Segment) -> Next {
        let start = self.position(segment.sequence);
        let end = start + u64::from(segment.length);
        let is_old = end <= self.through;
        if segment.rst {
            self.note_rst(start, segment);
            return Next::Done;
        }
        // Nothing follows a FIN, so one that ends before what has passed is not this stream's; one with
        // nothing missing in front of it counts more than one elsewhere that waits for that.
        let corrects = !self.has_fin() && start <= self.through && end != self.fin_at;
        if segment.fin && (self.fin_at == 0 || corrects) && end >= self.through {
            self.fin_at = end;
            self.fin_ns = segment.now_ns;
        }
        if end > self.edge {
            self.edge = end;
        }
        if start <= self.through {
            self.pass(end);
        }
        self.look(segment, is_old)
    }

    /// Looks at a segment's place alone, of one that [`Stream::arrive`] saw now or before.
    #[inline(always)]
    pub fn take(&mut self, segment: &Segment) -> Next {
        self.look(segment, false)
    }

    /// `is_old`: all of the segment had passed before. In a lost direction a frame would be found in it that is
    /// not of this time, or a keep-alive's byte, which is none of the stream (RFC 9293 section 3.8.4).
    #[inline(always)]
    fn look(&mut self, segment: &Segment, is_old: bool) -> Next {
        let start = self.position(segment.sequence);
        let end = start + u64::from(segment.length);
        if segment.length == 0 {
            return Next::Done;
        }
        if self.lost != 0 {
            return self.seek(start, end, is_old);
        }
        if self.close_end != 0 {
            self.note_close(start, end, segment.now_ns);
            return Next::Done;
        }
        if end <= self.cursor {
            return Next::Done;
        }
        if start > self.cursor {
            Next::Early
        } else {
            Next::Turn
        }
    }

    /// Whether everything that passed was read or skipped. A Close frame whose end has passed and was not
    /// noted was not read.
    #[inline(always)]
    #[must_use]
    pub fn is_in_order(&self) -> bool {
        let missed_close = self.close_end != 0 && self.edge >= self.close_end;
        self.lost != 0 || self.has_close() || (self.cursor >= self.edge && !missed_close)
    }

    /// Whether this direction is followed, in order, and nothing of its end has passed.
    #[inline(always)]
    pub(crate) fn is_quiet(&self) -> bool {
        let unquiet = self.lost | self.facts | self.keeps_early | self.search.close_found();
        unquiet == 0 && self.close_end == 0 && self.fin_at == 0
    }

    /// Whether segments that passed before their turn are kept.
    #[inline(always)]
    #[must_use]
    pub fn keeps_early(&self) -> bool {
        self.keeps_early != 0
    }

    /// Segments that pass before their turn are kept from here on, or no longer.
    #[inline(always)]
    pub fn set_keeps_early(&mut self, keeps: bool) {
        self.keeps_early = u8::from(keeps);
    }

    /// Where in a segment, for which [`Stream::arrive`] or [`Stream::turn`] asked for a turn, the
    /// cursor stands; none when that is past its end.
    #[inline(always)]
    pub fn offset(&self, segment: &Segment) -> Option<u32> {
        let offset = (self.cursor as u32).wrapping_sub(segment.sequence);
        let ahead = self.cursor > self.edge;
        (!ahead && offset < segment.length).then_some(offset)
    }

    /// Goes past the bytes of a segment that hold no frames.
    #[inline(always)]
    pub fn skip(&mut self, segment: &Segment) {
        self.cursor = self.position(segment.sequence) + u64::from(segment.length);
    }

    /// Reads at most one header, at the cursor.
    #[inline(always)]
    pub fn turn(&mut self, segment: &Segment, payload: &impl Payload) -> Next {
        let Some(offset) = self.offset(segment) else {
            return Next::Done;
        };
        // What the longest header could still need, as far as the segment goes.
        let have = u32::from(self.header_have) & 15;
        let there = segment.length - offset;
        let wanted = HEADER_MAX as u32 - have;
        let length = if wanted < there { wanted } else { there } & 15;
        let at = have as usize;
        let Some(into) = self.header.get_mut(at..at + length as usize) else {
            return self.lose(Lost::Unreadable);
        };
        if !payload.load(offset, into) {
            return self.lose(Lost::Unreadable);
        }
        let Some(bytes) = self.header.first_chunk() else {
            return self.lose(Lost::Unreadable);
        };
        let first = [bytes[0], bytes[1]];
        match frame::parse(bytes, have + length) {
            Parsed::Invalid => self.refuse(segment),
            Parsed::Need(_) => {
                self.header_have = (have + length) as u8;
                self.cursor += u64::from(length);
                Next::Done
            }
            Parsed::Frame(header) => self.read(segment, payload, first, header, have),
        }
    }

    /// The same where the bytes at the cursor are at hand, of a header of which nothing has passed before: all that it
    /// can need, or else the `there` last of the segment.
    #[inline(always)]
    pub fn turn_at(
        &mut self,
        segment: &Segment,
        payload: &impl Payload,
        bytes: &[u8; HEADER_MAX],
        there: u32,
    ) -> Next {
        match frame::parse(bytes, there) {
            Parsed::Invalid => self.refuse(segment),
            Parsed::Need(_) => {
                if let Some(into) = self.header.first_chunk_mut() {
                    *into = *bytes;
                }
                self.header_have = there as u8;
                self.cursor += u64::from(there);
                Next::Done
            }
            Parsed::Frame(header) => self.read(segment, payload, [bytes[0], bytes[1]], header, 0),
        }
    }

    #[inline(always)]
    fn refuse(&mut self, segment: &Segment) -> Next {
        if self.lost == 0 {
            self.lose(Lost::InvalidFrame)
        } else {
            self.miss(segment.length)
        }
    }

    /// A header was read, of which `have` bytes had passed before.
    #[inline(always)]
    fn read(
        &mut self,
        segment: &Segment,
        payload: &impl Payload,
        first: [u8; 2],
        header: FrameHeader,
        have: u32,
    ) -> Next {
        self.header_have = 0;
        // `read` counts from the frame's first byte, of which `have` passed before.
        self.cursor += u64::from(header.read) - u64::from(have) + header.rest;
        if self.lost != 0 {
            return self.weigh(first, &header, segment);
        }
        self.frames += u64::from(!self.has_missed());
        self.search.note_frame(first[0]);
        let Some(body) = header.close else {
            self.close_ns = 0;
            return Next::Turn;
        };
        let (code, has_code) = (body.code, u8::from(body.has_code));
        let length = (u64::from(header.read) + header.rest) as u8;
        let differs = (self.code ^ code)
            | u16::from(self.has_code ^ has_code)
            | u16::from(self.close_length ^ length);
        if differs != 0 {
            self.close_ns = 0;
        }
        self.code = code;
        self.has_code = has_code;
        self.close_end = self.cursor;
        self.close_length = length;
        let start = self.position(segment.sequence);
        let now_ns = if segment.now_ns == 0 {
            payload.now_ns()
        } else {
            segment.now_ns
        };
        self.note_close(start, start + u64::from(segment.length), now_ns);
        Next::Done
    }

    /// A segment holds or announces a byte that the receiver may not read in its place.
    #[inline(always)]
    pub fn lose_to_urgent_data(&mut self) {
        self.lose_once(Lost::Unreadable);
    }

    #[inline(always)]
    fn lose_once(&mut self, why: Lost) {
        if self.lost == 0 && !self.has_close() {
            self.lose(why);
        }
    }

    /// Which facts are known: the first Close frame, FIN and RST, a bit for each.
    #[inline(always)]
    pub(crate) fn facts(&self) -> u8 {
        self.facts
    }

    /// Whether the first Close frame passed.
    #[inline(always)]
    pub(crate) fn has_close(&self) -> bool {
        self.facts & CLOSE != 0
    }

    /// Why this direction is not followed any more.
    #[inline(always)]
    #[must_use]
    pub fn lost(&self) -> Option<Lost> {
        Lost::from_raw(self.lost)
    }

    /// The Close frame has passed with the segment that holds its last byte.
    #[inline(always)]
    fn note_close(&mut self, start: u64, end: u64, now_ns: u64) {
        let is_there = start < self.close_end && end >= self.close_end;
        // A segment that was kept passed before the one that filled the hole in front of it, which may
        // repeat its bytes.
        if !is_there {
            return;
        }
        self.facts |= CLOSE;
        if self.close_ns == 0 || now_ns < self.close_ns {
            self.close_ns = now_ns;
        }
    }
}

#[cfg(test)]
mod tests;
