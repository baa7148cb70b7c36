//! The heads of the opening handshake in plaintext: as `heads.rs` has them in packets.

use monitor_ebpf::{
    counter::Counter,
    event::Opening,
    session::Session,
    socket::{Direction, Phase, Socket},
    stream::Segment,
    upgrade::{Beginning, Scan},
};

pub(super) use self::request::go_on_request;
use super::{GO_ON, NOTHING, Numbers};
use crate::{
    maps::{BEGUN, OPENINGS},
    openings::{
        self,
        response::{self, READ},
    },
    report::{count, tell_opening, tell_session},
    source::first_bytes,
};

mod request;

const REQUEST: u64 = 2;
/// Above the direction, in a number for a global function: an offset, or what was acknowledged.
const MORE_SHIFT: u32 = 8;

/// The key of a request of this session that went in `direction`.
#[inline(always)]
fn key(session: u64, direction: Direction) -> u64 {
    session | (direction as u64 + 1) << 61
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
    match begin_plain(session, at, place, way) {
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
extern "C" fn begin_plain(session: u64, at: u64, place: u64, way: u64) -> u64 {
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
    let Some(first) = first_bytes(&buffer, segment.length) else {
        return NOTHING;
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
    response::read_all(|| read_many_plain_response(session, at, place, way))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_many_plain_response(session: u64, at: u64, place: u64, way: u64) -> u64 {
    response::read_many(|| read_some_plain_response(session, at, place, way))
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
    // SAFETY: entries of the tables; see `sessions::session` and `openings::new`.
    unsafe {
        let socket: *mut Socket = &raw mut (*entry).socket;
        response::read_some(&buffer, &segment, direction, socket, opening)
    }
}

/// The session is a WebSocket from here on.
#[inline(always)]
fn open(entry: *mut Session, segment: &Segment, direction: Direction, asked: u64) {
    let opening: Option<*mut Opening> = openings::own(&OPENINGS, asked);
    // SAFETY: entries of the tables; see `sessions::session` and `openings::new`.
    unsafe {
        let nothing_between =
            opening.is_some_and(|opening| response::answers(opening, segment.acknowledges));
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
