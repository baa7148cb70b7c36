//! The heads of the opening handshake in plaintext: as `heads.rs` has them in packets.

use core::mem::MaybeUninit;

use monitor_ebpf::{
    asking::{LOOK, may_name_websocket},
    counter::Counter,
    event::{Opening, REQUEST_HEAD_MAX, RESPONSE_HEAD_MAX},
    session::Session,
    socket::{Direction, Phase, Socket},
    stream::Segment,
    upgrade::{Beginning, HEAD_MAX, REQUEST_LINE, STATUS_LINE, Scan, ends_head},
};

use super::{Buffer, GO_ON, NOTHING, Numbers};
use crate::{
    frames::forget_values,
    maps::{BEGUN, OPENINGS},
    openings,
    report::{count, tell_opening, tell_session},
};

/// Bytes of a head that are read in one go, and how often: see `frames.rs` for the nesting.
const SOME: u32 = 8;
const MANY: u32 = 64;
const ALL: u32 = HEAD_MAX as u32 / (SOME * MANY) + 1;
/// The plaintext was read to its end, which no [`Scan`] says.
const READ: u64 = 0xff;
/// Above the direction, in a number for a global function: an offset, or what was acknowledged.
const MORE_SHIFT: u32 = 8;

/// The key of a request of this session that went in `direction`.
#[inline(always)]
fn key(session: u64, direction: Direction) -> u64 {
    session | (direction as u64 + 1) << 61
}

/// Whether plaintext begins like a request or a response.
#[inline(always)]
pub(super) fn begins(buffer: Buffer, segment: &Segment) -> bool {
    let mut first = [0u8; 4];
    // SAFETY: 4 bytes into 4.
    let read = segment.length >= 4 && unsafe { buffer.copy::<4>(0, first.as_mut_ptr(), 4) };
    read && (first == REQUEST_LINE || first == STATUS_LINE[..4])
}

