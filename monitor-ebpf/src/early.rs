//! Segments that passed before their turn: behind a hole in front of a frame header.
//!
//! In: such a segment, and a way to copy its bytes. Out, once the hole is filled: the segments again,
//! each with the time at which it passed. TCP itself keeps the same bytes until they are in order; this
//! keeps the first 32 KiB of them for the few directions that are in disorder at one time. What does
//! not fit is not kept, and the stream says so when it comes to it.

use core::hint::black_box;

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
    /// While a segment is being taken in: the kept ones that have bytes of its own, and where those of the
    /// last that begins before it end.
    overlaps: u32,
    overlapped_to: u32,
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

/// What becomes of a segment that passes before its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Its bytes are to be put there.
    At(Room),
    /// Nothing: there is no room for it, or TCP has its bytes already.
    Nothing,
    /// It says what kept ones said as well, in a way in which it cannot be known what TCP makes of that.
    Unclear,
}

/// Where bytes of a segment are to be put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// From here on: see [`Early::chunk`].
    pub at: u32,
    /// So many bytes of the segment are not wanted.
    pub skip: u32,
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
    /// room.
    ///
    /// Of bytes that came twice Linux keeps the first copy when all of the later segment was there, and
    /// otherwise that of the segment that begins first (`tcp_data_queue_ofo`). It may have joined
    /// neighbours before, so what overlaps more than one is unclear.
    #[inline(always)]
    pub fn keep(&mut self, stream: &Stream, segment: &Segment) -> Keep {
        let from = stream.position(segment.sequence).checked_sub(self.base);
        let Some(from) = from.filter(|from| *from < WINDOW as u64) else {
            return Keep::Nothing;
        };
        let begin = from as u32;
        let mut from = begin;
        let left = WINDOW as u32 - from;
        let length = if segment.length < left {
            segment.length
        } else {
            left
        };
        let to = from + length;
        self.compare(from, to);
        if self.overlapped_to >= to {
            return Keep::Nothing;
        }
        if self.overlaps > 1 {
            return Keep::Unclear;
        }
        if self.overlapped_to > from {
            from = self.overlapped_to;
        }
        // Read again, so that the number that is compared is the one that is used: the verifier of Linux 5.10
        // does not know a copy of it for the same.
        let Some(piece) = self.pieces.get_mut(black_box(self.count) as usize) else {
            return Keep::Nothing;
        };
        *piece = Piece {
            from: begin,
            to,
            at_ns: segment.now_ns,
        };
        self.count += 1;
        Keep::At(Room {
            at: from,
            skip: from - begin,
            length: to - from,
        })
    }

    /// Compares a segment's place with those of all that are kept: in arithmetic, for the verifier follows
    /// every way through a loop. All numbers are below 2³¹.
    #[inline(always)]
    fn compare(&mut self, from: u32, to: u32) {
        self.overlaps = 0;
        self.overlapped_to = 0;
        for number in 0..PIECES {
            if number as u32 >= self.count {
                break;
            }
            let Some(piece) = self.pieces.get(number) else {
                break;
            };
            let (its_from, its_to) = (piece.from, piece.to);
            let overlaps = less(its_from, to) & less(from, its_to);
            let covers = (1 - less(from, its_from)) & (1 - less(its_to, to));
            let begins_before = overlaps & (less(its_from, from) | covers);
            self.overlaps += overlaps;
            let furthest = its_to * begins_before;
            let more = less(self.overlapped_to, furthest);
            self.overlapped_to += furthest.wrapping_sub(self.overlapped_to) & more.wrapping_neg();
        }
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

/// 1 when `a < b`, else 0, without a branch.
#[inline(always)]
fn less(a: u32, b: u32) -> u32 {
    a.wrapping_sub(b) >> 31
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

    fn now_ns(&self) -> u64 {
        self.1.now_ns
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use zerocopy::FromZeros as _;

    use super::*;

    /// One end's bytes behind a hole, as Linux queues them: `tcp_data_queue_ofo` and `tcp_ofo_queue`.
    #[derive(Default)]
    struct Queue {
        /// In order: where each begins, and its bytes.
        segments: Vec<(u32, Vec<u8>)>,
    }

    fn end((from, bytes): &(u32, Vec<u8>)) -> u32 {
        from + bytes.len() as u32
    }

    impl Queue {
        fn receive(&mut self, from: u32, bytes: Vec<u8>) {
            let new = (from, bytes);
            let mut at = 0;
            for (number, old) in self.segments.iter().enumerate() {
                if from < old.0 {
                    break;
                }
                if from < end(old) && end(&new) <= end(old) {
                    return;
                }
                // What begins there as well, and is shorter, is covered.
                at = if from == old.0 { number } else { number + 1 };
            }
            let to = end(&new);
            self.segments.insert(at, new);
            while let Some(next) = self.segments.get(at + 1)
                && end(next) <= to
            {
                self.segments.remove(at + 1);
            }
        }

        /// What is read once everything before `awaited` is there.
        fn read(&self, mut awaited: u32) -> Vec<u8> {
            let mut read = Vec::new();
            for segment in &self.segments {
                if segment.0 > awaited {
                    break;
                }
                if end(segment) > awaited {
                    read.extend(&segment.1[(awaited - segment.0) as usize..]);
                    awaited = end(segment);
                }
            }
            read
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        /// Each segment says something else: what is kept is what TCP will read, or it is called unclear.
        #[test]
        fn of_two_copies_the_one_that_tcp_takes(
            segments in vec((8..40_u32, 1..16_usize), 1..8),
        ) {
            const HOLE: u32 = 8;
            let stream = Stream::starting_at(1000);
            let mut early = Early::new_zeroed();
            early.begin(1, &stream);
            let mut queue = Queue::default();
            for (number, (from, length)) in (1..).zip(segments) {
                let segment = Segment {
                    sequence: 1000 + from,
                    length: length as u32,
                    now_ns: number.into(),
                    ..Segment::default()
                };
                let bytes = vec![number; length];
                match early.keep(&stream, &segment) {
                    Keep::Unclear => return Ok(()),
                    Keep::Nothing => {}
                    Keep::At(room) => {
                        let wanted = &bytes[room.skip as usize..][..room.length as usize];
                        let chunk = early.chunk(room.at).expect("inside");
                        chunk[..wanted.len()].copy_from_slice(wanted);
                    }
                }
                queue.receive(from, bytes);
            }
            let read = queue.read(HOLE);
            prop_assert_eq!(&early.bytes[HOLE as usize..][..read.len()], &read[..]);
        }
    }

    #[test]
    fn one_that_overlaps_two_is_unclear() {
        let stream = Stream::starting_at(0);
        let mut early = Early::new_zeroed();
        early.begin(1, &stream);
        let mut keep = |sequence, length| {
            let segment = Segment {
                sequence,
                length,
                ..Segment::default()
            };
            early.keep(&stream, &segment)
        };
        let at = |at, skip, length| Keep::At(Room { at, skip, length });
        assert_eq!(keep(10, 10), at(10, 0, 10));
        assert_eq!(keep(20, 10), at(20, 0, 10));
        assert_eq!(keep(12, 8), Keep::Nothing, "all of it is there");
        assert_eq!(keep(12, 10), Keep::Unclear);
        assert_eq!(keep(25, 10), at(30, 5, 5), "what is new of it");
        assert_eq!(keep(5, 10), at(5, 0, 10), "it begins before");
        assert_eq!(keep(WINDOW as u32, 10), Keep::Nothing, "no room");
    }
}
