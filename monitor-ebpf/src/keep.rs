//! Keeps segments that passed before their turn, and reads them when it comes.

use aya_ebpf::{bindings::__sk_buff, helpers::generated::bpf_probe_read_kernel};
use monitor_ebpf::{
    early::{CHUNK, Early, Keep, PIECES, Step, WINDOW},
    event::Lost,
    frame::HEADER_MAX,
    socket::Direction,
    stream::{Payload, Segment, Stream},
};

use crate::{
    maps::{EARLY, NOTHING_EARLY},
    openings::cookie,
    packet::{Numbers, Packet, clamp, or_now},
    source::Source as _,
    storage::of_packet,
    turns::{DONE, MORE, forget_values, repeat},
};

/// Enough to read every frame that the window can hold, and to look at every piece in every round: see
/// `turns.rs` for the nesting.
const STEPS: u32 = (WINDOW / 2 + 2 * PIECES * PIECES) as u32;
const SOME: u32 = 8;
const MANY: u32 = 64;

/// Keeps the bytes of a packet that came in, as far as there is room.
#[inline(always)]
pub(crate) fn keep(packet: &Packet) {
    let Numbers { place, now_ns, way } = packet.numbers(Direction::Ingress);
    keep_early(packet.body.skb, place, or_now(now_ns), way);
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn keep_early(skb: *mut __sk_buff, place: u64, now_ns: u64, way: u64) -> u64 {
    let Some((_, socket)) = of_packet(skb) else {
        return DONE;
    };
    let (body, segment, _) = Numbers { place, now_ns, way }.packet(skb);
    let cookie = cookie(skb);
    // SAFETY: the half of a socket's storage, see `storage::storage`, and an entry of the map.
    unsafe {
        let stream: *mut Stream = (*socket).stream(Direction::Ingress);
        if !(*stream).keeps_early() {
            let Some(nothing) = NOTHING_EARLY.get(0) else {
                return DONE;
            };
            if EARLY.insert(cookie, nothing, 0).is_err() {
                return DONE;
            }
            let Some(early) = EARLY.get_ptr_mut(cookie) else {
                return DONE;
            };
            (*early).begin(cookie, &*stream);
            (*stream).set_keeps_early(true);
        }
        let Some(early) = own(cookie) else {
            return DONE;
        };
        let room = match (*early).keep(&*stream, &segment) {
            Keep::At(room) => room,
            Keep::Nothing => return DONE,
            Keep::Unclear => {
                (*stream).lose(Lost::Gap);
                return DONE;
            }
        };
        for number in 0..(WINDOW / CHUNK) as u32 {
            let offset = number * CHUNK as u32;
            if offset >= room.length {
                break;
            }
            let left = room.length - offset;
            let Some(chunk) = (*early).chunk(room.at + offset) else {
                break;
            };
            let length = if left < CHUNK as u32 {
                left
            } else {
                CHUNK as u32
            };
            if !body.copy::<{ CHUNK as u32 }>(room.skip + offset, chunk.as_mut_ptr(), length) {
                break;
            }
        }
    }
    DONE
}

/// Reads what is kept and whose turn has come. Nothing is kept any longer once everything that passed
/// was read.
#[inline(always)]
pub(crate) fn catch_up(skb: *mut __sk_buff, stream: *mut Stream) {
    read_kept(skb);
    // SAFETY: the half of a socket's storage; see `storage::storage`.
    unsafe {
        if (*stream).is_in_order() {
            (*stream).set_keeps_early(false);
            let _ = EARLY.remove(cookie(skb));
        }
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_kept(skb: *mut __sk_buff) -> u64 {
    repeat(STEPS / (SOME * MANY), MORE, |_| read_many_kept(skb))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_many_kept(skb: *mut __sk_buff) -> u64 {
    repeat(MANY, MORE, |_| read_some_kept(skb))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_some_kept(skb: *mut __sk_buff) -> u64 {
    let Some((_, socket)) = of_packet(skb) else {
        return DONE;
    };
    let Some(early) = own(cookie(skb)) else {
        return DONE;
    };
    for _ in 0..SOME {
        // SAFETY: the half of a socket's storage, see `storage::storage`, and an entry of the map.
        unsafe {
            let stream = (*socket).stream(Direction::Ingress);
            match (*early).step(stream) {
                Step::Done => return DONE,
                Step::More => {}
                Step::Read(segment) => {
                    let payload = Kept {
                        early,
                        segment: &segment,
                    };
                    let next = stream.turn(&segment, &payload);
                    (*early).has_read(next);
                }
            }
        }
        forget_values();
    }
    MORE
}

struct Kept<'a> {
    early: *mut Early,
    segment: &'a Segment,
}

impl Payload for Kept<'_> {
    #[inline(always)]
    fn load(&self, offset: u32, into: &mut [u8]) -> bool {
        // SAFETY: an entry of the map. The helper copies what the clamp allows, which `header` has.
        unsafe {
            let Some(from) = (*self.early).header(self.segment, offset) else {
                return false;
            };
            let length = clamp::<{ HEADER_MAX as u32 }>(into.len() as u32);
            bpf_probe_read_kernel(into.as_mut_ptr().cast(), length, from.as_ptr().cast()) == 0
        }
    }

    /// Not asked: each piece is kept with its time.
    #[inline(always)]
    fn now_ns(&self) -> u64 {
        self.segment.now_ns
    }
}

#[inline(always)]
fn own(cookie: u64) -> Option<*mut Early> {
    let early = EARLY.get_ptr_mut(cookie)?;
    // SAFETY: an entry of the map.
    (unsafe { (*early).cookie } == cookie).then_some(early)
}
