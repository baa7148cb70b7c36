//! All that is remembered of one socket, and what a segment does to it.
//!
//! In: segments with their direction. Out: whether the bytes are to be looked at, and as what; and
//! which facts are new. The daemon gets this very structure, bytes as they are: see `event.rs`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    stream::{Next, Segment, Stream},
    upgrade::ResponseHead,
};

pub use self::candidate::Verdict;

mod candidate;
mod opening;
mod quiet;
mod sealed;

/// Which way a segment goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From this socket.
    Egress = 0,
    /// To this socket.
    Ingress = 1,
}

/// How far the socket has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A request head has begun and is not whole.
    Request = 1,
    /// A response that begins like the one looked for is not whole.
    Response = 2,
    /// A WebSocket.
    Open = 3,
    /// A connection whose opening was not seen: a WebSocket if it shows the frames of one.
    Candidate = 4,
    /// A connection whose bytes are TLS records, of a session whose plaintext is seen elsewhere: see `session.rs`.
    Sealed = 5,
}

/// Who the socket is. Addresses are IPv6, or IPv4 in the first four bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Identity {
    /// The socket cookie.
    pub cookie: u64,
    /// The id of the socket's cgroup.
    pub cgroup_id: u64,
    /// The socket's own address, network byte order.
    pub local_address: [u8; 16],
    /// The remote end's address, network byte order.
    pub remote_address: [u8; 16],
    /// The socket's own port.
    pub local_port: u16,
    /// The remote end's port.
    pub remote_port: u16,
    /// Whether the addresses are IPv6.
    pub is_ipv6: u8,
    /// Keeps the size a multiple of 8.
    pub reserved: [u8; 3],
}

/// The thread that closed the local end.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ClosedBy {
    /// Process id (thread group id); 0: nobody has.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// The thread's name.
    pub comm: [u8; 16],
}

/// The value of the socket storage. All zero is a socket of which nothing is known.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Socket {
    /// Who it is; known from the opening on.
    pub identity: Identity,
    /// When this was handed out.
    pub(crate) taken_ns: u64,
    /// When the last byte of the 101 head passed.
    pub(crate) opened_ns: u64,
    /// When the socket reached TCP_CLOSE.
    pub(crate) ended_ns: u64,
    /// Smoothed round-trip time in µs when the closing handshake was complete.
    pub(crate) rtt_us: u32,
    /// The event of that has found room in the ring buffer.
    end_told: u8,
    pub(crate) role: u8,
    phase: u8,
    /// The direction of the head that is being read.
    head_direction: u8,
    pub(crate) closed_by: ClosedBy,
    head: ResponseHead,
    /// What follows from all the rest: [`CLOSE_SENT`], [`CLOSE_RECEIVED`], [`ADOPTED`]. In memory, so that the
    /// verifier need not follow every way to it.
    concluded: u8,
    /// It is not certain that what is said here is of this socket: two TLS sessions claim it.
    withheld: u8,
    reserved: [u8; 2],
    /// The CPUs that are at work on what comes in, or ask whether they may be: see [`Socket::busy`]. Not
    /// in the stream, which may begin anew in between.
    busy: u32,
    /// The TLS session whose plaintext this connection carries; 0 when it carries its own bytes.
    pub session: u64,
    streams: [Stream; 2],
}

const CLOSE_SENT: u8 = 1;
const CLOSE_RECEIVED: u8 = 1 << 3;
const ADOPTED: u8 = 1 << 6;

/// What is to be done with the bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing: they are known, or do not matter.
    Away,
    /// They may begin a response: see [`Beginning::of`](crate::upgrade::Beginning::of).
    AtBeginning,
    /// They go on with a request head.
    AtRequest,
    /// They go on with a response head: see [`Socket::read_head`].
    AtResponse,
    /// They hold frames: see [`Stream::turn`].
    AtFrames,
    /// They may hold frames, and passed before their turn: see `early.rs`.
    Early,
    /// The request head has a hole; the socket is to be forgotten.
    RequestLost,
    /// The response head has a hole: what follows may still be a WebSocket's.
    ResponseLost,
}

