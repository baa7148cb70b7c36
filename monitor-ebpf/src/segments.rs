//! What a segment does: finds its socket, reads what it holds, tells the daemon what is new.

use core::ffi::{c_long, c_void};

use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock},
    helpers::generated::bpf_loop,
};
use monitor_ebpf::{
    counter::Counter,
    event::Lost,
    socket::{Direction, Look, Socket},
    stream::{Next, Stream},
};

use crate::{
    candidates, heads,
    identity::{awaited, rtt_us},
    keep, openings,
    packet::Packet,
    report::{count, count_at, tell},
    storage::{enter, forget, leave, storage},
};

/// Frames of one packet that are read at most, so that no packet is held up for long: at 80 ns a frame,
/// 1.3 ms. A full packet of 64 KiB holds this many frames of 4 bytes.
const FRAMES_PER_PACKET: u32 = 16_384;

#[inline(always)]
pub(crate) fn observe(skb: *mut __sk_buff, direction: Direction) {
    let Some(mut packet) = Packet::read(skb) else {
        return;
    };
    if packet.is_pure_ack() {
        return;
    }
    // SAFETY: the kernel hands the hook a context whose fields may be read.
    let sk = unsafe { (*skb).__bindgen_anon_2.sk };
    if sk.is_null() {
        return;
    }
    let known = storage(sk.cast(), 0);
    if known.is_none() && packet.segment.length == 0 {
        return;
    }
    packet.stamp();
    if direction == Direction::Ingress && packet.segment.rst {
        packet.segment.awaited = awaited(sk);
    }
    if direction == Direction::Egress {
        return observe_segment(&packet, sk, known, direction);
    }
    // On the way in the hook runs before the socket is locked, so two CPUs may be at one direction.
    let Some(socket) = known else {
        return observe_segment(&packet, sk, known, direction);
    };
    // TCP takes no such segment on a connection that is established.
    if packet.is_syn() || !(packet.acknowledges() || packet.segment.rst) {
        return;
    }
    // SAFETY: the storage of `sk`; see `storage::storage`.
    let stream: *mut Stream = unsafe { (*socket).stream(direction) };
    if enter(stream) {
        observe_segment(&packet, sk, known, direction);
        leave(stream);
    } else {
        // SAFETY: as above. Bytes are written, which no other CPU's work can make untrue.
        unsafe {
            if (*socket).is_open() && (*stream).lost().is_none() {
                count(Counter::StreamLost(direction, Lost::Busy));
            }
            (*stream).lose(Lost::Busy);
        }
    }
}

#[inline(always)]
fn observe_segment(
    packet: &Packet,
    sk: *mut bpf_sock,
    known: Option<*mut Socket>,
    direction: Direction,
) {
    let known = known.and_then(|socket| candidates::meet(packet, sk, socket));
    let facts = known.map_or(0, facts);
    let lost = known.map_or([0; 2], lost);
    let look = match known {
        None => Look::AtBeginning,
        // SAFETY: the storage of `sk`; see `storage::storage`.
        Some(socket) => unsafe { (*socket).arrive(direction, &packet.segment) },
    };
    let frames = take(packet, sk, known, direction, look);
    if let Some(socket) = frames {
        follow(packet, socket, direction);
    }
    if let Some(socket) = frames.or(known) {
        count_lost(socket, lost);
        candidates::judge(packet, sk, socket, direction);
        settle(sk, socket, facts);
    }
}

/// Does with a segment what is to be done. Gives the socket back when the segment holds frames.
#[inline(always)]
fn take(
    packet: &Packet,
    sk: *mut bpf_sock,
    known: Option<*mut Socket>,
    direction: Direction,
    look: Look,
) -> Option<*mut Socket> {
    if look == Look::AtBeginning {
        // SAFETY: the storage of `sk`; see `storage::storage`.
        let requests = known.is_some_and(|socket| unsafe { (*socket).still_requests() });
        let opened = heads::begin(packet, sk, direction, requests);
        // SAFETY: as above: it may be a WebSocket by now.
        if known.is_some_and(|socket| unsafe { (*socket).still_requests() }) {
            forget(sk);
        }
        return opened;
    }
    let socket = known?;
    match look {
        Look::Away | Look::AtBeginning => None,
        Look::AtRequest => {
            heads::go_on_request(packet, socket, direction);
            None
        }
        Look::AtResponse => heads::go_on_response(packet, sk, socket, direction),
        Look::AtFrames => Some(socket),
        Look::RequestLost => {
            count(Counter::RequestGap);
            forget(sk);
            None
        }
        Look::ResponseLost => {
            count(Counter::ResponseGap);
            candidates::begin(packet, sk, socket, direction);
            None
        }
        Look::Early => {
            early(packet, sk, socket, direction);
            None
        }
    }
}

