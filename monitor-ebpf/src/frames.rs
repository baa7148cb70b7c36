//! Reads the frame headers of a packet. See `turns.rs` for the nesting of its loops.

use aya_ebpf::bindings::__sk_buff;
use monitor_ebpf::{
    event::Lost,
    socket::{Direction, Socket},
    stream::{Next, Payload, Segment, Stream},
};

use crate::{
    keep,
    maps::{WINDOWS, WINDOWS_MAX},
    packet::{Numbers, Packet, or_now},
    storage::{add, of_packet, try_alone},
    turns::{DONE, MORE, forget_values, repeat},
};

/// Frames that are read in one go: so many that the look for the socket before them is hardly felt.
pub(crate) const SOME: u32 = 8;
/// 16,384 frames of one packet are read at most, so that no packet is held up for long: at 11 ns a frame,
/// 0.2 ms. A full packet of 64 KiB holds this many frames of 4 bytes.
pub(crate) const MANY: u32 = 32;
pub(crate) const ALL: u32 = 64;
/// Where in a number for [`read_some`] the window is.
const WINDOW_SHIFT: u32 = 40;
/// Lengths of a Close frame's body that are tried in one go.
const BODIES: u32 = 16;

/// Reads the frame headers in a packet.
#[inline(always)]
pub(crate) fn follow(packet: &Packet, socket: *mut Socket, direction: Direction) {
    let skb = packet.body.skb;
    let Numbers { place, now_ns, way } = packet.numbers(direction);
    // SAFETY: the storage of a socket; see `storage::storage`.
    let stream: *mut Stream = unsafe { (*socket).stream(direction) };
    // The first one here, where the socket is known: most packets hold no more.
    // SAFETY: as above.
    let goes_on = unsafe {
        (*stream).turn(&packet.segment, &packet.body) == Next::Turn
            && (*stream).offset(&packet.segment).is_some()
    };
    if goes_on {
        read_rest(skb, place, or_now(now_ns), way);
    }
    // SAFETY: as above.
    let (looks_back, keeps_early) =
        unsafe { ((*stream).wants_look_back(), (*stream).keeps_early()) };
    if looks_back {
        look_back(skb, place, or_now(now_ns), way);
    }
    if direction == Direction::Ingress && keeps_early {
        keep::catch_up(skb, stream);
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_rest(skb: *mut __sk_buff, place: u64, now_ns: u64, way: u64) -> u64 {
    for number in 0..WINDOWS_MAX {
        let Some(window) = WINDOWS.get_ptr_mut(number) else {
            continue;
        };
        // SAFETY: an entry of this CPU's, which keeps this program until it returns.
        unsafe {
            if !try_alone(&raw mut (*window).busy) {
                continue;
            }
            (*window).begin();
            let how = way | u64::from(number) << WINDOW_SHIFT;
            let all = read_all(skb, place, now_ns, how);
            add(&raw mut (*window).busy, -1);
            if all == DONE {
                return DONE;
            }
        }
        return give_up(skb, way, Lost::Budget);
    }
    give_up(skb, way, Lost::Busy)
}

#[inline(always)]
fn give_up(skb: *mut __sk_buff, way: u64, why: Lost) -> u64 {
    if let Some((_, socket)) = of_packet(skb) {
        let numbers = Numbers {
            place: 0,
            now_ns: 0,
            way,
        };
        let (_, _, direction) = numbers.packet(skb);
        // SAFETY: the storage of the packet's socket; see `storage::storage`.
        unsafe { (*socket).stream(direction).lose(why) };
    }
    DONE
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_all(skb: *mut __sk_buff, place: u64, now_ns: u64, how: u64) -> u64 {
    repeat(ALL, MORE, |_| read_many(skb, place, now_ns, how))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_many(skb: *mut __sk_buff, place: u64, now_ns: u64, how: u64) -> u64 {
    repeat(MANY, MORE, |_| read_some(skb, place, now_ns, how))
}

/// `how`: the way, and above it which of [`WINDOWS`] is for this packet.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_some(skb: *mut __sk_buff, place: u64, now_ns: u64, how: u64) -> u64 {
    let Some((_, socket)) = of_packet(skb) else {
        return DONE;
    };
    let Some(window) = WINDOWS.get_ptr_mut((how >> WINDOW_SHIFT) as u32) else {
        return DONE;
    };
    let numbers = Numbers {
        place,
        now_ns,
        way: how,
    };
    let (body, segment, direction) = numbers.packet(skb);
    for _ in 0..SOME {
        // SAFETY: the storage of the packet's socket, see `storage::storage`, and an entry of this CPU's.
        let next = unsafe {
            let stream = (*socket).stream(direction);
            (*window).turn(stream, &segment, &body)
        };
        if next == Next::Done {
            return DONE;
        }
        forget_values();
    }
    MORE
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn look_back(skb: *mut __sk_buff, place: u64, now_ns: u64, way: u64) -> u64 {
    look_through_bodies(|from| look_back_some(skb, place, now_ns, way, from))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn look_back_some(
    skb: *mut __sk_buff,
    place: u64,
    now_ns: u64,
    way: u64,
    from: u32,
) -> u64 {
    let Some((_, socket)) = of_packet(skb) else {
        return DONE;
    };
    let (body, segment, direction) = Numbers { place, now_ns, way }.packet(skb);
    // SAFETY: as in `read_some`.
    unsafe { look_at_bodies((*socket).stream(direction), &segment, &body, from) }
}

/// Looks for a Close frame with a body of each length, some of them at a time: as [`look_at_bodies`] does from one on.
#[inline(always)]
pub(crate) fn look_through_bodies(look_at_bodies: impl Fn(u32) -> u64) -> u64 {
    repeat(Stream::BODIES.div_ceil(BODIES), MORE, |some| {
        look_at_bodies(some * BODIES)
    })
}

/// Looks for a Close frame with a body of some of the lengths, from number `from` on.
///
/// # Safety
///
/// `stream` is half of a socket's storage, or of a session's.
#[inline(always)]
pub(crate) unsafe fn look_at_bodies(
    stream: *mut Stream,
    segment: &Segment,
    payload: &impl Payload,
    from: u32,
) -> u64 {
    for turn in 0..BODIES {
        let number = from.wrapping_add(turn);
        // SAFETY: the caller's.
        let next = unsafe {
            if number >= Stream::BODIES {
                return DONE;
            }
            (*stream).look_back(segment, payload, number)
        };
        if next == Next::Done {
            return DONE;
        }
        forget_values();
    }
    MORE
}