impl Socket {
    /// Whether nothing was noted of it yet: it has only just been made, perhaps by another CPU.
    #[inline(always)]
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.phase == 0
    }

    /// What the local end (egress) or the remote one (ingress) sent.
    #[inline(always)]
    pub fn stream(&mut self, direction: Direction) -> &mut Stream {
        &mut self.streams[direction as usize]
    }

    /// The word that says how many CPUs are at work on what comes in, or ask whether they may be.
    #[inline(always)]
    pub fn busy(&mut self) -> *mut u32 {
        &raw mut self.busy
    }

    /// Takes a segment's place and flags, and says what its bytes are.
    #[inline(always)]
    pub fn arrive(&mut self, direction: Direction, segment: &Segment) -> Look {
        if self.phase == Phase::Open as u8 || self.phase == Phase::Candidate as u8 {
            return self.arrive_open(direction, segment);
        }
        if self.head_direction != direction as u8 {
            let answers = self.phase == Phase::Request as u8 && segment.length > 0;
            return if answers {
                Look::AtBeginning
            } else {
                Look::Away
            };
        }
        let request = self.phase == Phase::Request as u8;
        match self.stream(direction).arrive(segment) {
            Next::Done => Look::Away,
            Next::Turn if request => Look::AtRequest,
            Next::Turn => Look::AtResponse,
            Next::Early if request => Look::RequestLost,
            // Frames may overtake a 101 that was lost on the way.
            Next::Early if self.head.is_at_beginning() => Look::Early,
            Next::Early => Look::ResponseLost,
        }
    }

    /// Whether a Close frame or a FIN came in of which TCP may not have taken it.
    #[inline(always)]
    #[must_use]
    pub fn awaits_reception(&self) -> bool {
        self.is_open() && self.received().is_in_doubt()
    }

    /// Concludes from a segment, before [`Socket::arrive`], whether TCP has taken the Close frame that came in:
    /// from what it acknowledges, be it in an RST, and from what it waits for when more comes in.
    #[inline(always)]
    pub fn weigh_reception(&mut self, direction: Direction, segment: &Segment) {
        let [sent, received] = &mut self.streams;
        match direction {
            Direction::Egress => received.weigh_reception(segment.acknowledges),
            Direction::Ingress => {
                if segment.rst || sent.can_be_acknowledged(segment.acknowledges) {
                    received.meet(segment);
                }
            }
        }
    }

    #[inline(always)]
    fn arrive_open(&mut self, direction: Direction, segment: &Segment) -> Look {
        let other = direction.other();
        match direction {
            // What this end acknowledges has come in.
            Direction::Egress if !segment.rst => {
                self.stream(other).note_awaited(segment.acknowledges);
            }
            Direction::Egress => {}
            Direction::Ingress if self.stream(other).can_be_acknowledged(segment.acknowledges) => {}
            Direction::Ingress if segment.rst => {}
            Direction::Ingress => return Look::Away,
        }
        let had_fin = self.stream(direction).has_seen_fin();
        let next = self.stream(direction).arrive(segment);
        if !had_fin && self.stream(direction).has_seen_fin() {
            let answers = self.stream(other).fin_acknowledged_by(segment.acknowledges);
            self.stream(direction).fin_answers_fin = u8::from(answers);
        }
        match next {
            Next::Turn => Look::AtFrames,
            Next::Early => Look::Early,
            Next::Done => Look::Away,
        }
    }

    /// Whether this is a WebSocket.
    #[inline(always)]
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open as u8
    }

    /// Why each direction is not followed any more, sent and received: the number of a [`Lost`](crate::event::Lost), or 0. As a
    /// number, so that the verifier need not follow every reason.
    #[inline(always)]
    #[must_use]
    pub fn lost(&self) -> [u8; 2] {
        [self.streams[0].lost, self.streams[1].lost]
    }

    /// Which of the facts that are worth an event are known, a bit for each: what each end has sent, and
    /// that this connection was adopted.
    #[inline(always)]
    #[must_use]
    pub fn facts(&self) -> u8 {
        let [sent, received] = &self.streams;
        self.concluded | sent.facts() | received.facts() << 3
    }

    /// Concludes from both directions which Close frames have passed.
    #[inline(always)]
    pub fn weigh_close_frames(&mut self) {
        let [sent, received] = &self.streams;
        let mut concluded = self.concluded & ADOPTED;
        if sent.believes_close(received) {
            concluded |= CLOSE_SENT;
        }
        if received.believes_close(sent) {
            concluded |= CLOSE_RECEIVED;
        }
        self.concluded = concluded;
    }

    /// The closing handshake is complete, and the round-trip time is not yet noted.
    #[inline(always)]
    #[must_use]
    pub fn wants_rtt(&self) -> bool {
        let both = CLOSE_SENT | CLOSE_RECEIVED;
        self.rtt_us == 0 && self.concluded & both == both
    }

    /// Notes the smoothed round-trip time at completion, in µs.
    #[inline(always)]
    pub fn note_rtt(&mut self, rtt_us: u32) {
        self.rtt_us = rtt_us;
    }

    /// A thread closes the local end. The first one counts.
    #[inline(always)]
    pub fn note_closed_by(&mut self, by: ClosedBy) {
        if self.closed_by.pid == 0 {
            self.closed_by = by;
        }
    }

    /// Whoever closed the local end aborted the connection, which is told of nobody.
    #[inline(always)]
    pub fn forget_closed_by(&mut self) {
        self.closed_by = ClosedBy::default();
    }

    /// The socket reached TCP_CLOSE.
    #[inline(always)]
    pub fn end(&mut self, now_ns: u64) {
        if self.ended_ns == 0 {
            self.ended_ns = now_ns;
            self.streams[0].finish();
            self.streams[1].finish();
        }
    }

    /// Whether the socket reached TCP_CLOSE.
    #[inline(always)]
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended_ns != 0
    }

    /// The daemon will know of the end.
    #[inline(always)]
    pub fn note_end_told(&mut self) {
        self.end_told = 1;
    }

    /// Whether the daemon knows of the end.
    #[inline(always)]
    #[must_use]
    pub fn is_end_told(&self) -> bool {
        self.end_told != 0
    }

    /// When this state is handed out.
    #[inline(always)]
    pub fn note_taken(&mut self, now_ns: u64) {
        self.taken_ns = now_ns;
    }

    #[inline(always)]
    pub(crate) fn sent(&self) -> &Stream {
        &self.streams[0]
    }

    #[inline(always)]
    pub(crate) fn received(&self) -> &Stream {
        &self.streams[1]
    }
}

impl Direction {
    /// The other way.
    #[inline(always)]
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Egress => Self::Ingress,
            Self::Ingress => Self::Egress,
        }
    }
}

#[cfg(test)]
mod tests;
