//! The bodies of the fuzz targets. `fuzz/` feeds them with what libFuzzer makes up; the tests here
//! with the corpus that it left, so that an ordinary test run walks the same ways.

use std::{net::IpAddr, ops::Range, time::Duration};

use zerocopy::{FromBytes as _, IntoBytes as _};

use crate::{
    early::{PIECES, WINDOW},
    event::{Closer, Event, Lost, OPENING_FIXED, RESPONSE_HEAD_MAX, Side, Snapshot},
    model::{Plain, PlainHeader, Receiver, Told, follow, plain, plain_head},
    proxy,
    socket::{ClosedBy, Direction, Identity, Socket},
    stream::{Segment, Stream},
    upgrade::{Beginning, REQUEST_LINE, ResponseHead, STATUS_LINE, Scan},
};

/// The head scanner, byte by byte, against the plain parser of the whole head.
///
/// The first two bytes are how much is filled in after the 13th of the rest, most often nothing, so
/// that long heads need no long inputs.
pub fn response_head(input: &[u8]) {
    let Some((&fill, rest)) = input.split_first_chunk() else {
        return;
    };
    let (before, after) = rest.split_at(rest.len().min(STATUS_LINE.len() + 1));
    let fill = u16::from_le_bytes(fill).saturating_sub(0xc000);
    let fill = vec![b'x'; usize::from(fill)];
    let bytes = [before, &fill, after].concat();

    let mut head = ResponseHead::default();
    let said = bytes.iter().map(|byte| head.push(*byte));
    let said = said.zip(1..).find(|(scan, _)| *scan != Scan::More);
    let expected = plain_head(&bytes);
    assert_eq!(said.unwrap_or((Scan::More, bytes.len())), expected);

    let mut first = [0xee; 16];
    let length = bytes.len().min(16);
    first[..length].copy_from_slice(&bytes[..length]);
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(a, b)| a == b);
    let is_whole = bytes.len() >= STATUS_LINE.len();
    let beginning = match (begins(&STATUS_LINE), begins(&REQUEST_LINE)) {
        _ if bytes.is_empty() => Beginning::Neither,
        (true, _) => Beginning::Response,
        (false, true) => Beginning::Request,
        (false, false) if bytes.starts_with(&proxy::TEXT) || bytes.starts_with(&proxy::BINARY) => {
            Beginning::Proxied
        }
        (false, false) if is_whole && begins(b"HTTP/1.1 1") => Beginning::Neither,
        (false, false) if is_whole && begins(b"HTTP/1.") => Beginning::OtherResponse,
        (false, false) => Beginning::Neither,
    };
    assert_eq!(Beginning::of(&first, bytes.len() as u32), beginning);
}

/// The longest stream that is made of an input.
const STREAM_MAX: usize = 100_000;

/// The follower, over segments that come in any order, repeated, overlapping or not at all, against
/// the plain parser of the whole stream. See `Passing` for the input.
pub fn frame_walker(input: &[u8]) {
    let Some(passing) = Passing::read(input) else {
        return;
    };
    let Passing {
        sequence, bytes, ..
    } = &passing;
    let mut receiver = Receiver::starting_at(*sequence);
    let mut pieces = Vec::new();
    let mut edge = 0usize;
    let mut in_order = true;
    for &(kind, ahead, length) in &passing.segments {
        let start = edge
            .saturating_add_signed(isize::from(ahead))
            .min(bytes.len());
        let piece = start..(start + usize::from(length)).min(bytes.len());
        if kind & FORGED != 0 {
            // TCP takes none of these; nothing may come of them.
            let segment = Segment {
                sequence: sequence.wrapping_add(start as u32),
                awaited: sequence.wrapping_add(receiver.awaited() as u32),
                rst: true,
                now_ns: 1 << 32,
                ..Segment::default()
            };
            receiver.look(&segment, &[]);
            continue;
        }
        in_order &= start <= edge;
        edge = edge.max(piece.end);
        receiver.pass(bytes, &piece, kind & FIN != 0 && piece.end == bytes.len());
        pieces.push(piece);
    }
    if passing.repairs {
        // TCP's sender repeats what is not acknowledged, until all is there.
        while receiver.awaited() < bytes.len() {
            let piece = receiver.awaited()..(receiver.awaited() + 1400).min(bytes.len());
            receiver.pass(bytes, &piece, piece.end == bytes.len());
            pieces.push(piece);
        }
    }
    let whole = receiver.awaited() == bytes.len();
    let edge = pieces.iter().map(|piece| piece.end).max().unwrap_or(0);
    let plain = plain(&bytes[..edge]);
    let is_clear = !receiver.was_unclear();
    let fits = whole && is_clear && bytes.len() <= WINDOW && pieces.len() <= PIECES;
    check(receiver.end(), &pieces, plain, in_order || fits);
    check(follow(*sequence, bytes, &pieces), &pieces, plain, in_order);
}

