//! A TLS session as this host's library has it, and what TCP shows of the connection that it is bound to.
//!
//! In: the plaintext that passes the library, where its ciphertext goes out, and the segments of the
//! connection. Out: the same [`Socket`] that packets of plaintext make. Positions in plaintext count from 0 in
//! each direction, as far as this side has seen it.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    event::Lost,
    socket::{ClosedBy, Direction, Identity, Socket},
    stream::Segment,
};

pub use self::wire::{Received, Wire};

mod wire;

/// What is remembered of one TLS session. All zero is one of which nothing is known.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Session {
    /// What the plaintext shows.
    pub socket: Socket,
    /// What TCP shows.
    pub ends: Ends,
    /// Where ciphertext is.
    pub wire: Wire,
    /// The library's object (`SSL *`), an address in its process.
    pub object: u64,
    /// The process that has it.
    pub process: u32,
    /// Bytes of plaintext that passed: sent, received.
    passed: [u32; 2],
    /// The first that this end wrote was its Hello: no plaintext was missed.
    is_fresh: u8,
    /// A [`Binding`].
    binding: u8,
    /// The `101` was written and has not gone out.
    is_opening: u8,
    reserved: [u8; 1],
}

/// Whether it is known whose plaintext it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// Not yet.
    None = 0,
    /// That of one socket.
    Bound = 1,
    /// Two sockets sent what this session wrote, or one sent what two wrote.
    Contradicted = 2,
}

/// What TCP shows of the end of a connection. Two each: of this end, of the other one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Ends {
    fin_ns: [u64; 2],
    rst_ns: [u64; 2],
    ended_ns: u64,
    closed_by: ClosedBy,
    rtt_us: u32,
    facts: [u8; 2],
    fin_answers_fin: [u8; 2],
}

