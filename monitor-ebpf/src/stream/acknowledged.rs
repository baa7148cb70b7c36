//! What the other end says of this direction: what it acknowledges, and which byte it waits for.

use super::{Stream, WINDOW_MAX};
use crate::event::Lost;

impl Stream {
    /// The receiver waits for the byte `awaited`: everything before it has passed.
    #[inline(always)]
    pub fn note_awaited(&mut self, awaited: u32) {
        let awaited = self.position(awaited);
        self.pass(awaited);
        // What it has had and nobody saw, a FIN apart, is behind the cursor's back.
        if awaited > self.cursor && awaited > self.edge + u64::from(self.has_seen_fin()) {
            self.lose_once(Lost::Gap);
        }
    }

    /// Whether this direction can have sent what the other end acknowledges: what it never sent no true
    /// segment acknowledges (RFC 9293 section 3.10.7.4).
    #[inline(always)]
    #[must_use]
    pub fn can_be_acknowledged(&self, acknowledges: u32) -> bool {
        let ahead = acknowledges.wrapping_sub(self.through as u32).cast_signed();
        ahead <= 0 && ahead > -WINDOW_MAX
    }

    /// Whether a segment acknowledges less than anything that was ever acknowledged: TCP drops it (RFC 5961
    /// section 5.2). The socket has sent up to `unacknowledged` with success, `acknowledged` bytes in all.
    #[inline(always)]
    #[must_use]
    pub fn is_too_old(acknowledges: u32, unacknowledged: u32, acknowledged: u64) -> bool {
        let behind = unacknowledged.wrapping_sub(acknowledges).cast_signed();
        behind > 0 && behind as u64 > acknowledged
    }

    /// Whether the receiver, which waits for the byte `awaited`, has had the byte at the cursor
    /// already: it will not pass again.
    #[inline(always)]
    #[must_use]
    pub fn is_overtaken(&self, awaited: u32) -> bool {
        self.position(awaited) > self.cursor
    }
}
