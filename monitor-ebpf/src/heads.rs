//! The heads of the opening handshake: keeps the request's until the response comes, and reads the
//! response's to its end.

use core::ffi::{c_long, c_void};

use aya_ebpf::{bindings::bpf_sock, helpers::generated::bpf_loop};
use monitor_ebpf::{
    counter::Counter,
    event::{Opening, REQUEST_HEAD_MAX, RESPONSE_HEAD_MAX},
    socket::{Direction, Phase, Socket},
    stream::Next,
    upgrade::{Beginning, HEAD_MAX, REQUEST_LINE, STATUS_LINE, Scan},
};

use crate::{
    candidates,
    identity::{Kind, awaited, identify, is_open, kind, sent},
    keep,
    maps::{BEGUN, OPENINGS},
    openings::{self, Table},
    packet::Packet,
    report::{count, tell, tell_opening},
    storage::{forget, remember},
};

/// What a `bpf_loop` callback returns.
const GO_ON: c_long = 0;
const STOP: c_long = 1;

/// The payload of a packet whose socket is unknown, or waits for an answer to a request that it
/// `requests` in pieces. Gives the socket back when it opened a WebSocket.
#[inline(always)]
pub(crate) fn begin(
    packet: &Packet,
    sk: *mut bpf_sock,
    direction: Direction,
    requests: bool,
) -> Option<*mut Socket> {
    let length = packet.segment.length;
    let mut first = [0u8; 16];
    let wanted = if length < Beginning::BYTES {
        length
    } else {
        Beginning::BYTES
    };
    // SAFETY: 12 bytes into 16.
    if !unsafe { packet.copy::<{ Beginning::BYTES }>(0, first.as_mut_ptr(), wanted) } {
        return None;
    }
    let beginning = Beginning::of(&first, length);
    match kind(sk) {
        Kind::Connection => {}
        Kind::Listener if beginning == Beginning::Request && !packet.is_syn() => {
            begin_request_of_none(packet, direction);
            return None;
        }
        Kind::Listener | Kind::Other => return None,
    }
    match beginning {
        Beginning::Neither if direction == Direction::Ingress => begin_behind_hole(packet, sk),
        Beginning::Neither => {}
        Beginning::Request => begin_request(packet, sk, direction),
        Beginning::OtherResponse => {
            let asked = openings::key(packet, direction.other());
            openings::remove(&OPENINGS, asked);
            if requests {
                openings::remove(&BEGUN, asked);
            }
        }
        Beginning::Response => return begin_response(packet, sk, direction),
    }
    None
}

/// Whether a packet begins like a request or a response.
#[inline(always)]
pub(crate) fn begins(packet: &Packet) -> bool {
    let mut first = [0u8; 4];
    // SAFETY: 4 bytes into 4; the helper refuses what is not there.
    let read = unsafe { packet.copy::<4>(0, first.as_mut_ptr(), 4) };
    read && (first == REQUEST_LINE || first == STATUS_LINE[..4])
}

/// What passes while an answer is awaited and is not the next byte may be frames that overtook the 101:
/// they are kept until it comes.
#[inline(always)]
fn begin_behind_hole(packet: &Packet, sk: *mut bpf_sock) {
    let awaited = awaited(sk);
    let ahead = packet.segment.sequence.wrapping_sub(awaited).cast_signed();
    let asked = openings::key(packet, Direction::Egress);
    if ahead <= 0 || openings::own(&OPENINGS, asked).is_none() {
        return;
    }
    let Some(socket) = remember(sk) else { return };
    // SAFETY: the storage of `sk`; see `storage::storage`.
    unsafe {
        (*socket).await_response(Direction::Ingress, awaited);
        let stream = (*socket).stream(Direction::Ingress);
        if stream.arrive(&packet.segment) == Next::Early {
            keep::keep(packet, openings::cookie(packet), stream);
        }
    }
}

/// A request that comes with the end of the TCP handshake (a full accept queue, a lost ACK,
/// TCP_DEFER_ACCEPT) passes before its socket exists: the kernel shows the listening one. The 101 will
/// acknowledge the request's end.
#[inline(always)]
fn begin_request_of_none(packet: &Packet, direction: Direction) {
    let end = packet.segment.sequence.wrapping_add(packet.segment.length);
    if let Some(place) = packet.remote_place(direction, end) {
        keep_request(packet, &BEGUN, place);
    }
}

