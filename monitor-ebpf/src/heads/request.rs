//! The head of a request: kept until its response comes, with where it ends.

use core::mem::MaybeUninit;

use aya_ebpf::bindings::__sk_buff;
use monitor_ebpf::{
    asking::{LOOK, may_name_websocket},
    event::{Opening, REQUEST_HEAD_MAX},
    socket::{Direction, Phase},
    upgrade::ends_head,
};

use super::{GO_ON, NOTHING, SOME, again};
use crate::{
    frames::forget_values,
    maps::{BEGUN, OPENINGS},
    openings::{self, Table},
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
    tail(packet).is_some_and(ends_head)
}

/// Whether a request that is whole may ask for a WebSocket. Of others nothing is kept: that would take longer than to
/// look. One longer than what is kept of any is not looked through.
#[inline(always)]
fn may_ask(packet: &Packet, direction: Direction) -> bool {
    let Numbers { place, way, .. } = packet.numbers(direction);
    look_through(packet.body.skb, place, way) == GO_ON
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn look_through(skb: *mut __sk_buff, place: u64, way: u64) -> u64 {
    let length = place >> 32;
    for number in 0..(REQUEST_HEAD_MAX / LOOK) as u64 {
        let from = number * LOOK as u64;
        if from >= length {
            return NOTHING;
        }
        if look_at(skb, place, way, from) == GO_ON {
            return GO_ON;
        }
    }
    GO_ON
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn look_at(skb: *mut __sk_buff, place: u64, way: u64, from: u64) -> u64 {
    const WORDS: usize = LOOK / 8 + 1;
    let numbers = Numbers {
        place,
        now_ns: 0,
        way,
    };
    let (body, segment, _) = numbers.packet(skb);
    let from = from as u32;
    let mut words = MaybeUninit::<[u64; WORDS]>::uninit();
    let word = words.as_mut_ptr().cast::<u64>();
    // SAFETY: as many words as there are, and no more bytes over them. See `first_bytes` for the zeros.
    let words = unsafe {
        for number in 0..WORDS {
            word.add(number).write_volatile(0);
        }
        let left = segment.length.wrapping_sub(from);
        if !body.copy::<{ WORDS as u32 * 8 }>(from, word.cast(), left) {
            return GO_ON;
        }
        words.assume_init_ref()
    };
    if may_name_websocket(words) {
        GO_ON
    } else {
        NOTHING
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
        if packet
            .body
            .copy::<{ REQUEST_HEAD_MAX as u32 }>(0, into, kept)
        {
            (*opening).request_length = kept;
        }
        (*opening).request_tail = 0;
        note_end(packet, 0, opening);
        (*opening).socket.identity.cookie = key;
    }
}

/// Notes where a request ends with this packet, whose bytes from `offset` on are new, and its last bytes.
#[inline(always)]
unsafe fn note_end(packet: &Packet, offset: u32, opening: *mut Opening) {
    let length = packet.segment.length;
    // SAFETY: the caller's: an entry of the table; see `openings::new`.
    unsafe {
        (*opening).request_end = packet.segment.sequence.wrapping_add(length);
        if let Some(tail) = tail(packet) {
            (*opening).request_tail = tail;
            return;
        }
        for number in 0..size_of::<u32>() as u32 {
            let mut byte = 0;
            let at = offset + number;
            if at >= length || !packet.body.copy::<1>(at, &raw mut byte, 1) {
                break;
            }
            (*opening).request_tail = (*opening).request_tail << 8 | u32::from(byte);
        }
    }
}

/// The last four bytes of a packet that has so many, the last one lowest.
#[inline(always)]
fn tail(packet: &Packet) -> Option<u32> {
    let mut last = [0u8; 4];
    let at = packet.segment.length.checked_sub(4)?;
    // SAFETY: 4 bytes into 4.
    let read = unsafe { packet.body.copy::<4>(at, last.as_mut_ptr(), 4) };
    read.then_some(u32::from_be_bytes(last))
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
    unsafe { note_end(&packet, offset, opening) };
    let Numbers { place, way, .. } = packet.numbers(direction);
    for number in 0..REQUEST_HEAD_MAX as u32 / SOME {
        let from = offset + number * SOME;
        if from >= packet.segment.length || keep_some(skb, place, way, from) == NOTHING {
            break;
        }
    }
    // SAFETY: as above.
    if ends_head(unsafe { (*opening).request_tail }) {
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
