//! The head of a request in plaintext: kept until its response comes, with where it ends.

use monitor_ebpf::socket::Phase;

use super::{
    super::{Buffer, GO_ON, NOTHING, Numbers},
    MORE_SHIFT, key,
};
use crate::{
    maps::{BEGUN, OPENINGS},
    openings::{self, request},
    packet::direction,
};

/// A request begins. Of one that is whole and does not ask for a WebSocket nothing is kept.
#[inline(always)]
pub(super) fn begin(numbers: Numbers) {
    let Numbers {
        session,
        at,
        place,
        way,
        ..
    } = numbers;
    if is_whole_plain(at, place) == GO_ON && look_through_plain(at, place) == NOTHING {
        return;
    }
    keep_plain(session, at, place, way);
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn is_whole_plain(at: u64, place: u64) -> u64 {
    request::is_whole(&Buffer { at }, (place >> 32) as u32).into()
}

/// Keeps a request, as far as it is there.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn keep_plain(session: u64, at: u64, place: u64, way: u64) -> u64 {
    let numbers = Numbers {
        session,
        at,
        place,
        now_ns: 0,
        way,
    };
    let Some((entry, buffer, segment, direction)) = numbers.plaintext() else {
        return NOTHING;
    };
    let key = key(session, direction);
    let is_whole = request::is_whole(&buffer, segment.length);
    openings::remove(&OPENINGS, key);
    let opening = if is_whole {
        openings::new(&OPENINGS, key)
    } else {
        openings::new(&BEGUN, key)
    };
    let Some(opening) = opening else {
        return NOTHING;
    };
    // SAFETY: entries of the tables; see `openings::new` and `sessions::session`.
    unsafe {
        request::keep(&buffer, &segment, opening, key);
        if !is_whole {
            (*entry).socket.begin(Phase::Request, direction, &segment);
            (*entry).socket.stream(direction).skip(&segment);
        }
    }
    NOTHING
}

/// Whether a request may ask for a WebSocket.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn look_through_plain(at: u64, place: u64) -> u64 {
    let length = place >> 32;
    request::look_through(length, |from| look_at_plain(at, length, from) == GO_ON).into()
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn look_at_plain(at: u64, length: u64, from: u64) -> u64 {
    request::look_at(&Buffer { at }, length as u32, from as u32).into()
}

/// Keeps more of a request that came in pieces. Never do frames follow.
#[inline(always)]
pub(in crate::plaintext) fn go_on_request(numbers: Numbers) -> bool {
    let Numbers {
        session, at, place, ..
    } = numbers;
    read_plain_request(session, at, place, numbers.way);
    false
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_plain_request(session: u64, at: u64, place: u64, way: u64) -> u64 {
    let numbers = Numbers {
        session,
        at,
        place,
        now_ns: 0,
        way,
    };
    let Some((entry, buffer, segment, direction)) = numbers.plaintext() else {
        return NOTHING;
    };
    // SAFETY: an entry of the table; see `sessions::session`.
    unsafe { (*entry).socket.stream(direction).skip(&segment) };
    let key = key(session, direction);
    request::go_on(&buffer, &segment, 0, key, |from| {
        let way = way | u64::from(from) << MORE_SHIFT;
        keep_some_plain(session, at, place, way) == GO_ON
    });
    NOTHING
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn keep_some_plain(session: u64, at: u64, place: u64, way: u64) -> u64 {
    let (buffer, direction) = (Buffer { at }, direction(way));
    let (length, from) = ((place >> 32) as u32, (way >> MORE_SHIFT) as u32);
    request::keep_some(&buffer, length, from, key(session, direction)).into()
}
