//! What the receiving TCP made of what passed: a segment that passed is not yet one that was taken.
//!
//! In: what the receiver waits for, when more comes in or goes out. Out: whether the first Close frame was taken,
//! is to be read again, and whether the first FIN was one.

use super::{CLOSE, FIN, Segment, Stream};

/// TCP has the first Close frame.
const TAKEN: u8 = 1;
/// TCP did not have it when more passed.
pub(super) const LEFT: u8 = 2;
/// One that TCP had left was read again where it passed again.
pub(super) const REREAD: u8 = 4;

impl Stream {
    /// A segment comes to a TCP that waits for the byte `segment.awaited`. If TCP has left the first Close
    /// frame and this is in its place, this is read in its stead: the same frame keeps its time.
    #[inline(always)]
    pub(crate) fn meet(&mut self, segment: &Segment) {
        self.weigh_reception(segment.awaited);
        let awaited = self.position(segment.awaited);
        let start = self.position(segment.sequence);
        let end = start + u64::from(segment.length);
        let begin = self.close_end - u64::from(self.close_length);
        self.doubt_fin(start, end, awaited);
        let replaces = start <= awaited && awaited < self.close_end && end >= self.close_end;
        if !self.has_close() || self.reception & LEFT == 0 || self.lost != 0 || !replaces {
            return;
        }
        self.facts &= !CLOSE;
        self.reception = REREAD;
        if self.close_length != 0 && start <= begin {
            self.cursor = begin;
            self.close_end = 0;
            self.frames -= u64::from(!self.has_missed());
        }
    }

    /// The receiving TCP waits for the byte at `awaited`. A Close frame that passed and that TCP never takes
    /// (it acknowledges what is too old, say, or has an old timestamp) is none.
    #[inline(always)]
    pub(crate) fn weigh_reception(&mut self, awaited: u32) {
        if self.awaits_reception() {
            let taken = self.position(awaited) >= self.close_end;
            let now = if taken { TAKEN } else { LEFT };
            self.reception = self.reception & REREAD | now;
        }
    }

    /// Whether the first Close frame passed and TCP is not known to have it.
    #[inline(always)]
    pub(crate) fn awaits_reception(&self) -> bool {
        self.has_close() && self.reception & TAKEN == 0
    }

    /// Whether TCP did not have the first Close frame when more passed, and is not known to have it since.
    #[inline(always)]
    pub(crate) fn is_close_left(&self) -> bool {
        self.reception & (TAKEN | LEFT) == LEFT
    }

    /// Whether what was told of the first Close frame was taken back.
    #[inline(always)]
    pub(crate) fn is_reread(&self) -> bool {
        self.reception & REREAD != 0
    }

    /// Whether it matters what TCP waits for when a segment with bytes comes in, or what is acknowledged when one
    /// goes out.
    #[inline(always)]
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.awaits_reception() || self.has_fin()
    }

    /// Bytes come to where the first FIN was, of which TCP waits for the first still: it has not taken that FIN,
    /// which was none (an old timestamp, say), for nothing follows one.
    #[inline(always)]
    fn doubt_fin(&mut self, start: u64, end: u64, awaited: u64) {
        let holds_its_place = start <= self.fin_at && self.fin_at < end;
        if self.has_fin() && holds_its_place && awaited <= self.fin_at {
            self.facts &= !FIN;
            self.through = self.fin_at;
            self.fin_at = 0;
            self.fin_ns = 0;
            self.fin_answers_fin = 0;
        }
    }
}
