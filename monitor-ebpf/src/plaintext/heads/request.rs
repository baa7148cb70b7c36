//! The head of a request in plaintext: kept until its response comes, with where it ends.

use core::mem::MaybeUninit;

use monitor_ebpf::{
    asking::{LOOK, may_name_websocket},
    event::REQUEST_HEAD_MAX,
    socket::Phase,
    upgrade::ends_head,
};

use super::{
    super::{Buffer, GO_ON, NOTHING, Numbers, direction},
    MORE_SHIFT, SOME, key,
};
use crate::{
    frames::forget_values,
    maps::{BEGUN, OPENINGS},
    openings,
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
    let ends = tail(Buffer { at }, (place >> 32) as u32).is_some_and(ends_head);
    if ends { GO_ON } else { NOTHING }
}

/// The last four bytes of plaintext that has so many, the last one lowest.
#[inline(always)]
fn tail(buffer: Buffer, length: u32) -> Option<u32> {
    let mut last = [0u8; 4];
    let at = length.checked_sub(4)?;
    // SAFETY: 4 bytes into 4.
    let read = unsafe { buffer.copy::<4>(at, last.as_mut_ptr(), 4) };
    read.then_some(u32::from_be_bytes(last))
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
    let (key, length) = (key(session, direction), segment.length);
    let tail = tail(buffer, length).unwrap_or(0);
    let is_whole = ends_head(tail);
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
        (*opening).socket.identity.cookie = 0;
        (*opening).response_length = 0;
        (*opening).request_length = 0;
        let into = (&raw mut (*opening).request).cast();
        let kept = if length < REQUEST_HEAD_MAX as u32 {
            length
        } else {
            REQUEST_HEAD_MAX as u32
        };
        if buffer.copy::<{ REQUEST_HEAD_MAX as u32 }>(0, into, kept) {
            (*opening).request_length = kept;
        }
        (*opening).request_tail = tail;
        (*opening).request_end = segment.sequence.wrapping_add(length);
        (*opening).socket.identity.cookie = key;
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
    for number in 0..(REQUEST_HEAD_MAX / LOOK) as u64 {
        let from = number * LOOK as u64;
        if from >= length {
            return NOTHING;
        }
        if look_at_plain(at, length, from) == GO_ON {
            return GO_ON;
        }
    }
    GO_ON
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn look_at_plain(at: u64, length: u64, from: u64) -> u64 {
    const WORDS: usize = LOOK / 8 + 1;
    let buffer = Buffer { at };
    let mut words = MaybeUninit::<[u64; WORDS]>::uninit();
    let word = words.as_mut_ptr().cast::<u64>();
    // SAFETY: as many words as there are, and no more bytes over them.
    let words = unsafe {
        for number in 0..WORDS {
            word.add(number).write_volatile(0);
        }
        let left = (length as u32).wrapping_sub(from as u32);
        if !buffer.copy::<{ WORDS as u32 * 8 }>(from as u32, word.cast(), left) {
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
    let Some(opening) = openings::own(&BEGUN, key) else {
        return NOTHING;
    };
    // SAFETY: an entry of the table; see `openings::new`.
    unsafe {
        (*opening).request_end = segment.sequence.wrapping_add(segment.length);
        let from = segment.length.saturating_sub(4);
        for number in 0..4 {
            let mut byte = 0;
            if from + number >= segment.length || !buffer.copy::<1>(from + number, &raw mut byte, 1)
            {
                break;
            }
            (*opening).request_tail = (*opening).request_tail << 8 | u32::from(byte);
        }
    }
    for number in 0..REQUEST_HEAD_MAX as u64 / u64::from(SOME) {
        let from = (number * u64::from(SOME)) << MORE_SHIFT;
        if keep_some_plain(session, at, place, way | from) == NOTHING {
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
extern "C" fn keep_some_plain(session: u64, at: u64, place: u64, way: u64) -> u64 {
    let (buffer, direction) = (Buffer { at }, direction(way));
    let length = (place >> 32) as u32;
    let Some(opening) = openings::own(&BEGUN, key(session, direction)) else {
        return NOTHING;
    };
    let from = (way >> MORE_SHIFT) as u32;
    for number in 0..SOME {
        let offset = from.wrapping_add(number);
        // SAFETY: an entry of the table; see `openings::new`.
        unsafe {
            let kept = (*opening).request_length as usize;
            if offset >= length || kept >= REQUEST_HEAD_MAX {
                return NOTHING;
            }
            let into = (&raw mut (*opening).request).cast::<u8>().add(kept);
            if !buffer.copy::<1>(offset, into, 1) {
                return NOTHING;
            }
            (*opening).request_length = kept as u32 + 1;
        }
        forget_values();
    }
    GO_ON
}
