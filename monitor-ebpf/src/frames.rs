//! Reads the frame headers of a packet.
//!
//! Loops are bounded and nested, each level a global function, which the verifier takes by itself, once:
//! it follows every turn of a loop whose bound it is shown, and `bpf_loop`, which would spare it that,
//! came with Linux 5.17. What goes on from turn to turn lies in the socket's storage, where the verifier
//! knows no value, so that one turn looks to it like the other.

use aya_ebpf::bindings::__sk_buff;
use monitor_ebpf::{
    event::Lost,
    socket::{Direction, Socket},
    stream::{Next, Stream},
};

use crate::{
    keep,
    packet::{Numbers, Packet, or_now},
    storage::of_packet,
};

/// Frames that are read in one go: so many that the look for the socket before them is hardly felt.
const SOME: u32 = 8;
/// 16,384 frames of one packet are read at most, so that no packet is held up for long: at 80 ns a frame,
/// 1.3 ms. A full packet of 64 KiB holds this many frames of 4 bytes.
const MANY: u32 = 32;
const ALL: u32 = 64;
/// Lengths of a Close frame's body that are tried in one go.
const BODIES: u32 = 16;

/// What a level of a loop returns.
pub(crate) const DONE: u64 = 0;
pub(crate) const MORE: u64 = 1;

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
    if goes_on && read_rest(skb, place, or_now(now_ns), way) == MORE {
        // SAFETY: as above.
        unsafe { (*stream).lose(Lost::Budget) };
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
    for _ in 0..ALL {
        if read_many(skb, place, now_ns, way) == DONE {
            return DONE;
        }
    }
    MORE
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_many(skb: *mut __sk_buff, place: u64, now_ns: u64, way: u64) -> u64 {
    for _ in 0..MANY {
        if read_some(skb, place, now_ns, way) == DONE {
            return DONE;
        }
    }
    MORE
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_some(skb: *mut __sk_buff, place: u64, now_ns: u64, way: u64) -> u64 {
    let Some((_, socket)) = of_packet(skb) else {
        return DONE;
    };
    let (body, segment, direction) = Numbers { place, now_ns, way }.packet(skb);
    for _ in 0..SOME {
        // SAFETY: the storage of the packet's socket; see `storage::storage`.
        let next = unsafe { (*socket).stream(direction).turn(&segment, &body) };
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
    for some in 0..Stream::BODIES.div_ceil(BODIES) {
        if look_back_some(skb, place, now_ns, way, some * BODIES) == DONE {
            return DONE;
        }
    }
    DONE
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
    for turn in 0..BODIES {
        let number = from.wrapping_add(turn);
        // SAFETY: as in `read_some`.
        let stream = unsafe { (*socket).stream(direction) };
        if number >= Stream::BODIES || stream.look_back(&segment, &body, number) == Next::Done {
            return DONE;
        }
        forget_values();
    }
    MORE
}

/// Has the compiler take nothing that it knows of memory from one turn of a loop into the next.
#[inline(always)]
pub(crate) fn forget_values() {
    // SAFETY: does nothing.
    unsafe { core::arch::asm!("", options(nostack)) };
}
