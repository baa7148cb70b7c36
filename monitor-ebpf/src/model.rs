//! What the library is compared with, by its tests and its fuzz targets: plain parsers that see
//! everything at once (`model/parsers.rs`), and the follower driven as the kernel side drives it.
//!
//! Never part of what is shipped: here is allocated and asserted.

use std::ops::Range;

use zerocopy::FromZeros as _;

use crate::{
    early::{CHUNK, Early, Keep, Kept, Step},
    event::Lost,
    stream::{Next, Payload, Segment, Stream},
    window::{Bulk, WINDOW, Window},
};

pub use self::parsers::{Broken, Plain, PlainHeader, plain, plain_head};

mod parsers;

/// The bytes of a segment.
pub(crate) struct Piece<'a>(pub(crate) &'a [u8]);

impl Payload for Piece<'_> {
    fn load(&self, offset: u32, into: &mut [u8]) -> bool {
        assert!(!into.is_empty() && into.len() <= 14);
        let from = offset as usize;
        let Some(bytes) = self.0.get(from..from + into.len()) else {
            panic!("read past the end of the segment");
        };
        into.copy_from_slice(bytes);
        true
    }

    fn now_ns(&self) -> u64 {
        unreachable!("every segment here says when it passed");
    }
}

impl Bulk for Piece<'_> {
    fn fill(&self, offset: u32, into: &mut [u8; WINDOW], length: u32) -> bool {
        let (from, length) = (offset as usize, length as usize);
        assert!(length != 0, "nothing is to be filled in");
        // What was there before stays behind it.
        into[..length].copy_from_slice(&self.0[from..from + length]);
        true
    }
}

/// Reads the headers in a segment of which [`Stream::arrive`] said that it holds some.
fn read(stream: &mut Stream, segment: &Segment, payload: &Piece<'_>) -> Next {
    let mut next = stream.turn(segment, payload);
    let mut window = Window::new_zeroed();
    window.begin();
    while next == Next::Turn {
        next = window.turn(stream, segment, payload);
    }
    next
}

/// What is told of a direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The first Close frame: when its last byte passed, and its code.
    pub close: Option<(u64, Option<u16>)>,
    /// Frames up to the first Close frame, which counts too.
    pub frames: u64,
    /// Why the direction is not followed any more; [`Lost::Gap`] as well when it was lost before and found
    /// again.
    pub lost: Option<Lost>,
}

/// What a follower tells.
#[must_use]
pub fn told(stream: &Stream) -> Told {
    let code = (stream.has_code != 0).then_some(stream.code);
    Told {
        close: stream.has_close().then_some((stream.close_ns, code)),
        frames: stream.frames,
        lost: if stream.has_missed() {
            Some(Lost::Gap)
        } else {
            stream.lost()
        },
    }
}

/// Feeds pieces to a follower whose stream starts at `sequence`; the time of a piece is its number,
/// from 1. As on the way out: nothing is kept.
pub fn follow(sequence: u32, bytes: &[u8], pieces: &[Range<usize>]) -> Told {
    let mut stream = Stream::starting_at(sequence);
    for (number, piece) in pieces.iter().enumerate() {
        let segment = Segment {
            sequence: sequence.wrapping_add(piece.start as u32),
            length: piece.len() as u32,
            now_ns: number as u64 + 1,
            ..Segment::default()
        };
        let mut next = stream.arrive(&segment);
        if next == Next::Turn {
            next = read(&mut stream, &segment, &Piece(&bytes[piece.clone()]));
        }
        if next == Next::Early {
            stream.lose(Lost::Gap);
        }
    }
    stream.finish();
    told(&stream)
}

/// As on the way in: early segments are kept, and a direction whose header TCP has had already is
/// lost.
pub fn receive(sequence: u32, bytes: &[u8], pieces: &[Range<usize>]) -> Told {
    let mut receiver = Receiver::starting_at(sequence);
    for piece in pieces {
        receiver.pass(bytes, piece, false);
    }
    receiver.end()
}

