//! The heads of the opening handshake: keeps the request's until the response comes, and reads the
//! response's to its end. Few packets carry one, so what is done with it are global functions that read the
//! packet's headers again.

use aya_ebpf::bindings::{__sk_buff, bpf_sock};
use monitor_ebpf::{
    counter::Counter,
    event::{Opening, REQUEST_HEAD_MAX, RESPONSE_HEAD_MAX},
    socket::{Direction, Phase, Socket},
    stream::Next,
    upgrade::{Beginning, HEAD_MAX, REQUEST_LINE, STATUS_LINE, Scan},
};

use crate::{
    candidates,
    frames::forget_values,
    identity::{Kind, awaited, identify, is_open, kind, sent},
    keep,
    maps::{BEGUN, OPENINGS},
    openings::{self, Table},
    packet::{Numbers, Packet},
    report::{count, tell, tell_opening},
    storage::{forget, of_packet, remember},
};

/// What the functions here return.
const NOTHING: u64 = 0;
const GO_ON: u64 = 1;
const OPENED: u64 = 2;
/// A packet was read to its end, which no [`Scan`] says.
const READ: u64 = 0xff;

/// Bytes of a head that are read in one go: see `frames.rs` for the nesting.
const SOME: u32 = 8;
const MANY: u32 = 64;
/// Enough to see that a head is too long.
const ALL: u32 = HEAD_MAX as u32 / (SOME * MANY) + 1;

/// The payload of a packet whose socket is unknown, or waits for an answer to a request that it `requests`
/// in pieces. Whether it opened a WebSocket.
#[inline(always)]
pub(crate) fn begin(
    packet: &Packet,
    sk: *mut bpf_sock,
    direction: Direction,
    requests: bool,
) -> bool {
    let length = packet.segment.length;
    // Written as words, or the compiler calls a function to write zeros.
    let mut first = [0u64; 2];
    let wanted = if length < Beginning::BYTES {
        length
    } else {
        Beginning::BYTES
    };
    // SAFETY: 12 bytes into 16.
    if !unsafe {
        packet
            .body
            .copy::<{ Beginning::BYTES }>(0, first.as_mut_ptr().cast(), wanted)
    } {
        return false;
    }
    let beginning = Beginning::of(&zerocopy::transmute!(first), length);
    if beginning == Beginning::Neither && direction == Direction::Egress {
        return false;
    }
    let (skb, now_ns, way) = (packet.body.skb, packet.segment.now_ns, direction as u64);
    match (kind(sk), beginning) {
        (Kind::Listener, Beginning::Request) if !packet.is_syn() => {
            begin_request_of_none(skb, way);
        }
        (Kind::Listener | Kind::Other, _) => {}
        (Kind::Connection, Beginning::Neither) => {
            let awaited = awaited(sk);
            if packet.segment.sequence.wrapping_sub(awaited).cast_signed() > 0 {
                begin_behind_hole(skb, now_ns);
            }
        }
        (Kind::Connection, Beginning::Request) => {
            begin_request(skb, now_ns, way);
        }
        (Kind::Connection, Beginning::OtherResponse) => {
            let asked = openings::key(skb, direction.other());
            openings::remove(&OPENINGS, asked);
            if requests {
                openings::remove(&BEGUN, asked);
            }
        }
        (Kind::Connection, Beginning::Response) => {
            return begin_response(skb, now_ns, way) == GO_ON && go_on_response(packet, direction);
        }
    }
    false
}

/// Whether a packet begins like a request or a response.
#[inline(always)]
pub(crate) fn begins(packet: &Packet) -> bool {
    let mut first = [0u8; 4];
    // SAFETY: 4 bytes into 4; the helper refuses what is not there.
    let read = unsafe { packet.body.copy::<4>(0, first.as_mut_ptr(), 4) };
    read && (first == REQUEST_LINE || first == STATUS_LINE[..4])
}

/// The packet again, as the hook saw it.
#[inline(always)]
fn again(skb: *mut __sk_buff, now_ns: u64, way: u64) -> Option<(Packet, Direction)> {
    let mut packet = Packet::read(skb)?;
    packet.segment.now_ns = now_ns;
    let direction = if way & 1 == Direction::Egress as u64 {
        Direction::Egress
    } else {
        Direction::Ingress
    };
    Some((packet, direction))
}

