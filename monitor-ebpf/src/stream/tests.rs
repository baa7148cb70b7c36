//! The follower against a plain parser that sees the whole stream at once.

use std::ops::Range;

use proptest::{collection::vec, prelude::*, sample::Index};

use super::{Next, Payload, Segment, Stream};
use crate::{
    early::{PIECES, WINDOW},
    event::Lost,
    model::{Told, follow, receive, told},
};

/// The plain answer: how many frames there are up to the first Close frame, its end and its code.
fn plain(frames: &[Frame]) -> (u64, Option<(usize, Option<u16>)>) {
    let mut end = 0;
    for (index, frame) in frames.iter().enumerate() {
        end += frame.bytes().len();
        if frame.opcode == 0x8 {
            return (index as u64 + 1, Some((end, frame.code)));
        }
    }
    (frames.len() as u64, None)
}

#[derive(Clone, Debug)]
struct Frame {
    opcode: u8,
    first: u8,
    mask: Option<[u8; 4]>,
    code: Option<u16>,
    payload: Vec<u8>,
}

impl Frame {
    fn bytes(&self) -> Vec<u8> {
        let mut body = self
            .code
            .map(|code| code.to_be_bytes().to_vec())
            .unwrap_or_default();
        body.extend(&self.payload);
        let masked = if self.mask.is_some() { 0x80 } else { 0 };
        let mut bytes = vec![self.first | self.opcode];
        match body.len() {
            length @ 0..=125 => bytes.push(masked | length as u8),
            length @ 126..=65535 => {
                bytes.push(masked | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            length => {
                bytes.push(masked | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        if let Some(mask) = self.mask {
            bytes.extend(mask);
            for (index, byte) in body.iter_mut().enumerate() {
                *byte ^= mask[index % 4];
            }
        }
        bytes.extend(body);
        bytes
    }
}

fn data() -> impl Strategy<Value = Frame> {
    let length = prop_oneof![4 => 0usize..20, 2 => 100usize..140, 1 => 65530usize..65550];
    let first = prop_oneof![Just(0x80u8), Just(0x00), Just(0xc0)];
    (0u8..3, first, any::<Option<[u8; 4]>>(), length, any::<u8>()).prop_map(
        |(opcode, first, mask, length, fill)| Frame {
            opcode,
            first,
            mask,
            code: None,
            payload: vec![fill; length],
        },
    )
}

fn control(opcode: u8) -> impl Strategy<Value = Frame> {
    (
        any::<Option<[u8; 4]>>(),
        any::<Option<u16>>(),
        vec(any::<u8>(), 0..=123),
    )
        .prop_map(move |(mask, code, mut payload)| {
            let code = code.filter(|_| opcode == 0x8);
            if opcode == 0x8 && code.is_none() {
                payload.truncate(1);
            }
            Frame {
                opcode,
                first: 0x80,
                mask,
                code,
                payload,
            }
        })
}

fn frames() -> impl Strategy<Value = Vec<Frame>> {
    let frame = prop_oneof![8 => data(), 1 => control(0x9), 1 => control(0xa)];
    (
        vec(frame, 0..12),
        proptest::option::of(control(0x8)),
        vec(data(), 0..3),
    )
        .prop_map(|(before, close, after)| before.into_iter().chain(close).chain(after).collect())
}

/// Cuts `length` bytes at the given places.
fn cut(length: usize, cuts: &[Index]) -> Vec<Range<usize>> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(length + 1)).collect();
    places.extend([0, length]);
    places.sort_unstable();
    places.dedup();
    places.windows(2).map(|pair| pair[0]..pair[1]).collect()
}

fn concat(frames: &[Frame]) -> Vec<u8> {
    frames.iter().flat_map(Frame::bytes).collect()
}

/// The number, from 1, of the first piece that holds the byte before `end`.
fn piece_with(pieces: &[Range<usize>], end: usize) -> u64 {
    let holds = |piece: &Range<usize>| piece.start < end && piece.end >= end;
    pieces
        .iter()
        .position(holds)
        .expect("every byte is in a piece") as u64
        + 1
}

/// All of them together fit into what is kept.
fn short_frames() -> impl Strategy<Value = Vec<Frame>> {
    frames().prop_map(|mut frames| {
        for frame in &mut frames {
            frame.payload.truncate(1000);
        }
        frames
    })
}

proptest! {
    #[test]
    fn cutting_a_stream_anywhere_changes_nothing(
        frames in frames(),
        cuts in vec(any::<Index>(), 0..40),
        sequence in prop_oneof![any::<u32>(), (u32::MAX - 300)..=u32::MAX],
    ) {
        let bytes = concat(&frames);
        let pieces = cut(bytes.len(), &cuts);
        let (count, close) = plain(&frames);
        let close = close.map(|(end, code)| (piece_with(&pieces, end), code));
        let told = follow(sequence, &bytes, &pieces);
        prop_assert_eq!(told, Told { close, frames: count, lost: None });
    }

    #[test]
    fn repeated_segments_change_nothing(
        frames in frames(),
        cuts in vec(any::<Index>(), 0..20),
        repeats in vec((any::<Index>(), any::<Index>()), 0..20),
        sequence: u32,
    ) {
        let bytes = concat(&frames);
        let pieces = cut(bytes.len(), &cuts);
        prop_assume!(!pieces.is_empty());
        let once = follow(sequence, &bytes, &pieces);
        // Each repeat goes from the start of one piece to the end of a later one, and comes once
        // the later one has passed.
        let mut repeated: Vec<(usize, Range<usize>)> =
            pieces.iter().cloned().enumerate().collect();
        for (first, last) in repeats {
            let last = last.index(pieces.len());
            let first = first.index(last + 1);
            repeated.push((last, pieces[first].start..pieces[last].end));
        }
        repeated.sort_by_key(|(after, _)| *after);
        let pieces: Vec<Range<usize>> = repeated.into_iter().map(|(_, piece)| piece).collect();
        let twice = follow(sequence, &bytes, &pieces);
        prop_assert_eq!(twice.frames, once.frames);
        prop_assert_eq!(twice.lost, once.lost);
        prop_assert_eq!(twice.close.map(|close| close.1), once.close.map(|close| close.1));
    }

    /// Also: never panics, never reads past the end ([`Piece`] asserts it).
    #[test]
    fn any_bytes_in_any_order_are_survived(
        bytes in vec(any::<u8>(), 1..400),
        pieces in vec((any::<Index>(), any::<Index>()), 0..40),
        sequence: u32,
    ) {
        let pieces: Vec<Range<usize>> = pieces
            .iter()
            .map(|(a, b)| (a.index(bytes.len() + 1), b.index(bytes.len() + 1)))
            .map(|(a, b)| a.min(b)..a.max(b))
            .collect();
        follow(sequence, &bytes, &pieces);
    }

    /// Whatever is missing: what is told is true, or the direction is lost.
    #[test]
    fn holes_are_told_or_harmless(
        frames in frames(),
        cuts in vec(any::<Index>(), 1..20),
        dropped in any::<Index>(),
        sequence: u32,
    ) {
        let bytes = concat(&frames);
        let mut pieces = cut(bytes.len(), &cuts);
        prop_assume!(!pieces.is_empty());
        let whole = follow(sequence, &bytes, &pieces);
        pieces.remove(dropped.index(pieces.len()));
        let holed = follow(sequence, &bytes, &pieces);
        if let Some((_, code)) = holed.close {
            prop_assert_eq!(Some(code), whole.close.map(|close| close.1));
        }
        prop_assert!(holed.frames <= whole.frames);
    }
}

proptest! {
    /// Pieces that come late, at most `PIECES` of them and not past the window, change nothing but when
    /// they are known: what is told equals the plain parser's answer.
    #[test]
    fn disorder_changes_nothing(
        frames in short_frames(),
        cuts in vec(any::<Index>(), 0..PIECES - 1),
        late in vec(any::<Index>(), 0..10),
        sequence: u32,
    ) {
        let bytes = concat(&frames);
        prop_assert!(bytes.len() <= WINDOW);
        let pieces = cut(bytes.len(), &cuts);
        prop_assume!(!pieces.is_empty());
        let mut order: Vec<Range<usize>> = pieces.clone();
        for late in late {
            let piece = order.remove(late.index(order.len()));
            order.push(piece);
        }
        let (count, close) = plain(&frames);
        let close = close.map(|(end, code)| (piece_with(&order, end), code));
        let told = receive(sequence, &bytes, &order);
        prop_assert_eq!(told, Told { close, frames: count, lost: None });
    }

    /// Whatever comes, in whatever order, missing or repeated: a direction that is not lost and whose
    /// bytes all came equals the plain parser's answer; else it tells less, never something else.
    #[test]
    fn what_is_told_is_true(
        frames in frames(),
        cuts in vec(any::<Index>(), 0..60),
        order in vec(any::<Index>(), 0..80),
        sequence: u32,
    ) {
        let bytes = concat(&frames);
        let pieces = cut(bytes.len(), &cuts);
        prop_assume!(!pieces.is_empty());
        let order: Vec<Range<usize>> =
            order.iter().map(|index| pieces[index.index(pieces.len())].clone()).collect();
        let told = receive(sequence, &bytes, &order);
        let (count, close) = plain(&frames);
        prop_assert!(told.frames <= count);
        if let Some((_, code)) = told.close {
            prop_assert_eq!(Some(code), close.map(|close| close.1));
            prop_assert_eq!(told.frames, count);
        }
        let all_came = pieces.iter().all(|piece| order.contains(piece));
        if all_came && told.lost.is_none() {
            prop_assert_eq!(told.frames, count);
            prop_assert_eq!(told.close.is_some(), close.is_some());
        }
    }
}

/// A stream too long for memory: only the bytes at its `places` exist.
struct Sparse<'a> {
    start: u64,
    places: &'a [(u64, Vec<u8>)],
}

impl Payload for Sparse<'_> {
    fn load(&self, offset: u32, into: &mut [u8]) -> bool {
        let from = self.start + u64::from(offset);
        for (index, byte) in into.iter_mut().enumerate() {
            let at = from + index as u64;
            let place = self
                .places
                .iter()
                .find(|(start, bytes)| *start <= at && at < *start + bytes.len() as u64);
            *byte = place.map_or(0xee, |(start, bytes)| bytes[(at - start) as usize]);
        }
        true
    }

    fn now_ns(&self) -> u64 {
        unreachable!("every segment here says when it passed");
    }
}

#[test]
fn frames_longer_than_the_sequence_space() {
    for length in [
        (1u64 << 31) - 1,
        1 << 31,
        (1 << 32) - 1,
        1 << 32,
        (1 << 33) + 12345,
    ] {
        let mut header = vec![0x82, 127];
        header.extend(length.to_be_bytes());
        let close_at = 10 + length;
        let places = [(0, header), (close_at, vec![0x88, 2, 3, 0xe9])];
        let sequence = 0xffff_fff0u32;
        let mut stream = Stream::starting_at(sequence);
        let (mut at, end) = (0, close_at + 4);
        while at < end {
            let size = (1u64 << 20).min(end - at);
            let segment = Segment {
                sequence: sequence.wrapping_add(at as u32),
                length: size as u32,
                now_ns: at + size,
                ..Segment::default()
            };
            let payload = Sparse {
                start: at,
                places: &places,
            };
            let mut next = stream.arrive(&segment);
            while next == Next::Turn {
                next = stream.turn(&segment, &payload);
            }
            at += size;
        }
        let close = Some((end, Some(1001)));
        assert_eq!(
            told(&stream),
            Told {
                close,
                frames: 2,
                lost: None
            },
            "{length}"
        );
    }
}

#[test]
fn a_missing_header_is_a_lost_direction() {
    let bytes = [0x81, 1, b'a', 0x81, 1, b'b', 0x88, 0];
    let told = follow(1000, &bytes, &[0..3, 6..8]);
    assert_eq!(
        told,
        Told {
            close: None,
            frames: 1,
            lost: Some(Lost::Gap)
        }
    );
}

/// Found by the fuzz target: the window ends inside the Close frame's body.
#[test]
fn a_close_frame_whose_end_was_not_kept_is_a_lost_direction() {
    let mut bytes = vec![0x82, 126];
    bytes.extend((WINDOW as u16 - 8).to_be_bytes());
    bytes.resize(WINDOW - 4, b'a');
    bytes.extend([0x88, 4, 3, 0xe8, b'o', b'k']);
    let told = receive(1000, &bytes, &[1..bytes.len(), 0..1]);
    assert_eq!(
        told,
        Told {
            close: None,
            frames: 2,
            lost: Some(Lost::Gap)
        }
    );
}

#[test]
fn nothing_after_broken_framing_is_a_close_frame() {
    let bytes = [0x81, 1, b'a', 0x83, 0, 0x88, 0];
    let told = follow(1000, &bytes, &cut(bytes.len(), &[]));
    assert_eq!(
        told,
        Told {
            close: None,
            frames: 1,
            lost: Some(Lost::InvalidFrame)
        }
    );
}

#[test]
fn the_last_byte_of_a_close_frame_dates_it() {
    let bytes = [&[0x88, 5, 3, 0xe8][..], b"bye"].concat();
    let told = follow(7, &bytes, &[0..4, 4..6, 6..7]);
    assert_eq!(told.close, Some((3, Some(1000))));
    assert_eq!(follow(7, &bytes, &[0..4, 4..6]).close, None);
}

#[test]
fn a_close_frame_without_its_code_is_a_frame() {
    let server = [0x82, 1, 0, 0x88, 2, 3];
    let client = [0x88, 0x82, 1, 2, 3, 4, 5];
    for (bytes, before, header) in [(&server[..], 1, 5), (&client, 0, 6)] {
        for end in header..=bytes.len() {
            let told = follow(7, bytes, &[0..header - 1, header - 1..end]);
            assert_eq!((told.frames, told.close), (before + 1, None), "{end}");
        }
        let told = follow(7, bytes, &[0..1, 1..header - 1]);
        assert_eq!((told.frames, told.close), (before, None));
    }
}

#[test]
fn a_close_frame_that_passed_early_has_passed_then() {
    let bytes = [0x82, 1, 0, 0x88, 2, 3, 0xe8];
    let told = receive(7, &bytes, &[3..7, 0..7]);
    assert_eq!(told.close, Some((1, Some(1000))));
}

#[test]
fn what_was_acknowledged_and_not_seen_is_lost() {
    let mut stream = Stream::starting_at(100);
    stream.note_awaited(100);
    assert_eq!(stream.lost(), None);
    stream.note_awaited(101);
    assert_eq!(stream.lost(), Some(Lost::Gap));
}

#[test]
fn only_the_first_close_frame_counts() {
    let bytes = [0x88, 2, 3, 0xe8, 0x88, 2, 3, 0xe9];
    let told = follow(7, &bytes, &[0..4, 4..8]);
    assert_eq!(
        told,
        Told {
            close: Some((1, Some(1000))),
            frames: 1,
            lost: None
        }
    );
}

fn end(sequence: u32, flags: &str, awaited: u32, now_ns: u64) -> Segment {
    Segment {
        sequence,
        awaited,
        fin: flags.contains('F'),
        rst: flags.contains('R'),
        now_ns,
        ..Segment::default()
    }
}

#[test]
fn the_first_fin_and_the_first_rst_count() {
    let mut stream = Stream::starting_at(100);
    stream.arrive(&end(100, "F", 100, 1));
    stream.arrive(&end(100, "F", 100, 2));
    stream.arrive(&end(101, "R", 101, 3));
    stream.arrive(&end(101, "R", 101, 4));
    assert_eq!((stream.fin_ns, stream.rst_ns), (1, 3));
}

#[test]
fn an_rst_that_tcp_would_not_take_is_none() {
    let mut stream = Stream::starting_at(100);
    stream.arrive(&Segment {
        length: 50,
        ..end(100, "", 100, 1)
    });
    for sequence in [99, 149, 151, 100_000] {
        stream.arrive(&end(sequence, "R", 150, 2));
        assert_eq!(stream.rst_ns, 0, "{sequence}");
    }
    stream.arrive(&end(150, "R", 150, 3));
    assert_eq!(stream.rst_ns, 3);
}

#[test]
fn a_fin_beyond_a_hole_waits_and_gives_way_to_one_in_order() {
    let mut stream = Stream::starting_at(100);
    stream.arrive(&end(1_000, "F", 100, 1));
    assert!(!stream.has_fin());
    stream.arrive(&end(100, "F", 100, 2));
    assert!(stream.has_fin());
    assert_eq!(stream.fin_ns, 2);
}

#[test]
fn a_fin_beyond_a_hole_counts_from_when_it_passed() {
    let mut stream = Stream::starting_at(100);
    stream.arrive(&end(150, "F", 100, 1));
    let filler = Segment {
        length: 50,
        ..end(100, "", 100, 2)
    };
    stream.arrive(&filler);
    assert!(stream.has_fin());
    assert_eq!(stream.fin_ns, 1);
}

#[test]
fn a_fin_before_what_was_seen_is_none() {
    let mut stream = Stream::starting_at(100);
    stream.arrive(&Segment {
        length: 50,
        ..end(100, "", 100, 1)
    });
    stream.arrive(&end(120, "F", 150, 2));
    assert_eq!(stream.fin_ns, 0);
    stream.arrive(&end(150, "F", 150, 3));
    assert_eq!(stream.fin_ns, 3);
}

#[test]
fn acknowledgements_before_all_that_was_acknowledged() {
    for (acknowledges, unacknowledged, acknowledged, too_old) in [
        (1000, 1000, 0, false),
        (1001, 1000, 0, false),
        (999, 1000, 0, true),
        (500, 1000, 500, false),
        (499, 1000, 500, true),
        (0xffff_fff0, 0x10, 0x20, false),
        (0xffff_ffef, 0x10, 0x20, true),
        (5, 0x8000_0000, 1 << 40, false),
    ] {
        let told = Stream::is_too_old(acknowledges, unacknowledged, acknowledged);
        assert_eq!(told, too_old, "{acknowledges} of {unacknowledged}");
    }
}
