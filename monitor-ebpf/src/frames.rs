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
    maps::{WINDOWS, WINDOWS_MAX},
    packet::{Numbers, Packet, or_now},
    storage::{add, of_packet, try_alone},
};

/// Frames that are read in one go: so many that the look for the socket before them is hardly felt.
const SOME: u32 = 8;
/// 16,384 frames of one packet are read at most, so that no packet is held up for long: at 11 ns a frame,
/// 0.2 ms. A full packet of 64 KiB holds this many frames of 4 bytes.
const MANY: u32 = 32;
const ALL: u32 = 64;
/// Where in a number for [`read_some`] the window is.
const WINDOW_SHIFT: u32 = 40;
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
    for _ in 0..ALL {
        if read_many(skb, place, now_ns, how) == DONE {
            return DONE;
        }
    }
    MORE
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_many(skb: *mut __sk_buff, place: u64, now_ns: u64, how: u64) -> u64 {
    for _ in 0..MANY {
        if read_some(skb, place, now_ns, how) == DONE {
            return DONE;
        }
    }
    MORE
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
