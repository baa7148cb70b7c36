//! Reads the frame headers of plaintext: as `frames.rs` does of packets.

use monitor_ebpf::{
    event::Lost,
    stream::{Next, Stream},
};

use super::{GO_ON, NOTHING, Numbers};
use crate::{
    frames::{ALL, MANY, SOME, look_at_bodies, look_through_bodies},
    turns::{forget_values, repeat},
};

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
    repeat(ALL, GO_ON, |_| {
        read_many_plain(session, at, place, now_ns, way)
    })
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_many_plain(session: u64, at: u64, place: u64, now_ns: u64, way: u64) -> u64 {
    repeat(MANY, GO_ON, |_| {
        read_some_plain(session, at, place, now_ns, way)
    })
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
    look_through_bodies(|from| {
        let way = way | u64::from(from) << FROM_SHIFT;
        look_back_some_plain(session, at, place, now_ns, way)
    })
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
    let from = (way >> FROM_SHIFT) as u32;
    // SAFETY: an entry of the table; see `sessions::session`.
    unsafe { look_at_bodies((*session).socket.stream(direction), &segment, &buffer, from) }
}
