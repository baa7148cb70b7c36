//! The head of a response, wherever its bytes come from: read to its end, and kept with its request.

use monitor_ebpf::{
    event::{Opening, RESPONSE_HEAD_MAX},
    socket::{Direction, Socket},
    stream::Segment,
    upgrade::{HEAD_MAX, Scan, ends_head},
};

use crate::{
    source::Source,
    turns::{forget_values, repeat},
};

/// What passed was read to its end, which no [`Scan`] says.
pub(crate) const READ: u64 = 0xff;

/// Bytes of a head that are read in one go, and how often: see `turns.rs` for the nesting.
const SOME: u32 = 8;
const MANY: u32 = 64;
/// Enough to see that a head is too long.
const ALL: u32 = HEAD_MAX as u32 / (SOME * MANY) + 1;

/// Reads a response to its end, or to that of what passed: what the last byte said, as for [`read_some`].
#[inline(always)]
pub(crate) fn read_all(read_many: impl Fn() -> u64) -> u64 {
    repeat(ALL, Scan::More as u64, |_| read_many())
}

/// Reads a part of that.
#[inline(always)]
pub(crate) fn read_many(read_some: impl Fn() -> u64) -> u64 {
    repeat(MANY, Scan::More as u64, |_| read_some())
}

/// Reads some bytes of a response: what the last one said, a [`Scan`] as a number, or [`READ`].
///
/// # Safety
///
/// `socket` is a socket's storage or a session's, `opening` an entry of the table.
#[inline(always)]
pub(crate) unsafe fn read_some(
    source: &impl Source,
    segment: &Segment,
    direction: Direction,
    socket: *mut Socket,
    opening: Option<*mut Opening>,
) -> u64 {
    // SAFETY: the caller's.
    let Some(offset) = (unsafe { (*socket).stream(direction).offset(segment) }) else {
        return READ;
    };
    let left = segment.length - offset;
    let there = if left < SOME { left } else { SOME };
    // A word, or the compiler calls a function to write zeros.
    let mut some = 0u64;
    // SAFETY: 8 bytes into 8.
    if !unsafe { source.copy::<SOME>(offset, (&raw mut some).cast(), there) } {
        return READ;
    }
    let some = u64::from_le(some);
    for number in 0..SOME {
        if number >= there {
            return READ;
        }
        let byte = (some >> (8 * number)) as u8;
        // SAFETY: the caller's.
        unsafe {
            if let Some(opening) = opening {
                let at = (*opening).response_length as usize;
                if at < RESPONSE_HEAD_MAX {
                    *(&raw mut (*opening).response).cast::<u8>().add(at) = byte;
                    (*opening).response_length = at as u32 + 1;
                }
            }
            let scan = (*socket).read_head(direction, byte);
            if scan != Scan::More {
                return scan as u64;
            }
        }
        forget_values();
    }
    Scan::More as u64
}

/// Whether a response that acknowledges this much answers the request that was kept, with nothing between them: else
/// that may be another's.
///
/// # Safety
///
/// `opening` is an entry of the table.
#[inline(always)]
pub(crate) unsafe fn answers(opening: *mut Opening, acknowledges: u32) -> bool {
    // SAFETY: the caller's.
    unsafe { ends_head((*opening).request_tail) && (*opening).request_end == acknowledges }
}