/// Plaintext in which a request or a response may begin, when `other` bytes had passed in the other direction. Whether frames
/// follow.
#[inline(always)]
pub(super) fn begin(numbers: Numbers, other: u64) -> bool {
    let Numbers {
        session,
        at,
        place,
        now_ns,
        way,
    } = numbers;
    begin_plain(session, at, place, now_ns, way | other << MORE_SHIFT) == GO_ON
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn begin_plain(session: u64, at: u64, place: u64, now_ns: u64, way: u64) -> u64 {
    let numbers = Numbers {
        session,
        at,
        place,
        now_ns,
        way,
    };
    let Some((entry, buffer, segment, direction)) = numbers.plaintext() else {
        return NOTHING;
    };
    let mut words = MaybeUninit::<[u64; 2]>::uninit();
    let word = words.as_mut_ptr().cast::<u64>();
    // SAFETY: two words into two, and up to 16 bytes over them.
    let first: [u8; 16] = unsafe {
        word.write_volatile(0);
        word.add(1).write_volatile(0);
        if !buffer.copy::<16>(0, word.cast(), segment.length) {
            return NOTHING;
        }
        zerocopy::transmute!(words.assume_init())
    };
    let asked = key(session, direction.other());
    match Beginning::of(&first, segment.length) {
        Beginning::Request => begin_request(entry, numbers, buffer, &segment, direction),
        Beginning::OtherResponse => {
            openings::remove(&OPENINGS, asked);
            openings::remove(&BEGUN, asked);
        }
        Beginning::Response => {
            openings::settle(asked, asked);
            if openings::own(&OPENINGS, asked).is_none() {
                if segment.length >= Beginning::BYTES {
                    count(Counter::ResponseUnasked);
                }
                return NOTHING;
            }
            // SAFETY: an entry of the table, see `openings::new`, and one of sessions, see `sessions::session`.
            unsafe {
                if let Some(opening) = openings::own(&OPENINGS, asked) {
                    (*opening).response_length = 0;
                }
                (*entry).socket.begin(Phase::Response, direction, &segment);
            }
            return read_plain_response(session, at, place, now_ns, way);
        }
        Beginning::Proxied | Beginning::Neither => {}
    }
    NOTHING
}

/// A request begins.
#[inline(always)]
fn begin_request(
    entry: *mut Session,
    numbers: Numbers,
    buffer: Buffer,
    segment: &Segment,
    direction: Direction,
) {
    let key = key(numbers.session, direction);
    let mut last = [0u8; 4];
    let length = segment.length;
    // SAFETY: 4 bytes into 4.
    let has_tail = length >= 4 && unsafe { buffer.copy::<4>(length - 4, last.as_mut_ptr(), 4) };
    let tail = u32::from_be_bytes(last);
    let is_whole = has_tail && ends_head(tail);
    if is_whole && look_through_plain(numbers.at, numbers.place) == NOTHING {
        return;
    }
    openings::remove(&OPENINGS, key);
    let opening = if is_whole {
        openings::new(&OPENINGS, key)
    } else {
        openings::new(&BEGUN, key)
    };
    let Some(opening) = opening else {
        return;
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
            (*entry).socket.begin(Phase::Request, direction, segment);
            (*entry).socket.stream(direction).skip(segment);
        }
    }
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
pub(super) fn go_on_request(numbers: Numbers) -> bool {
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
    let (buffer, direction) = (Buffer { at }, super::direction(way));
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

/// Reads more of a response. Whether its head is whole and opened a WebSocket.
#[inline(always)]
pub(super) fn go_on_response(numbers: Numbers, other: u64) -> bool {
    let Numbers {
        session,
        at,
        place,
        now_ns,
        way,
    } = numbers;
    read_plain_response(session, at, place, now_ns, way | other << MORE_SHIFT) == GO_ON
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_plain_response(session: u64, at: u64, place: u64, now_ns: u64, way: u64) -> u64 {
    let numbers = Numbers {
        session,
        at,
        place,
        now_ns,
        way,
    };
    let scan = read_all_plain_response(session, at, place, way);
    let Some((entry, _, mut segment, direction)) = numbers.plaintext() else {
        return NOTHING;
    };
    let asked = key(session, direction.other());
    if scan == Scan::WebSocket as u64 {
        segment.acknowledges = (way >> MORE_SHIFT) as u32;
        open(entry, &segment, direction, asked);
        return GO_ON;
    }
    if scan == READ {
        return NOTHING;
    }
    if scan == Scan::TooLong as u64 {
        count(Counter::ResponseTooLong);
    }
    openings::remove(&OPENINGS, asked);
    // SAFETY: an entry of the table; see `sessions::session`.
    unsafe { (*entry).socket.begin_anew() };
    NOTHING
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_all_plain_response(session: u64, at: u64, place: u64, way: u64) -> u64 {
    for _ in 0..ALL {
        let scan = read_many_plain_response(session, at, place, way);
        if scan != Scan::More as u64 {
            return scan;
        }
    }
    Scan::TooLong as u64
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_many_plain_response(session: u64, at: u64, place: u64, way: u64) -> u64 {
    for _ in 0..MANY {
        let scan = read_some_plain_response(session, at, place, way);
        if scan != Scan::More as u64 {
            return scan;
        }
    }
    Scan::More as u64
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_some_plain_response(session: u64, at: u64, place: u64, way: u64) -> u64 {
    let numbers = Numbers {
        session,
        at,
        place,
        now_ns: 0,
        way,
    };
    let Some((entry, buffer, segment, direction)) = numbers.plaintext() else {
        return READ;
    };
    let opening = openings::own(&OPENINGS, key(session, direction.other()));
    // SAFETY: an entry of the table; see `sessions::session`.
    let Some(offset) = (unsafe { (*entry).socket.stream(direction).offset(&segment) }) else {
        return READ;
    };
    let left = segment.length - offset;
    let there = if left < SOME { left } else { SOME };
    let mut some = 0u64;
    // SAFETY: 8 bytes into 8.
    if !unsafe { buffer.copy::<SOME>(offset, (&raw mut some).cast(), there) } {
        return READ;
    }
    let some = u64::from_le(some);
    for number in 0..SOME {
        if number >= there {
            return READ;
        }
        let byte = (some >> (8 * number)) as u8;
        // SAFETY: entries of the tables; see `sessions::session` and `openings::new`.
        unsafe {
            if let Some(opening) = opening {
                let at = (*opening).response_length as usize;
                if at < RESPONSE_HEAD_MAX {
                    *(&raw mut (*opening).response).cast::<u8>().add(at) = byte;
                    (*opening).response_length = at as u32 + 1;
                }
            }
            let scan = (*entry).socket.read_head(direction, byte);
            if scan != Scan::More {
                return scan as u64;
            }
        }
        forget_values();
    }
    Scan::More as u64
}

/// The session is a WebSocket from here on.
#[inline(always)]
fn open(entry: *mut Session, segment: &Segment, direction: Direction, asked: u64) {
    let opening: Option<*mut Opening> = openings::own(&OPENINGS, asked);
    // SAFETY: entries of the tables; see `sessions::session` and `openings::new`.
    unsafe {
        let nothing_between = opening.is_some_and(|opening| {
            ends_head((*opening).request_tail) && (*opening).request_end == segment.acknowledges
        });
        let socket: *mut Socket = &raw mut (*entry).socket;
        (*socket).open(direction, segment, nothing_between, segment.acknowledges);
        if let Some(opening) = opening
            && !nothing_between
        {
            (*opening).request_length = 0;
        }
        if (*entry).open(direction) {
            tell_opened(entry, asked);
        }
    }
}

/// A `101` that was written has gone out.
#[inline(always)]
pub(crate) fn went_out(entry: *mut Session) {
    // SAFETY: an entry of the table; see `sessions::session`.
    unsafe {
        (*entry).has_opened();
        tell_opened(entry, key((*entry).socket.session, Direction::Ingress));
    }
}

/// Tells the opening, with the heads if they are still there.
///
/// # Safety
///
/// `entry` is one of the table of sessions.
#[inline(always)]
unsafe fn tell_opened(entry: *mut Session, asked: u64) {
    // SAFETY: the caller's; and an entry of the table, see `openings::new`.
    unsafe {
        if let Some(opening) = openings::own(&OPENINGS, asked) {
            if (*entry).is_bound() {
                (*opening).socket = (*entry).socket;
                (*entry).overlay(&mut (*opening).socket);
                tell_opening(opening);
            }
            openings::remove(&OPENINGS, asked);
        } else {
            tell_session(entry, Counter::EventLost);
        }
    }
}