/// Reads the frame headers in a packet.
#[inline(always)]
fn follow(packet: &Packet, socket: *mut Socket, direction: Direction) {
    // SAFETY: the storage of a socket; see `storage::storage`.
    let stream: *mut Stream = unsafe { (*socket).stream(direction) };
    let mut frames = Frames {
        packet,
        stream,
        next: Next::Turn,
    };
    let frames_ptr: *mut Frames<'_> = &mut frames;
    // SAFETY: the kernel calls `next_frame` with this pointer, and not after the helper returns.
    unsafe {
        bpf_loop(
            FRAMES_PER_PACKET,
            next_frame as *mut c_void,
            frames_ptr.cast(),
            0,
        );
        if frames.next == Next::Turn {
            (*stream).lose(Lost::Budget);
        }
        if (*stream).wants_look_back() {
            bpf_loop(
                Stream::BODIES,
                look_back as *mut c_void,
                frames_ptr.cast(),
                0,
            );
        }
        if direction == Direction::Ingress && (*stream).keeps_early() {
            keep::catch_up(openings::cookie(packet), stream);
        }
    }
}

/// A segment passed before its turn. On the way out nothing does; there, and where TCP has had the
/// missing bytes already, they will not come.
#[inline(always)]
fn early(packet: &Packet, sk: *mut bpf_sock, socket: *mut Socket, direction: Direction) {
    // SAFETY: the storage of `sk`; see `storage::storage`.
    unsafe {
        let stream: *mut Stream = (*socket).stream(direction);
        if direction == Direction::Egress || (*stream).is_overtaken(awaited(sk)) {
            (*stream).lose(Lost::Gap);
        } else {
            keep::keep(packet, openings::cookie(packet), stream);
        }
    }
}

struct Frames<'a> {
    packet: &'a Packet,
    stream: *mut Stream,
    next: Next,
}

unsafe extern "C" fn next_frame(_: u64, frames: *mut Frames<'_>) -> c_long {
    // SAFETY: `follow` passes a pointer to its own `Frames`; what they point to outlives the call.
    unsafe {
        let frames = &mut *frames;
        frames.next = (*frames.stream).turn(&frames.packet.segment, frames.packet);
        c_long::from(frames.next == Next::Done)
    }
}

unsafe extern "C" fn look_back(number: u64, frames: *mut Frames<'_>) -> c_long {
    // SAFETY: as in `next_frame`.
    unsafe {
        let Frames { packet, stream, .. } = *frames;
        let next = (*stream).look_back(&packet.segment, packet, number as u32);
        c_long::from(next == Next::Done)
    }
}

/// Tells the daemon when a segment brought a new fact.
#[inline(always)]
fn settle(sk: *mut bpf_sock, socket: *mut Socket, facts_before: u8) {
    // SAFETY: the storage of `sk`; see `storage::storage`.
    unsafe {
        (*socket).weigh_close_frames();
        if !(*socket).is_open() || (*socket).facts() == facts_before {
            return;
        }
        if (*socket).wants_rtt()
            && let Some(rtt_us) = rtt_us(sk)
        {
            (*socket).note_rtt(rtt_us);
        }
        // The RST of a local abort follows the end, and nothing follows it.
        let lost = if (*socket).has_ended() {
            Counter::EndLost
        } else {
            Counter::EventLost
        };
        tell(socket, lost);
    }
}

#[inline(always)]
fn facts(socket: *mut Socket) -> u8 {
    // SAFETY: the storage of a socket; see `storage::storage`.
    unsafe { (*socket).facts() }
}

/// Why each direction of a socket is lost: see [`Socket::lost`].
#[inline(always)]
pub(crate) fn lost(socket: *mut Socket) -> [u8; 2] {
    // SAFETY: the storage of a socket; see `storage::storage`.
    unsafe { (*socket).lost() }
}

/// Counts the directions of a WebSocket that were not lost before and are, and those found again.
#[inline(always)]
pub(crate) fn count_lost(socket: *mut Socket, before: [u8; 2]) {
    // SAFETY: the storage of a socket; see `storage::storage`.
    if !unsafe { (*socket).is_open() } {
        return;
    }
    let after = lost(socket);
    count_change(Direction::Egress, before[0], after[0]);
    count_change(Direction::Ingress, before[1], after[1]);
}

#[inline(always)]
fn count_change(direction: Direction, before: u8, after: u8) {
    if before == 0 && after != 0 {
        count_at(Counter::stream_lost(direction, after));
    } else if before != 0 && after == 0 {
        count(Counter::Relocked(direction));
    }
}