/// What is told is true; and it is all there is to tell, unless the direction is lost, which may not
/// be where `must_follow`. What a lost direction finds again is no certainty, and the fuzzer would make up
/// what deceives it: how improbable that is by chance is measured elsewhere.
fn check(told: Told, pieces: &[Range<usize>], plain: Plain, must_follow: bool) {
    if told.lost == Some(Lost::Gap) {
        return assert!(!must_follow, "{told:?} of {plain:?}");
    }
    assert!(told.frames <= plain.frames, "{told:?} of {plain:?}");
    match (told.close, plain.close) {
        (Some((piece, code)), Some((end, expected))) => {
            assert_eq!((code, told.frames), (expected, plain.frames));
            let piece = &pieces[piece as usize - 1];
            assert!(piece.contains(&(end - 1)), "dated by {piece:?}: {end}");
        }
        (Some(_), None) => panic!("no such Close frame: {told:?} of {plain:?}"),
        (None, Some(_)) => assert!(told.lost.is_some(), "{told:?} of {plain:?}"),
        (None, None) => {}
    }
    match told.lost {
        None => assert!(!plain.broken && told.frames == plain.frames),
        Some(Lost::InvalidFrame) => assert!(plain.broken && told.frames == plain.frames),
        Some(why) => panic!("lost for no reason: {why:?}"),
    }
}

const FIN: u8 = 1;
const FORGED: u8 = 2;

/// An input of `frame_walker`: the sequence number of the first byte; flags; how many segments;
/// of each its flags, its start from the furthest end so far, and its length; and the stream, in
/// which the payload of data frames is not written out.
struct Passing {
    sequence: u32,
    repairs: bool,
    segments: Vec<(u8, i16, u16)>,
    bytes: Vec<u8>,
}

impl Passing {
    fn read(input: &[u8]) -> Option<Self> {
        let (&[a, b, c, d, flags, count], rest) = input.split_first_chunk()?;
        let (segments, stream) = rest.split_at_checked(5 * usize::from(count % 64))?;
        let segment = |s: &[u8]| {
            let length = u16::from_le_bytes([s[3], s[4]]);
            (s[0], i16::from_le_bytes([s[1], s[2]]), length)
        };
        Some(Self {
            sequence: u32::from_be_bytes([a, b, c, d]),
            repairs: flags & 1 != 0,
            segments: segments.chunks(5).map(segment).collect(),
            bytes: write_out(stream),
        })
    }
}

/// Puts payload behind the headers of data frames, of bytes that look like Close frames.
fn write_out(mut stream: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Ok(Some(header)) = PlainHeader::read(stream) {
        let (written, rest) = stream.split_at(header.header);
        bytes.extend(written);
        stream = rest;
        if header.opcode < 8 {
            let room = STREAM_MAX.saturating_sub(bytes.len());
            let payload = room.min(header.payload.try_into().unwrap_or(room));
            let like_close = [0x88, 2, 3, 0xe8].repeat(payload / 4 + 1);
            bytes.extend(&like_close[..payload]);
        } else {
            let payload = stream.len().min(header.payload as usize);
            bytes.extend(&stream[..payload]);
            stream = &stream[payload..];
        }
        if bytes.len() >= STREAM_MAX {
            break;
        }
    }
    bytes.extend(stream);
    bytes.truncate(STREAM_MAX);
    bytes
}

/// The ring decoder, on any bytes: what it takes and what not, and that it says everything that it
/// read.
pub fn ring_event(input: &[u8]) {
    let decoded = Event::decode(input);
    let word = |at: usize| {
        let bytes = input[at..at + 4].try_into().expect("four bytes");
        u32::from_ne_bytes(bytes) as usize
    };
    let fixed = size_of::<Socket>();
    let is_whole = input.len() == fixed
        || input.len() >= OPENING_FIXED
            && word(fixed) <= RESPONSE_HEAD_MAX
            && word(fixed + 4) <= input.len() - OPENING_FIXED;
    let has_role = Socket::read_from_prefix(input).is_ok_and(|(s, _)| matches!(s.role, 1 | 2));
    let Ok(event) = decoded else {
        assert!(!(is_whole && has_role), "refused");
        return;
    };
    assert!(is_whole && has_role, "taken");
    let again = encode(&event);
    assert_eq!(Event::decode(&again).as_ref(), Ok(&event));
    let facts = |record| facts(&Socket::read_from_prefix(record).expect("decoded").0);
    assert_eq!(facts(&again), facts(input));
}

