//! The heads of the opening handshake in plaintext: as `heads.rs` has them in packets.

use core::mem::MaybeUninit;

use monitor_ebpf::{
    counter::Counter,
    event::{Opening, RESPONSE_HEAD_MAX},
    session::Session,
    socket::{Direction, Phase, Socket},
    stream::Segment,
    upgrade::{Beginning, HEAD_MAX, REQUEST_LINE, STATUS_LINE, Scan, ends_head},
};

pub(super) use self::request::go_on_request;
use super::{Buffer, GO_ON, NOTHING, Numbers};
use crate::{
    frames::forget_values,
    maps::{BEGUN, OPENINGS},
    openings,
    report::{count, tell_opening, tell_session},
};

mod request;

/// Bytes of a head that are read in one go, and how often: see `frames.rs` for the nesting.
const SOME: u32 = 8;
const MANY: u32 = 64;
const ALL: u32 = HEAD_MAX as u32 / (SOME * MANY) + 1;
/// The plaintext was read to its end, which no [`Scan`] says.
const READ: u64 = 0xff;
const REQUEST: u64 = 2;
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
    let way = way | other << MORE_SHIFT;
    // One after the other: what is called from within takes of the same stack.
    match begin_plain(session, at, place, now_ns, way) {
        GO_ON => read_plain_response(session, at, place, now_ns, way) == GO_ON,
        REQUEST => {
            request::begin(numbers);
            false
        }
        _ => false,
    }
}

/// What begins: a response that is to be read ([`GO_ON`]), a [`REQUEST`], or nothing of interest.
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
        Beginning::Request => return REQUEST,
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
            return GO_ON;
        }
        Beginning::Proxied | Beginning::Neither => {}
    }
    NOTHING
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