#[inline(always)]
fn begin_request(packet: &Packet, sk: *mut bpf_sock, direction: Direction) {
    let key = openings::key(packet, direction);
    if ends_head(packet) {
        return keep_request(packet, &OPENINGS, key);
    }
    let Some(socket) = remember(sk) else { return };
    openings::remove(&OPENINGS, key);
    keep_request(packet, &BEGUN, key);
    // SAFETY: the storage of `sk`; see `storage::storage`.
    unsafe {
        (*socket).begin(Phase::Request, direction, &packet.segment);
        (*socket).stream(direction).skip(&packet.segment);
    }
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
        if packet.copy::<{ REQUEST_HEAD_MAX as u32 }>(0, into, kept) {
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
    unsafe { packet.copy::<4>(at, last.as_mut_ptr(), 4) && last == *b"\r\n\r\n" }
}

/// Keeps more of a request that came in pieces.
#[inline(always)]
pub(crate) fn go_on_request(packet: &Packet, socket: *mut Socket, direction: Direction) {
    // SAFETY: the storage of the packet's socket; see `storage::storage`.
    let stream = unsafe { (*socket).stream(direction) };
    let Some(offset) = stream.offset(&packet.segment) else {
        return;
    };
    stream.skip(&packet.segment);
    let key = openings::key(packet, direction);
    let Some(opening) = openings::own(&BEGUN, key) else {
        return;
    };
    // SAFETY: an entry of the table; see `openings::new`.
    unsafe { note_end(packet, opening) };
    let mut bytes = Bytes {
        packet,
        socket,
        opening,
        offset,
        direction,
        scan: Scan::More,
    };
    run(
        packet.segment.length - offset,
        keep_request_byte,
        &mut bytes,
    );
    if ends_head(packet) {
        openings::settle(key, key);
    }
}

unsafe extern "C" fn keep_request_byte(_: u64, bytes: *mut Bytes<'_>) -> c_long {
    // SAFETY: `run` passes a pointer to its caller's `Bytes`; what they point to outlives the call.
    unsafe {
        let bytes = &mut *bytes;
        let at = (*bytes.opening).request_length as usize;
        if at >= REQUEST_HEAD_MAX {
            return STOP;
        }
        let into = (&raw mut (*bytes.opening).request).cast::<u8>().add(at);
        if !bytes.packet.copy::<1>(bytes.offset, into, 1) {
            return STOP;
        }
        (*bytes.opening).request_length = at as u32 + 1;
        bytes.offset += 1;
    }
    GO_ON
}

#[inline(always)]
fn begin_response(packet: &Packet, sk: *mut bpf_sock, direction: Direction) -> Option<*mut Socket> {
    let asked = openings::key(packet, direction.other());
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
                candidates::begin(packet, sk, socket, direction);
            }
        }
        return None;
    };
    // SAFETY: an entry of the table; see `openings::new`.
    unsafe { (*opening).response_length = 0 };
    let Some(socket) = remember(sk) else {
        count(Counter::SocketLost);
        openings::remove(&OPENINGS, asked);
        return None;
    };
    // SAFETY: the storage of `sk`; see `storage::storage`.
    unsafe { (*socket).begin(Phase::Response, direction, &packet.segment) };
    go_on_response(packet, sk, socket, direction)
}

/// Reads more of a response. Gives the socket back when its head is whole and opened a WebSocket.
#[inline(always)]
pub(crate) fn go_on_response(
    packet: &Packet,
    sk: *mut bpf_sock,
    socket: *mut Socket,
    direction: Direction,
) -> Option<*mut Socket> {
    // SAFETY: the storage of `sk`; see `storage::storage`.
    let offset = unsafe { (*socket).stream(direction) }.offset(&packet.segment)?;
    let asked = openings::key(packet, direction.other());
    let mut bytes = Bytes {
        packet,
        socket,
        opening: openings::own(&OPENINGS, asked).unwrap_or_default(),
        offset,
        direction,
        scan: Scan::More,
    };
    run(
        packet.segment.length - offset,
        read_response_byte,
        &mut bytes,
    );
    match bytes.scan {
        Scan::More => {
            // SAFETY: as above.
            let stream = unsafe { (*socket).stream(direction) };
            if !stream.keeps_early() {
                return None;
            }
            // The rest of the head is among what was kept, where only frames are looked for.
            count(Counter::ResponseGap);
            openings::remove(&OPENINGS, asked);
            candidates::begin(packet, sk, socket, direction);
            return None;
        }
        Scan::Other => {}
        Scan::TooLong => count(Counter::ResponseTooLong),
        Scan::WebSocket => return open(packet, sk, socket, direction),
    }
    openings::remove(&OPENINGS, asked);
    forget(sk);
    None
}

unsafe extern "C" fn read_response_byte(_: u64, bytes: *mut Bytes<'_>) -> c_long {
    // SAFETY: as in `keep_request_byte`.
    unsafe {
        let bytes = &mut *bytes;
        let mut byte = 0;
        if !bytes.packet.copy::<1>(bytes.offset, &raw mut byte, 1) {
            return STOP;
        }
        bytes.offset += 1;
        let opening = bytes.opening;
        if !opening.is_null() {
            let at = (*opening).response_length as usize;
            if at < RESPONSE_HEAD_MAX {
                *(&raw mut (*opening).response).cast::<u8>().add(at) = byte;
                (*opening).response_length = at as u32 + 1;
            }
        }
        bytes.scan = (*bytes.socket).read_head(bytes.direction, byte);
        if bytes.scan == Scan::More {
            GO_ON
        } else {
            STOP
        }
    }
}

#[inline(always)]
fn open(
    packet: &Packet,
    sk: *mut bpf_sock,
    socket: *mut Socket,
    direction: Direction,
) -> Option<*mut Socket> {
    let asked = openings::key(packet, direction.other());
    let opening = openings::own(&OPENINGS, asked);
    // An end that closed before the 101 did so unseen: what follows could not be told truly.
    if !is_open(sk) {
        count(Counter::ClosedBefore);
        openings::remove(&OPENINGS, asked);
        forget(sk);
        return None;
    }
    let Some(identity) = identify(sk, openings::cookie(packet)) else {
        count(Counter::SocketLost);
        openings::remove(&OPENINGS, asked);
        forget(sk);
        return None;
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
    Some(socket)
}

/// The bytes of a packet from `offset` on, one a turn.
struct Bytes<'a> {
    packet: &'a Packet,
    socket: *mut Socket,
    opening: *mut Opening,
    offset: u32,
    direction: Direction,
    scan: Scan,
}

#[inline(always)]
fn run(
    length: u32,
    turn: unsafe extern "C" fn(u64, *mut Bytes<'_>) -> c_long,
    bytes: &mut Bytes<'_>,
) {
    let turns = if length < u32::from(HEAD_MAX) + 1 {
        length
    } else {
        u32::from(HEAD_MAX) + 1
    };
    let bytes: *mut Bytes<'_> = bytes;
    // SAFETY: the kernel calls `turn` with this pointer, and not after the helper returns.
    unsafe { bpf_loop(turns, turn as *mut c_void, bytes.cast(), 0) };
}
