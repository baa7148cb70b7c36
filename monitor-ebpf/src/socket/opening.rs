//! The opening handshake on a socket: from the beginning of a request or a response to the first frames.
//!
//! In: where a head begins, its bytes, where it ends. Out: a socket that is open, with both directions at their first
//! frame.

use super::{Direction, Phase, Segment, Socket};
use crate::{
    event::{Lost, Role},
    stream::Stream,
    upgrade::{ResponseHead, Scan},
};

impl Socket {
    /// Whether it may have become a WebSocket unseen: a response was awaited of which no byte was read although what
    /// follows it has passed, or bytes of one were not read.
    #[inline(always)]
    #[must_use]
    pub fn may_have_opened_unseen(&self) -> bool {
        let [sent, received] = &self.streams;
        let is_lost = sent.lost != 0 || received.lost != 0;
        match self.phase {
            0 => is_lost,
            phase if phase == Phase::Response as u8 => is_lost || self.head.is_at_beginning(),
            _ => false,
        }
    }

    /// A head begins with `segment`.
    #[inline(always)]
    pub fn begin(&mut self, phase: Phase, direction: Direction, segment: &Segment) {
        self.phase = phase as u8;
        self.head_direction = direction as u8;
        self.head = ResponseHead::default();
        *self.stream(direction) = Stream::starting_at(segment.sequence);
        self.stream(direction).arrive(segment);
    }

    /// A response is to begin at `sequence`, and something behind that has passed already.
    #[inline(always)]
    pub fn await_response(&mut self, direction: Direction, sequence: u32) {
        self.phase = Phase::Response as u8;
        self.head_direction = direction as u8;
        self.head = ResponseHead::default();
        *self.stream(direction) = Stream::starting_at(sequence);
    }

    /// A request waits for its response.
    #[inline(always)]
    #[must_use]
    pub fn still_requests(&self) -> bool {
        self.phase == Phase::Request as u8
    }

    /// Takes the next byte of the response head.
    #[inline(always)]
    pub fn read_head(&mut self, direction: Direction, byte: u8) -> Scan {
        self.stream(direction).cursor += 1;
        self.head.push(byte)
    }

    /// The head ended with a byte of `segment`, and this is a WebSocket from here on. In the other
    /// direction the frames begin after the request, and there is `nothing_between` its end and what
    /// `segment` acknowledges: else frames have passed already, and that direction is lost. `sent` is how
    /// far the local end has sent.
    #[inline(always)]
    pub fn open(
        &mut self,
        direction: Direction,
        segment: &Segment,
        nothing_between: bool,
        sent: u32,
    ) {
        self.phase = Phase::Open as u8;
        self.opened_ns = segment.now_ns;
        self.role = match direction {
            Direction::Egress => Role::Server as u8,
            Direction::Ingress => Role::Client as u8,
        };
        self.stream(direction).set_masked(false);
        let other = self.stream(direction.other());
        *other = Stream::starting_at(segment.acknowledges);
        other.set_masked(true);
        if direction == Direction::Ingress {
            other.note_awaited(sent);
        }
        if !nothing_between {
            other.lose(Lost::Gap);
        }
    }
}