/// The follower of what comes in, and the TCP behind it.
pub struct Receiver {
    sequence: u32,
    stream: Stream,
    early: Early,
    tcp: Tcp,
    number: u64,
    was_unclear: bool,
}

impl Receiver {
    /// A direction whose first byte has the sequence number `sequence`.
    #[must_use]
    pub fn starting_at(sequence: u32) -> Self {
        Self {
            sequence,
            stream: Stream::starting_at(sequence),
            early: Early::new_zeroed(),
            tcp: Tcp::default(),
            number: 0,
            was_unclear: false,
        }
    }

    /// The segment with this piece of the stream passes, and TCP receives it.
    pub fn pass(&mut self, bytes: &[u8], piece: &Range<usize>, fin: bool) {
        self.number += 1;
        let segment = Segment {
            sequence: self.sequence.wrapping_add(piece.start as u32),
            length: piece.len() as u32,
            fin,
            now_ns: self.number,
            ..Segment::default()
        };
        self.look(&segment, &bytes[piece.clone()]);
        self.tcp.receive(piece);
    }

    /// A segment passes.
    pub fn look(&mut self, segment: &Segment, bytes: &[u8]) {
        let awaited = self.sequence.wrapping_add(self.tcp.awaited as u32);
        let Self {
            stream,
            early,
            was_unclear,
            ..
        } = self;
        match stream.arrive(segment) {
            Next::Done => {}
            Next::Turn => {
                read(stream, segment, &Piece(bytes));
            }
            Next::Early if stream.is_overtaken(awaited) => {
                stream.lose(Lost::Gap);
            }
            Next::Early => {
                if !stream.keeps_early() {
                    early.begin(1, stream);
                    stream.set_keeps_early(true);
                }
                *was_unclear |= keep(early, stream, segment, bytes) == Keep::Unclear;
            }
        }
        if stream.keeps_early() {
            loop {
                match early.step(stream) {
                    Step::Read(segment) => {
                        let next = stream.turn(&segment, &Kept(early, &segment));
                        early.has_read(next);
                    }
                    Step::More => {}
                    Step::Done => break,
                }
            }
            stream.set_keeps_early(!stream.is_in_order());
        }
    }

    /// The first byte that TCP waits for, counted from the stream's first.
    #[must_use]
    pub fn awaited(&self) -> usize {
        self.tcp.awaited
    }

    /// Whether a segment came of which it cannot be known what TCP makes of it.
    #[must_use]
    pub fn was_unclear(&self) -> bool {
        self.was_unclear
    }

    /// Nothing more passes.
    #[must_use]
    pub fn end(mut self) -> Told {
        self.stream.finish();
        told(&self.stream)
    }
}

fn keep(early: &mut Early, stream: &mut Stream, segment: &Segment, bytes: &[u8]) -> Keep {
    let keep = early.keep(stream, segment);
    match keep {
        Keep::Nothing => {}
        Keep::Unclear => {
            stream.lose(Lost::Gap);
        }
        Keep::At(room) => {
            let wanted = &bytes[room.skip as usize..][..room.length as usize];
            for (number, part) in wanted.chunks(CHUNK).enumerate() {
                let chunk = early
                    .chunk(room.at + (number * CHUNK) as u32)
                    .expect("inside");
                chunk[..part.len()].copy_from_slice(part);
            }
        }
    }
    keep
}

/// What TCP waits for, as it receives pieces in any order.
#[derive(Default)]
struct Tcp {
    awaited: usize,
    early: Vec<Range<usize>>,
}

impl Tcp {
    fn receive(&mut self, piece: &Range<usize>) {
        self.early.push(piece.clone());
        while let Some(next) = self
            .early
            .iter()
            .find(|p| p.start <= self.awaited && p.end > self.awaited)
        {
            self.awaited = next.end;
        }
    }
}
