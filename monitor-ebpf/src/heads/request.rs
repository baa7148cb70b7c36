//! The head of a request: kept until its response comes, with where it ends.

use aya_ebpf::bindings::__sk_buff;
use monitor_ebpf::socket::{Direction, Phase};

use super::{GO_ON, NOTHING, again};
use crate::{
    maps::{BEGUN, OPENINGS},
    openings::{self, Table, request},
    packet::{Numbers, Packet},
    storage::{of_packet, remember},
};

/// A request that comes with the end of the TCP handshake (a full accept queue, a lost ACK,
/// TCP_DEFER_ACCEPT), or with its beginning (TCP Fast Open), passes before its socket exists: the kernel shows
/// the listening one. The 101 will acknowledge the request's end, and only if TCP took it.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn begin_request_of_none(skb: *mut __sk_buff, way: u64) -> u64 {
    let Some((packet, direction)) = again(skb, 0, way) else {
        return NOTHING;
    };
    if is_whole(&packet) && !may_ask(&packet, direction) {
        return NOTHING;
    }
    let end = packet.segment.sequence.wrapping_add(packet.segment.length);
    if let Some(place) = packet.remote_place(direction, end) {
        keep_request(&packet, &BEGUN, place);
    }
    NOTHING
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn begin_request(skb: *mut __sk_buff, now_ns: u64, way: u64) -> u64 {
    let Some((packet, direction)) = again(skb, now_ns, way) else {
        return NOTHING;
    };
    // SAFETY: the hook's own context, whose fields may be read.
    let sk = unsafe { (*skb).__bindgen_anon_2.sk };
    if is_whole(&packet) {
        if may_ask(&packet, direction) {
            keep_request(&packet, &OPENINGS, openings::key(skb, direction));
        }
        return NOTHING;
    }
    let key = openings::key(skb, direction);
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

/// Whether the request that begins with this packet ends with it.
#[inline(always)]
fn is_whole(packet: &Packet) -> bool {
    request::is_whole(&packet.body, packet.segment.length)
}

/// Whether a request that is whole may ask for a WebSocket.
#[inline(always)]
fn may_ask(packet: &Packet, direction: Direction) -> bool {
    let Numbers { place, way, .. } = packet.numbers(direction);
    look_through(packet.body.skb, place, way) == GO_ON
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn look_through(skb: *mut __sk_buff, place: u64, way: u64) -> u64 {
    request::look_through(place >> 32, |from| look_at(skb, place, way, from) == GO_ON).into()
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn look_at(skb: *mut __sk_buff, place: u64, way: u64, from: u64) -> u64 {
    let numbers = Numbers {
        place,
        now_ns: 0,
        way,
    };
    let (body, segment, _) = numbers.packet(skb);
    request::look_at(&body, segment.length, from as u32).into()
}

#[inline(always)]
fn keep_request<const N: usize>(packet: &Packet, table: &Table<N>, key: u64) {
    if let Some(opening) = openings::new(table, key) {
        // SAFETY: an entry of the table; see `openings::new`.
        unsafe { request::keep(&packet.body, &packet.segment, opening, key) };
    }
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
    let Numbers { place, way, .. } = packet.numbers(direction);
    request::go_on(&packet.body, &packet.segment, offset, key, |from| {
        keep_some(skb, place, way, from) == GO_ON
    });
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
    let key = openings::key(skb, direction);
    request::keep_some(&body, segment.length, from, key).into()
}
