//! Connections whose bytes are TLS records: of them TCP alone shows something, and the TLS session the rest.

use super::{Direction, Look, Phase, Segment, Socket};
use crate::stream::Stream;

impl Socket {
    /// This connection carries the records of a session. The local end has sent up to `sent`, and awaits
    /// `awaited`.
    #[inline(always)]
    pub fn seal(&mut self, session: u64, sent: u32, awaited: u32) {
        self.phase = Phase::Sealed as u8;
        self.session = session;
        self.streams[0] = Stream::starting_at(sent);
        self.streams[1] = Stream::starting_at(awaited);
    }

    /// Whether its bytes are TLS records.
    #[inline(always)]
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.phase == Phase::Sealed as u8
    }

    /// Of a session nothing is known any more but its number and whose it is: what passes next may begin anything.
    #[inline(always)]
    pub fn begin_anew(&mut self) {
        self.phase = 0;
    }

    /// Takes a segment's place and flags.
    #[inline(always)]
    pub fn pass_sealed(&mut self, direction: Direction, segment: &Segment) {
        if self.arrive_open(direction, segment) != Look::Away {
            self.stream(direction).skip(segment);
        }
    }

    /// Whether this end has written its Close frame.
    #[inline(always)]
    #[must_use]
    pub fn has_written_close(&self) -> bool {
        self.streams[0].has_close()
    }

    /// What is said here may be of another socket.
    #[inline(always)]
    pub fn withhold(&mut self) {
        self.withheld = 1;
    }

    /// Whether what is said here may be of another socket.
    #[must_use]
    pub fn is_withheld(&self) -> bool {
        self.withheld != 0
    }
}