/// The numbers of a record, as far as they are told.
fn facts(socket: &Socket) -> [u64; 24] {
    let of = |stream: &Stream, other: &Stream| {
        let close_ns = if stream.believes_close(other) {
            stream.close_ns
        } else {
            0
        };
        let has_code = close_ns != 0 && stream.has_code != 0;
        [
            close_ns,
            has_code.into(),
            if has_code { stream.code.into() } else { 0 },
            if stream.has_fin() { stream.fin_ns } else { 0 },
            stream.rst_ns,
            (stream.fin_answers_fin != 0).into(),
            stream.frames,
            stream.lost().map_or(0, |why| why as u64),
        ]
    };
    let identity = &socket.identity;
    let whole = [
        identity.cookie,
        identity.cgroup_id,
        u64::from(identity.local_port) << 16 | u64::from(identity.remote_port),
        socket.role.into(),
        socket.taken_ns,
        socket.opened_ns,
        socket.ended_ns,
        socket.rtt_us.into(),
    ];
    let (sent, received) = (socket.sent(), socket.received());
    let both = [of(sent, received), of(received, sent)].concat();
    let all = [&whole[..], &both].concat();
    all.try_into().expect("8 and twice 8")
}

/// The record that says what an event says, and nothing else.
fn encode(event: &Event<'_>) -> Vec<u8> {
    let mut record = socket(&event.snapshot).as_bytes().to_vec();
    if let Some(heads) = &event.heads {
        record.extend((heads.response.len() as u32).to_ne_bytes());
        record.extend((heads.request.len() as u32).to_ne_bytes());
        let mut response = [0; RESPONSE_HEAD_MAX];
        response[..heads.response.len()].copy_from_slice(heads.response);
        record.extend(response);
        record.extend(heads.request);
    }
    record
}

fn socket(snapshot: &Snapshot) -> Socket {
    let ends = [snapshot.local, snapshot.remote];
    let is_ipv6 = ends.iter().any(|end| end.is_ipv6());
    let [local_address, remote_address] = ends.map(|end| address(end.ip(), is_ipv6));
    let ns = |time: Duration| time.as_nanos() as u64;
    let mut socket = Socket::default();
    socket.identity = Identity {
        cookie: snapshot.cookie,
        cgroup_id: snapshot.cgroup_id,
        local_address,
        remote_address,
        local_port: snapshot.local.port(),
        remote_port: snapshot.remote.port(),
        is_ipv6: u8::from(is_ipv6),
        ..Identity::default()
    };
    socket.role = snapshot.role as u8;
    socket.taken_ns = ns(snapshot.taken);
    socket.opened_ns = snapshot.opened.map_or(0, ns);
    socket.ended_ns = snapshot.ended.map_or(0, ns);
    socket.rtt_us = snapshot.rtt.map_or(0, |rtt| rtt.as_micros() as u32);
    if let Some(Closer { pid, tid, comm }) = snapshot.closer {
        socket.closed_by = ClosedBy { pid, tid, comm };
    }
    *socket.stream(Direction::Egress) = stream(&snapshot.sent);
    *socket.stream(Direction::Ingress) = stream(&snapshot.received);
    socket
}

fn stream(side: &Side) -> Stream {
    let ns = |time: Duration| time.as_nanos() as u64;
    let mut stream = Stream::telling(side);
    stream.close_ns = side.close.map_or(0, |close| ns(close.at));
    let code = side.close.and_then(|close| close.code);
    stream.code = code.unwrap_or(0);
    stream.has_code = u8::from(code.is_some());
    stream.fin_ns = side.fin.map_or(0, ns);
    stream.rst_ns = side.rst.map_or(0, ns);
    stream.fin_answers_fin = u8::from(side.fin_answers_fin);
    stream.frames = side.frames;
    stream.lost = side.lost.map_or(0, |why| why as u8);
    stream
}

fn address(ip: IpAddr, is_ipv6: bool) -> [u8; 16] {
    let mut address = [0; 16];
    match ip {
        IpAddr::V6(v6) => address = v6.octets(),
        IpAddr::V4(v4) if is_ipv6 => address = v4.to_ipv6_mapped().octets(),
        IpAddr::V4(v4) => address[..4].copy_from_slice(&v4.octets()),
    }
    address
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    /// Runs a target over its part of the corpus.
    fn replay(name: &str, target: fn(&[u8])) {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fuzz/corpus")
            .join(name);
        let files = fs::read_dir(&corpus).expect("the corpus");
        let mut inputs = 0;
        for file in files {
            let path = file.expect("the corpus").path();
            // The last of these lines names the input that failed.
            eprintln!("{}", path.display());
            target(&fs::read(path).expect("the corpus"));
            inputs += 1;
        }
        assert!(inputs > 0, "{} is empty", corpus.display());
    }

    #[test]
    fn corpus_of_response_head() {
        replay("response_head", super::response_head);
    }

    #[test]
    fn corpus_of_frame_walker() {
        replay("frame_walker", super::frame_walker);
    }

    #[test]
    fn corpus_of_ring_event() {
        replay("ring_event", super::ring_event);
    }
}
