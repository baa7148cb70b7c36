//! Reads the frame headers of plaintext: as `frames.rs` does of packets.

use monitor_ebpf::{
    event::Lost,
    stream::{Next, Stream},
};

use super::{GO_ON, NOTHING, Numbers};
use crate::frames::forget_values;

/// As in `frames.rs`: 16,384 frames of one call at most.
const SOME: u32 = 8;
const MANY: u32 = 32;
const ALL: u32 = 64;
const BODIES: u32 = 16;
/// Above the direction: from which length of a Close frame's body on to look back.
const FROM_SHIFT: u32 = 8;

#[inline(always)]
pub(super) fn follow(numbers: Numbers) {
    let Numbers {
        session,
        at,
        place,
        now_ns,
        way,
    } = numbers;
    if read_all_plain(session, at, place, now_ns, way) == GO_ON
        && let Some((session, _, _, direction)) = numbers.plaintext()
    {
        // SAFETY: an entry of the table; see `sessions::session`.
        unsafe { (*session).socket.stream(direction).lose(Lost::Budget) };
    }
    let Some((entry, _, _, direction)) = numbers.plaintext() else {
        return;
    };
    // SAFETY: as above.
    if unsafe { (*entry).socket.stream(direction).wants_look_back() } {
        look_back_plain(session, at, place, now_ns, way);
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_all_plain(session: u64, at: u64, place: u64, now_ns: u64, way: u64) -> u64 {
    for _ in 0..ALL {
        if read_many_plain(session, at, place, now_ns, way) == NOTHING {
            return NOTHING;
        }
    }
    GO_ON
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_many_plain(session: u64, at: u64, place: u64, now_ns: u64, way: u64) -> u64 {
    for _ in 0..MANY {
        if read_some_plain(session, at, place, now_ns, way) == NOTHING {
            return NOTHING;
        }
    }
    GO_ON
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_some_plain(session: u64, at: u64, place: u64, now_ns: u64, way: u64) -> u64 {
    let numbers = Numbers {
        session,
        at,
        place,
        now_ns,
        way,
    };
    let Some((session, buffer, segment, direction)) = numbers.plaintext() else {
        return NOTHING;
    };
    for _ in 0..SOME {
        // SAFETY: an entry of the table; see `sessions::session`.
        let next = unsafe {
            let stream: *mut Stream = (*session).socket.stream(direction);
            (*stream).turn(&segment, &buffer)
        };
        if next != Next::Turn {
            return NOTHING;
        }
        forget_values();
    }
    GO_ON
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn look_back_plain(session: u64, at: u64, place: u64, now_ns: u64, way: u64) -> u64 {
    for some in 0..Stream::BODIES.div_ceil(BODIES) {
        let from = u64::from(some * BODIES) << FROM_SHIFT;
        if look_back_some_plain(session, at, place, now_ns, way | from) == NOTHING {
            return NOTHING;
        }
    }
    NOTHING
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn look_back_some_plain(
    session: u64,
    at: u64,
    place: u64,
    now_ns: u64,
    way: u64,
) -> u64 {
    let numbers = Numbers {
        session,
        at,
        place,
        now_ns,
        way,
    };
    let Some((session, buffer, segment, direction)) = numbers.plaintext() else {
        return NOTHING;
    };
    for turn in 0..BODIES {
        let number = ((way >> FROM_SHIFT) as u32).wrapping_add(turn);
        // SAFETY: an entry of the table; see `sessions::session`.
        let next = unsafe {
            let stream: *mut Stream = (*session).socket.stream(direction);
            if number >= Stream::BODIES {
                return NOTHING;
            }
            (*stream).look_back(&segment, &buffer, number)
        };
        if next == Next::Done {
            return NOTHING;
        }
        forget_values();
    }
    GO_ON
}