impl Session {
    /// Reads an entry of the map of sessions; none when it is not as long as one.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        Self::read_from_bytes(bytes).ok()
    }

    /// A session of this process, whose object is at this address.
    #[inline(always)]
    pub fn begin(&mut self, process: u32, object: u64) {
        self.process = process;
        self.object = object;
    }

    /// This end wrote its Hello. Whether it begins the session: no plaintext has passed.
    #[inline(always)]
    pub fn note_hello(&mut self) -> bool {
        let is_first = self.passed[0] | self.passed[1] == 0;
        if is_first {
            self.is_fresh = 1;
        }
        is_first
    }

    /// Plaintext passed in a direction, and nobody knows what.
    #[inline(always)]
    pub fn miss(&mut self, direction: Direction) {
        if self.socket.is_open() || self.socket.is_candidate() {
            self.socket.stream(direction).lose(Lost::Gap);
        }
    }

    /// Whether all of its plaintext passes here.
    #[inline(always)]
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.is_fresh != 0
    }

    /// A session whose beginning was not seen is no WebSocket so far: none is missed from here on.
    #[inline(always)]
    pub fn miss_nothing(&mut self) {
        self.is_fresh = 1;
        self.socket.begin_anew();
    }

    /// Plaintext passes: its place.
    #[inline(always)]
    pub fn pass(&mut self, direction: Direction, length: u32, now_ns: u64) -> Segment {
        let sequence = self.passed[direction as usize];
        self.passed[direction as usize] = sequence.wrapping_add(length);
        let other = direction.other();
        // Where frames are followed, another thread may be about to read what it has got.
        let acknowledges = if self.socket.is_open() {
            self.socket.stream(other).through as u32
        } else {
            self.passed[other as usize]
        };
        Segment {
            sequence,
            acknowledges,
            length,
            awaited: sequence,
            fin: false,
            rst: false,
            now_ns,
        }
    }

    /// It is a WebSocket from now on, or from when the `101` that was written has gone out. Whether from now on.
    #[inline(always)]
    pub fn open(&mut self, direction: Direction) -> bool {
        let waits = direction == Direction::Egress && !self.wire.has_all_gone_out();
        self.is_opening = u8::from(waits);
        !waits
    }

    /// Whether a `101` was written and has not gone out: nothing is told before.
    #[inline(always)]
    #[must_use]
    pub fn is_opening(&self) -> bool {
        self.is_opening != 0
    }

    /// The `101` has gone out.
    #[inline(always)]
    pub fn has_opened(&mut self) {
        self.is_opening = 0;
        self.socket.opened_ns = self.wire.passed_ns();
    }

    /// Bytes of plaintext that passed in a direction.
    #[inline(always)]
    #[must_use]
    pub fn passed(&self, direction: Direction) -> u32 {
        self.passed[direction as usize]
    }

    /// How far the session is bound.
    #[inline(always)]
    #[must_use]
    pub fn is_bound(&self) -> bool {
        self.binding == Binding::Bound as u8
    }

    /// Whether its binding was contradicted: nothing is told of it any more.
    #[inline(always)]
    #[must_use]
    pub fn is_contradicted(&self) -> bool {
        self.binding == Binding::Contradicted as u8
    }

    /// This session's ciphertext is what a socket sends.
    #[inline(always)]
    pub fn bind(&mut self, identity: Identity) {
        self.socket.identity = identity;
        self.binding = Binding::Bound as u8;
    }

    /// It is not known any more whose it is.
    #[inline(always)]
    pub fn contradict(&mut self) {
        self.binding = Binding::Contradicted as u8;
    }

    /// Whether the connection reached TCP_CLOSE.
    #[inline(always)]
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ends.ended_ns != 0
    }

    /// When the connection reached TCP_CLOSE, since boot (CLOCK_BOOTTIME).
    #[must_use]
    pub fn ended(&self) -> Option<core::time::Duration> {
        let ended_ns = self.ends.ended_ns;
        (ended_ns != 0).then(|| core::time::Duration::from_nanos(ended_ns))
    }

    /// Whether this is a WebSocket of which it is not known whose it is, and nothing contradicted that.
    #[inline(always)]
    #[must_use]
    pub fn is_unbound_websocket(&self) -> bool {
        self.binding == Binding::None as u8 && self.socket.is_open()
    }

    /// Takes over what TCP shows of the bound socket.
    #[inline(always)]
    pub fn note_ends(&mut self, tcp: &Socket) {
        let (sent, received) = (tcp.sent(), tcp.received());
        self.ends.fin_ns = [sent.fin_ns, received.fin_ns];
        self.ends.rst_ns = [sent.rst_ns, received.rst_ns];
        self.ends.fin_answers_fin = [sent.fin_answers_fin, received.fin_answers_fin];
        self.ends.facts = [sent.facts(), received.facts()];
        self.ends.closed_by = tcp.closed_by;
        self.ends.ended_ns = tcp.ended_ns;
    }

    /// The closing handshake is complete, and the round-trip time is not yet noted.
    #[inline(always)]
    #[must_use]
    pub fn wants_rtt(&self) -> bool {
        self.ends.rtt_us == 0 && self.has_sent_close() && self.socket.received().has_close()
    }

    /// Notes the smoothed round-trip time at completion, in µs.
    #[inline(always)]
    pub fn note_rtt(&mut self, rtt_us: u32) {
        self.ends.rtt_us = rtt_us;
    }

    /// Whether this end's Close frame has gone out, not only been handed to the library.
    #[inline(always)]
    #[must_use]
    pub fn has_sent_close(&self) -> bool {
        self.socket.sent().has_close() && self.wire.passed_ns() != 0
    }

    /// Nothing more will pass: what is not known to have been read, or to have gone out, is lost.
    #[inline(always)]
    pub fn finish(&mut self) {
        self.socket.end(self.ends.ended_ns);
        let (fin_ns, rst) = (self.ends.fin_ns[0], self.ends.rst_ns[0] != 0);
        let is_unread = self.wire.has_unread(rst) || self.wire.has_unread_alert(fin_ns);
        if !self.socket.received().has_close() && is_unread {
            self.socket.stream(Direction::Ingress).lose(Lost::Gap);
        }
        let is_unknown = !self.socket.sent().has_close() && self.wire.is_writing();
        let is_unknown = is_unknown || self.wire.has_sent_unseen();
        if is_unknown || !self.wire.has_all_gone_out() {
            self.socket.stream(Direction::Egress).lose(Lost::Gap);
        }
    }

    /// Which of the facts that are worth an event are known.
    #[inline(always)]
    #[must_use]
    pub fn facts(&self) -> u32 {
        let close = u32::from(self.has_sent_close());
        let [sent, received] = self.ends.facts;
        let tcp = u32::from(sent) << 16 | u32::from(received) << 24;
        u32::from(self.socket.facts()) | close << 8 | tcp
    }

    /// Puts what TCP and the wire show into a copy of [`Session::socket`].
    #[inline(always)]
    pub fn overlay(&self, into: &mut Socket) {
        into.ended_ns = self.ends.ended_ns;
        into.closed_by = self.ends.closed_by;
        into.rtt_us = self.ends.rtt_us;
        if self.is_contradicted() {
            into.withhold();
        }
        let close_ns = if self.socket.sent().has_close() {
            self.wire.passed_ns()
        } else {
            0
        };
        let sent = into.stream(Direction::Egress);
        sent.close_ns = close_ns;
        sent.end_as(self.ends.facts[0], self.ends.fin_ns[0], self.ends.rst_ns[0]);
        sent.fin_answers_fin = self.ends.fin_answers_fin[0];
        let received = into.stream(Direction::Ingress);
        received.end_as(self.ends.facts[1], self.ends.fin_ns[1], self.ends.rst_ns[1]);
        received.fin_answers_fin = self.ends.fin_answers_fin[1];
    }
}
