//! The plaintext of TLS sessions: the same scanner of heads and follower of frames as packets have, fed with what
//! calls into the library gave or took. It passes in order and once.
//!
//! As for packets, work is done in global functions, which are told numbers: see `turns.rs`.

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use monitor_ebpf::{
    counter::Counter,
    frame::HEADER_MAX,
    session::Session,
    socket::{Direction, Look, Socket, Verdict},
    stream::{Payload, Segment},
};

use crate::{
    packet::{clamp, direction, now_ns, place, segment},
    report::tell_session,
    segments::count_lost,
    sessions::session,
    source::{Source, begins_head},
};

mod frames;
mod heads;

pub(crate) use self::heads::went_out;

/// What the functions here return.
const NOTHING: u64 = 0;
const GO_ON: u64 = 1;

/// Plaintext in a process.
#[derive(Clone, Copy)]
pub(super) struct Buffer {
    at: u64,
}

/// What a global function is told.
#[derive(Clone, Copy)]
struct Numbers {
    session: u64,
    /// Where the plaintext is.
    at: u64,
    /// Its position, and above it the length.
    place: u64,
    now_ns: u64,
    /// In the lowest bit the direction; above it what the function needs besides.
    way: u64,
}

impl Numbers {
    #[inline(always)]
    fn of(session: u64, buffer: Buffer, segment: &Segment, direction: Direction) -> Self {
        Self {
            session,
            at: buffer.at,
            place: place(segment),
            now_ns: segment.now_ns,
            way: direction as u64,
        }
    }

    /// The same plaintext again. Of a segment's numbers only its place and time.
    #[inline(always)]
    fn plaintext(self) -> Option<(*mut Session, Buffer, Segment, Direction)> {
        Some((
            session(self.session)?,
            Buffer { at: self.at },
            segment(self.place, self.now_ns),
            direction(self.way),
        ))
    }
}

impl Source for Buffer {
    #[inline(always)]
    unsafe fn copy<const MAX: u32>(&self, offset: u32, into: *mut u8, length: u32) -> bool {
        let length = clamp::<MAX>(length);
        let from = (self.at + u64::from(offset)) as *const _;
        // SAFETY: the helper refuses what cannot be read, the verifier checks `into`.
        unsafe { bpf_probe_read_user(into.cast(), length, from) == 0 }
    }
}

impl Payload for Buffer {
    #[inline(always)]
    fn load(&self, offset: u32, into: &mut [u8]) -> bool {
        // SAFETY: `clamp` changes nothing of a length that the trait allows.
        unsafe { self.copy::<{ HEADER_MAX as u32 }>(offset, into.as_mut_ptr(), into.len() as u32) }
    }

    #[inline(always)]
    fn now_ns(&self) -> u64 {
        now_ns()
    }
}

/// `length` bytes of plaintext passed at `now_ns`.
#[inline(always)]
pub(crate) fn observe(number: u64, at: u64, length: u32, direction: Direction, now_ns: u64) {
    follow(number, at, length.into(), now_ns, direction as u64);
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn follow(number: u64, at: u64, length: u64, now_ns: u64, way: u64) -> u64 {
    let Some(session) = session(number) else {
        return NOTHING;
    };
    let (buffer, direction) = (Buffer { at }, direction(way));
    // SAFETY: an entry of the table; see `sessions::session`.
    unsafe {
        if (*session).is_contradicted() || (*session).has_ended() {
            return NOTHING;
        }
        let socket: *mut Socket = &raw mut (*session).socket;
        if (*socket).is_blank() && !(*session).is_fresh() {
            let [sent, received] = [Direction::Egress, Direction::Ingress];
            (*socket).begin_candidate((*session).passed(sent), (*session).passed(received));
        }
        let segment = (*session).pass(direction, length as u32, now_ns);
        let numbers = Numbers::of(number, buffer, &segment, direction);
        let (facts, lost) = ((*session).facts(), (*socket).lost());
        if (*socket).is_candidate() && begins_head(&buffer, segment.length) {
            (*session).miss_nothing();
        }
        let look = if (*socket).is_blank() {
            Look::AtBeginning
        } else {
            (*socket).arrive(direction, &segment)
        };
        let holds_frames = match look {
            Look::AtFrames => true,
            Look::AtBeginning => heads::begin(numbers, u64::from(segment.acknowledges)),
            Look::AtRequest => heads::go_on_request(numbers),
            Look::AtResponse => heads::go_on_response(numbers, u64::from(segment.acknowledges)),
            Look::Away | Look::Early | Look::RequestLost | Look::ResponseLost => false,
        };
        if holds_frames {
            frames::follow(numbers);
        }
        judge(session, direction);
        (*socket).weigh_close_frames();
        count_lost(socket, lost);
        if (*socket).is_open() && (*session).facts() != facts {
            tell_session(session, Counter::EventLost);
        }
    }
    NOTHING
}

/// Judges a session of which the beginning was not seen.
#[inline(always)]
unsafe fn judge(session: *mut Session, direction: Direction) {
    // SAFETY: the caller's: an entry of the table; see `sessions::session`.
    unsafe {
        let socket: *mut Socket = &raw mut (*session).socket;
        if !(*socket).is_candidate() {
            return;
        }
        match (*socket).judge_candidate(direction) {
            Verdict::WebSocket => {
                let identity = (*socket).identity;
                (*socket).adopt(identity);
            }
            Verdict::NoWebSocket => (*session).miss_nothing(),
            Verdict::Unknown => {}
        }
    }
}
