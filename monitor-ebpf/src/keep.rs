//! Keeps segments that passed before their turn, and reads them when it comes.

use core::ffi::{c_long, c_void};

use aya_ebpf::helpers::generated::{bpf_loop, bpf_probe_read_kernel};
use monitor_ebpf::{
    early::{CHUNK, Early, PIECES, Room, Step, WINDOW},
    frame::HEADER_MAX,
    stream::{Payload, Segment, Stream},
};

use crate::{
    maps::{EARLY, NOTHING_EARLY},
    packet::{Packet, clamp},
};

/// What a `bpf_loop` callback returns.
const GO_ON: c_long = 0;
const STOP: c_long = 1;
/// Enough to read every frame that the window can hold, and to look at every piece in every round.
const STEPS: u32 = (WINDOW / 2 + 2 * PIECES * PIECES) as u32;

/// Keeps the bytes of a packet, as far as there is room.
#[inline(always)]
pub(crate) fn keep(packet: &Packet, cookie: u64, stream: *mut Stream) {
    // SAFETY: the half of a socket's storage, see `storage::storage`, and an entry of the map.
    unsafe {
        if !(*stream).keeps_early() {
            let Some(nothing) = NOTHING_EARLY.get(0) else {
                return;
            };
            if EARLY.insert(cookie, nothing, 0).is_err() {
                return;
            }
            let Some(early) = EARLY.get_ptr_mut(cookie) else {
                return;
            };
            (*early).begin(cookie, &*stream);
            (*stream).set_keeps_early(true);
        }
        let Some(early) = own(cookie) else {
            return;
        };
        let Some(room) = (*early).keep(&*stream, &packet.segment) else {
            return;
        };
        let mut copy = Copy {
            packet,
            early,
            room,
        };
        let turns = (WINDOW / CHUNK) as u32;
        bpf_loop(turns, copy_chunk as *mut c_void, (&raw mut copy).cast(), 0);
    }
}

struct Copy<'a> {
    packet: &'a Packet,
    early: *mut Early,
    room: Room,
}

unsafe extern "C" fn copy_chunk(number: u64, copy: *mut Copy<'_>) -> c_long {
    // SAFETY: `keep` passes a pointer to its own `Copy`; what they point to outlives the call.
    unsafe {
        let copy = &mut *copy;
        let offset = number as u32 * CHUNK as u32;
        if offset >= copy.room.length {
            return STOP;
        }
        let left = copy.room.length - offset;
        let Some(chunk) = (*copy.early).chunk(copy.room.at + offset) else {
            return STOP;
        };
        let length = if left < CHUNK as u32 {
            left
        } else {
            CHUNK as u32
        };
        let done = copy
            .packet
            .copy::<{ CHUNK as u32 }>(offset, chunk.as_mut_ptr(), length);
        if done { GO_ON } else { STOP }
    }
}

/// Reads what is kept and whose turn has come. Nothing is kept any longer once everything that passed
/// was read.
#[inline(always)]
pub(crate) fn catch_up(cookie: u64, stream: *mut Stream) {
    let early = own(cookie);
    // SAFETY: the half of a socket's storage, see `storage::storage`, and an entry of the map.
    unsafe {
        if let Some(early) = early {
            let mut kept = Kept { early, stream };
            bpf_loop(STEPS, step as *mut c_void, (&raw mut kept).cast(), 0);
        }
        if (*stream).is_in_order() {
            (*stream).set_keeps_early(false);
            let _ = EARLY.remove(cookie);
        }
    }
}

struct Kept {
    early: *mut Early,
    stream: *mut Stream,
}

unsafe extern "C" fn step(_: u64, kept: *mut Kept) -> c_long {
    // SAFETY: `catch_up` passes a pointer to its own `Kept`; what they point to outlives the call.
    unsafe {
        let Kept { early, stream } = *kept;
        match (*early).step(&mut *stream) {
            Step::Done => return STOP,
            Step::More => {}
            Step::Read(segment) => {
                let payload = KeptPayload {
                    early,
                    segment: &segment,
                };
                let next = (*stream).turn(&segment, &payload);
                (*early).has_read(next);
            }
        }
    }
    GO_ON
}

struct KeptPayload<'a> {
    early: *mut Early,
    segment: &'a Segment,
}

impl Payload for KeptPayload<'_> {
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
}

#[inline(always)]
fn own(cookie: u64) -> Option<*mut Early> {
    let early = EARLY.get_ptr_mut(cookie)?;
    // SAFETY: an entry of the map.
    (unsafe { (*early).cookie } == cookie).then_some(early)
}