/// What passes while an answer is awaited and is not the next byte may be frames that overtook the 101:
/// they are kept until it comes.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn begin_behind_hole(skb: *mut __sk_buff, now_ns: u64) -> u64 {
    let Some((packet, direction)) = again(skb, now_ns, Direction::Ingress as u64) else {
        return NOTHING;
    };
    // SAFETY: the hook's own context, whose fields may be read.
    let sk = unsafe { (*skb).__bindgen_anon_2.sk };
    if sk.is_null() || openings::own(&OPENINGS, openings::key(skb, direction.other())).is_none() {
        return NOTHING;
    }
    let awaited = awaited(sk);
    let Some(socket) = remember(sk) else {
        return NOTHING;
    };
    // SAFETY: the storage of `sk`; see `storage::storage`.
    unsafe {
        (*socket).await_response(direction, awaited);
        if (*socket).stream(direction).arrive(&packet.segment) == Next::Early {
            keep::keep(&packet);
        }
    }
    NOTHING
}

/// A request that comes with the end of the TCP handshake (a full accept queue, a lost ACK,
/// TCP_DEFER_ACCEPT) passes before its socket exists: the kernel shows the listening one. The 101 will
/// acknowledge the request's end.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn begin_request_of_none(skb: *mut __sk_buff, way: u64) -> u64 {
    let Some((packet, direction)) = again(skb, 0, way) else {
        return NOTHING;
    };
    let end = packet.segment.sequence.wrapping_add(packet.segment.length);
    if let Some(place) = packet.remote_place(direction, end) {
        keep_request(&packet, &BEGUN, place);
    }
    NOTHING
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn begin_request(skb: *mut __sk_buff, now_ns: u64, way: u64) -> u64 {
    let Some((packet, direction)) = again(skb, now_ns, way) else {
        return NOTHING;
    };
    // SAFETY: the hook's own context, whose fields may be read.
    let sk = unsafe { (*skb).__bindgen_anon_2.sk };
    let key = openings::key(skb, direction);
    if ends_head(&packet) {
        keep_request(&packet, &OPENINGS, key);
        return NOTHING;
    }
    if sk.is_null() {
        return NOTHING;
    }
    let Some(socket) = remember(sk) else {
        return NOTHING;
    };
    openings::remove(&OPENINGS, key);
    keep_request(&packet, &BEGUN, key);
    // SAFETY: the storage of `sk`; see `storage::storage`.
    unsafe {
        (*socket).begin(Phase::Request, direction, &packet.segment);
        (*socket).stream(direction).skip(&packet.segment);
    }
    NOTHING
}

#[inline(always)]
fn keep_request<const N: usize>(packet: &Packet, table: &Table<N>, key: u64) {
    let Some(opening) = openings::new(table, key) else {
        return;
    };
    let length = packet.segment.length;
    // SAFETY: an entry of the table; see `openings::new`.
    unsafe {
        (*opening).socket.identity.cookie = 0;
        (*opening).response_length = 0;
        (*opening).request_length = 0;
        let into = (&raw mut (*opening).request).cast();
        let kept = if length < REQUEST_HEAD_MAX as u32 {
            length
        } else {
            REQUEST_HEAD_MAX as u32
        };
        if packet
            .body
            .copy::<{ REQUEST_HEAD_MAX as u32 }>(0, into, kept)
        {
            (*opening).request_length = kept;
        }
        note_end(packet, opening);
        (*opening).socket.identity.cookie = key;
    }
}

/// Notes whether the request ends with this packet, and where.
#[inline(always)]
unsafe fn note_end(packet: &Packet, opening: *mut Opening) {
    // SAFETY: the caller's: an entry of the table; see `openings::new`.
    unsafe {
        let segment = &packet.segment;
        (*opening).request_end = segment.sequence.wrapping_add(segment.length);
        (*opening).is_whole = u32::from(ends_head(packet));
    }
}

/// Whether the packet ends with the empty line that ends a head.
#[inline(always)]
fn ends_head(packet: &Packet) -> bool {
    let mut last = [0u8; 4];
    let Some(at) = packet.segment.length.checked_sub(4) else {
        return false;
    };
    // SAFETY: 4 bytes into 4.
    unsafe { packet.body.copy::<4>(at, last.as_mut_ptr(), 4) && last == *b"\r\n\r\n" }
}

