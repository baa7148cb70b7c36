//! How TCP ends a direction: its first FIN and RST.

use super::{CLOSE, FIN, RST, Segment, Stream};
use crate::{event::Lost, frame};

impl Stream {
    /// Everything before `end` has passed. A FIN counts from when nothing in front of it is missing: one
    /// that TCP would not take does not get there.
    #[inline(always)]
    pub(super) fn pass(&mut self, end: u64) {
        if end > self.through {
            self.through = end;
        }
        if self.facts & FIN == 0 && self.fin_at != 0 && self.through >= self.fin_at {
            self.facts |= FIN;
            self.through = self.fin_at + 1;
            self.end_confirms(self.fin_at);
        }
    }

    /// Whether a FIN passed, even if something in front of it is missing.
    #[inline(always)]
    pub(crate) fn has_seen_fin(&self) -> bool {
        self.fin_at != 0
    }

    /// Whether the first FIN passed, and everything in front of it.
    #[inline(always)]
    pub(crate) fn has_fin(&self) -> bool {
        self.facts & FIN != 0
    }

    /// Whether `acknowledges` covers the first FIN of this direction.
    #[inline(always)]
    pub(crate) fn fin_acknowledged_by(&self, acknowledges: u32) -> bool {
        self.fin_at != 0 && self.position(acknowledges) > self.fin_at
    }

    /// TCP takes an RST only with exactly the awaited sequence number (RFC 5961 section 3.2), or,
    /// as Linux does, with that of the FIN before it. What this host awaits may lag behind what
    /// passed the IP layer, by segments that wait for the socket's lock.
    #[inline(always)]
    pub(super) fn note_rst(&mut self, start: u64, segment: &Segment) {
        let after_fin = self.has_fin() && start == self.fin_at;
        let in_order = segment.sequence == segment.awaited || start == self.through;
        if self.facts & RST == 0 && (in_order || after_fin) {
            self.rst_ns = segment.now_ns;
            self.facts |= RST;
            self.end_confirms(start);
        }
    }

    /// How this direction of a connection ended, as another stream has seen it.
    #[inline(always)]
    pub(crate) fn end_as(&mut self, facts: u8, fin_ns: u64, rst_ns: u64) {
        self.facts = (self.facts & CLOSE) | (facts & (FIN | RST));
        self.fin_ns = fin_ns;
        self.rst_ns = rst_ns;
    }

    /// No more will pass: what was left behind is lost.
    #[inline(always)]
    pub fn finish(&mut self) {
        if !self.is_in_order() {
            self.lose(Lost::Gap);
        }
        if self.lost == 0 && !self.has_missed() && self.has_begun_close_frame() {
            self.frames += 1;
        }
    }

    /// Whether the header of a Close frame has passed, and its code has not.
    #[inline(always)]
    fn has_begun_close_frame(&self) -> bool {
        let masked = self.header[1] & 0x80 != 0;
        let header = if masked { 6 } else { 2 };
        self.header_have >= header && self.header[0] & 0x0f == frame::CLOSE
    }
}
