//! What a segment does: finds its socket, reads what it holds, tells the daemon what is new.

use aya_ebpf::bindings::{__sk_buff, bpf_sock};
use monitor_ebpf::{
    counter::Counter,
    event::Lost,
    socket::{Direction, Look, Socket},
    stream::{Segment, Stream},
};

use crate::{
    candidates, frames,
    heads::{self, Begun},
    identity::{awaited, is_too_old, rtt_us},
    keep,
    packet::{Numbers, Packet},
    report::{count, count_at, tell},
    sealed,
    sessions::follows_tls,
    storage::{enter, forget, leave, of_packet, storage},
    turns::DONE,
};

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
    let socket = match known {
        Some(socket) => socket,
        None => {
            if !begin(&mut packet, sk, direction, direction == Direction::Ingress) {
                return;
            }
            match storage(sk.cast(), 0) {
                Some(socket) => socket,
                None => return,
            }
        }
    };
    if direction == Direction::Egress {
        return observe_segment(&mut packet, sk, socket, direction);
    }
    if packet.segment.rst {
        packet.segment.awaited = awaited(sk);
    }
    // TCP takes no such segment on a connection that is established.
    if packet.is_syn() || !(packet.acknowledges() || packet.segment.rst) {
        return;
    }
    if !packet.segment.rst && is_too_old(sk, packet.segment.acknowledges) {
        return;
    }
    // On the way in the hook runs before the socket is locked, so two CPUs may be at one direction.
    if enter(skb, socket) {
        observe_segment(&mut packet, sk, socket, direction);
        leave(socket);
        return;
    }
    // SAFETY: the storage of `sk`; see `storage::storage`. Bytes are written, which no other CPU's work
    // can make untrue.
    unsafe {
        let stream: *mut Stream = (*socket).stream(direction);
        // What may have been the response, or a part of it, is counted when the socket ends.
        if (*stream).lost().is_none() && (*socket).is_open() {
            count(Counter::StreamLost(direction, Lost::Busy));
        }
        (*stream).lose(Lost::Busy);
    }
}

/// A segment of a socket of which nothing is remembered. Whether there is something by now, and the segment is still to
/// be taken. See [`heads::begin`] for `enters`.
#[inline(always)]
fn begin(packet: &mut Packet, sk: *mut bpf_sock, direction: Direction, enters: bool) -> bool {
    let begun = heads::begin(packet, sk, direction, false, enters);
    if begun == Begun::Opened
        && let Some(socket) = storage(sk.cast(), 0)
    {
        frames::follow(packet, socket, direction);
        count_lost(socket, [0; 2]);
        settle(sk, socket, 0);
        if enters {
            leave(socket);
        }
    }
    begun == Begun::Known
}

#[inline(always)]
fn observe_segment(
    packet: &mut Packet,
    sk: *mut bpf_sock,
    socket: *mut Socket,
    direction: Direction,
) {
    let (facts, lost) = (facts(socket), lost(socket));
    // SAFETY: the storage of `sk`; see `storage::storage`.
    let quiet = unsafe {
        if packet.is_urgent() {
            None
        } else {
            (*socket).pass_quietly(direction, &packet.segment)
        }
    };
    let holds_frames = match quiet {
        Some(look) => look == Look::AtFrames,
        None => {
            // SAFETY: as above.
            if follows_tls() && unsafe { (*socket).is_sealed() } {
                return sealed::observe(packet, direction);
            }
            packet.ask_when();
            // SAFETY: as above.
            if unsafe { (*socket).is_blank() } || !candidates::meet(packet, sk, socket, direction) {
                begin(packet, sk, direction, false);
                return;
            }
            look(packet, sk, socket, direction)
        }
    };
    if holds_frames {
        frames::follow(packet, socket, direction);
    }
    // SAFETY: as above.
    if quiet.is_some() && unsafe { (*socket).is_quiet() } {
        return;
    }
    count_lost(socket, lost);
    candidates::judge(packet.body.skb, sk, socket, direction);
    settle(sk, socket, facts);
}

/// Does with a segment what is to be done; whether it holds frames.
#[inline(always)]
fn look(packet: &mut Packet, sk: *mut bpf_sock, socket: *mut Socket, direction: Direction) -> bool {
    // SAFETY: the storage of `sk`; see `storage::storage`.
    if unsafe { (*socket).awaits_reception() } {
        let Numbers { place, way, .. } = packet.numbers(direction);
        let Segment {
            acknowledges, rst, ..
        } = packet.segment;
        let how = u64::from(acknowledges) << 1 | u64::from(rst);
        weigh_reception(packet.body.skb, place, way, how);
    }
    // SAFETY: as above.
    let look = unsafe { (*socket).arrive(direction, &packet.segment) };
    take(packet, sk, socket, direction, look)
}

/// What a segment shows of a Close frame that came in: whether TCP took it. `how`: what it acknowledges, and in the
/// lowest bit whether it is an RST. See `turns.rs` for why this is a global function.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn weigh_reception(skb: *mut __sk_buff, place: u64, way: u64, how: u64) -> u64 {
    let Some((sk, socket)) = of_packet(skb) else {
        return DONE;
    };
    let now_ns = 0;
    let (_, segment, direction) = Numbers { place, now_ns, way }.packet(skb);
    let segment = Segment {
        acknowledges: (how >> 1) as u32,
        rst: how & 1 != 0,
        awaited: awaited(sk),
        ..segment
    };
    // SAFETY: the storage of `sk`; see `storage::storage`.
    unsafe { (*socket).weigh_reception(direction, &segment) };
    DONE
}

/// Does with a segment what its place and the socket ask for; whether it holds frames.
#[inline(always)]
fn take(
    packet: &mut Packet,
    sk: *mut bpf_sock,
    socket: *mut Socket,
    direction: Direction,
    look: Look,
) -> bool {
    // SAFETY: the storage of `sk`; see `storage::storage`.
    unsafe {
        if packet.is_urgent() && (*socket).is_open() {
            (*socket).stream(direction).lose_to_urgent_data();
            return false;
        }
    }
    match look {
        Look::Away => {}
        Look::AtBeginning => {
            // SAFETY: the storage of `sk`; see `storage::storage`.
            let requests = unsafe { (*socket).still_requests() };
            if heads::begin(packet, sk, direction, requests, false) == Begun::Opened {
                return true;
            }
            // SAFETY: as above: another request may have begun.
            if unsafe { (*socket).still_requests() } {
                forget(sk);
            }
        }
        Look::AtRequest => heads::go_on_request(packet, direction),
        Look::AtResponse => return heads::go_on_response(packet, direction),
        Look::AtFrames => return true,
        Look::RequestLost => {
            count(Counter::RequestGap);
            forget(sk);
        }
        Look::ResponseLost => {
            count(Counter::ResponseGap);
            candidates::begin(packet, sk, socket, direction);
        }
        Look::Early => early(packet, sk, socket, direction),
    }
    false
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
            keep::keep(packet);
        }
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