/// Keeps more of a request that came in pieces.
#[inline(always)]
pub(crate) fn go_on_request(packet: &Packet, direction: Direction) {
    read_request(packet.body.skb, direction as u64);
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_request(skb: *mut __sk_buff, way: u64) -> u64 {
    let Some((packet, direction)) = again(skb, 0, way) else {
        return NOTHING;
    };
    let Some((_, socket)) = of_packet(skb) else {
        return NOTHING;
    };
    // SAFETY: the storage of the packet's socket; see `storage::storage`.
    let stream = unsafe { (*socket).stream(direction) };
    let Some(offset) = stream.offset(&packet.segment) else {
        return NOTHING;
    };
    stream.skip(&packet.segment);
    let key = openings::key(skb, direction);
    let Some(opening) = openings::own(&BEGUN, key) else {
        return NOTHING;
    };
    // SAFETY: an entry of the table; see `openings::new`.
    unsafe { note_end(&packet, opening) };
    let Numbers { place, way, .. } = packet.numbers(direction);
    for number in 0..REQUEST_HEAD_MAX as u32 / SOME {
        let from = offset + number * SOME;
        if from >= packet.segment.length || keep_some(skb, place, way, from) == NOTHING {
            break;
        }
    }
    if ends_head(&packet) {
        openings::settle(key, key);
    }
    NOTHING
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn keep_some(skb: *mut __sk_buff, place: u64, way: u64, from: u32) -> u64 {
    let numbers = Numbers {
        place,
        now_ns: 0,
        way,
    };
    let (body, segment, direction) = numbers.packet(skb);
    let Some(opening) = openings::own(&BEGUN, openings::key(skb, direction)) else {
        return NOTHING;
    };
    for number in 0..SOME {
        let offset = from + number;
        // SAFETY: an entry of the table; see `openings::new`.
        unsafe {
            let at = (*opening).request_length as usize;
            if offset >= segment.length || at >= REQUEST_HEAD_MAX {
                return NOTHING;
            }
            let into = (&raw mut (*opening).request).cast::<u8>().add(at);
            if !body.copy::<1>(offset, into, 1) {
                return NOTHING;
            }
            (*opening).request_length = at as u32 + 1;
        }
        forget_values();
    }
    GO_ON
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn begin_response(skb: *mut __sk_buff, now_ns: u64, way: u64) -> u64 {
    let Some((packet, direction)) = again(skb, now_ns, way) else {
        return NOTHING;
    };
    // SAFETY: the hook's own context, whose fields may be read.
    let sk = unsafe { (*skb).__bindgen_anon_2.sk };
    if sk.is_null() {
        return NOTHING;
    }
    let asked = openings::key(skb, direction.other());
    if openings::own(&OPENINGS, asked).is_none() {
        openings::settle(asked, asked);
    }
    if openings::own(&OPENINGS, asked).is_none()
        && let Some(place) = packet.remote_place(direction, packet.segment.acknowledges)
    {
        openings::settle(place, asked);
    }
    let Some(opening) = openings::own(&OPENINGS, asked) else {
        if packet.segment.length >= Beginning::BYTES {
            count(Counter::ResponseUnasked);
            if let Some(socket) = remember(sk) {
                candidates::begin(&packet, sk, socket, direction);
            }
        }
        return NOTHING;
    };
    // SAFETY: an entry of the table; see `openings::new`.
    unsafe { (*opening).response_length = 0 };
    let Some(socket) = remember(sk) else {
        count(Counter::SocketLost);
        openings::remove(&OPENINGS, asked);
        return NOTHING;
    };
    // SAFETY: the storage of `sk`; see `storage::storage`.
    unsafe { (*socket).begin(Phase::Response, direction, &packet.segment) };
    GO_ON
}

/// Reads more of a response. Whether its head is whole and opened a WebSocket.
#[inline(always)]
pub(crate) fn go_on_response(packet: &Packet, direction: Direction) -> bool {
    read_response(packet.body.skb, packet.segment.now_ns, direction as u64) == OPENED
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_response(skb: *mut __sk_buff, now_ns: u64, way: u64) -> u64 {
    let Some((packet, direction)) = again(skb, now_ns, way) else {
        return NOTHING;
    };
    let Some((sk, socket)) = of_packet(skb) else {
        return NOTHING;
    };
    let asked = openings::key(skb, direction.other());
    let Numbers { place, way, .. } = packet.numbers(direction);
    let scan = read_all_response(skb, place, way);
    if scan == Scan::WebSocket as u64 {
        return open(&packet, sk, socket, direction);
    }
    if scan == Scan::TooLong as u64 {
        count(Counter::ResponseTooLong);
    } else if scan == READ {
        // SAFETY: the storage of `sk`; see `storage::storage`.
        let stream = unsafe { (*socket).stream(direction) };
        if stream.keeps_early() {
            // The rest of the head is among what was kept, where only frames are looked for.
            count(Counter::ResponseGap);
            openings::remove(&OPENINGS, asked);
            candidates::begin(&packet, sk, socket, direction);
        }
        return NOTHING;
    }
    openings::remove(&OPENINGS, asked);
    forget(sk);
    NOTHING
}

/// Reads a response to its end, or the packet's: what the last byte said, as for [`read_some_response`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_all_response(skb: *mut __sk_buff, place: u64, way: u64) -> u64 {
    for _ in 0..ALL {
        let scan = read_many_response(skb, place, way);
        if scan != Scan::More as u64 {
            return scan;
        }
    }
    Scan::More as u64
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_many_response(skb: *mut __sk_buff, place: u64, way: u64) -> u64 {
    for _ in 0..MANY {
        let scan = read_some_response(skb, place, way);
        if scan != Scan::More as u64 {
            return scan;
        }
    }
    Scan::More as u64
}

/// Reads some bytes of a response: what the last one said, a [`Scan`] as a number, or [`READ`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_some_response(skb: *mut __sk_buff, place: u64, way: u64) -> u64 {
    let numbers = Numbers {
        place,
        now_ns: 0,
        way,
    };
    let (body, segment, direction) = numbers.packet(skb);
    let Some((_, socket)) = of_packet(skb) else {
        return READ;
    };
    let opening = openings::own(&OPENINGS, openings::key(skb, direction.other()));
    for _ in 0..SOME {
        let mut byte = 0;
        // SAFETY: the storage of the packet's socket, see `storage::storage`, and an entry of the table.
        unsafe {
            let Some(offset) = (*socket).stream(direction).offset(&segment) else {
                return READ;
            };
            if !body.copy::<1>(offset, &raw mut byte, 1) {
                return READ;
            }
            if let Some(opening) = opening {
                let at = (*opening).response_length as usize;
                if at < RESPONSE_HEAD_MAX {
                    *(&raw mut (*opening).response).cast::<u8>().add(at) = byte;
                    (*opening).response_length = at as u32 + 1;
                }
            }
            let scan = (*socket).read_head(direction, byte);
            if scan != Scan::More {
                return scan as u64;
            }
        }
        forget_values();
    }
    Scan::More as u64
}

#[inline(always)]
fn open(packet: &Packet, sk: *mut bpf_sock, socket: *mut Socket, direction: Direction) -> u64 {
    let asked = openings::key(packet.body.skb, direction.other());
    let opening = openings::own(&OPENINGS, asked);
    // An end that closed before the 101 did so unseen: what follows could not be told truly.
    if !is_open(sk) {
        count(Counter::ClosedBefore);
        openings::remove(&OPENINGS, asked);
        forget(sk);
        return NOTHING;
    }
    let Some(identity) = identify(sk, openings::cookie(packet.body.skb)) else {
        count(Counter::SocketLost);
        openings::remove(&OPENINGS, asked);
        forget(sk);
        return NOTHING;
    };
    // SAFETY: the storage of `sk`, see `storage::storage`, and an entry of the table.
    unsafe {
        (*socket).identity = identity;
        let acknowledges = packet.segment.acknowledges;
        let nothing_between = opening.is_some_and(|opening| {
            (*opening).is_whole != 0 && (*opening).request_end == acknowledges
        });
        (*socket).open(direction, &packet.segment, nothing_between, sent(sk));
        match opening {
            Some(opening) => {
                // Then it may be another request's.
                if !nothing_between {
                    (*opening).request_length = 0;
                }
                (*opening).socket = *socket;
                tell_opening(opening);
                openings::remove(&OPENINGS, asked);
            }
            None => {
                tell(socket, Counter::EventLost);
            }
        }
    }
    OPENED
}
