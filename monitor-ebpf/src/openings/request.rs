//! The head of a request, wherever its bytes come from: whether it may ask for a WebSocket, and what is kept of
//! it until its response comes, with where it ends.

use core::mem::MaybeUninit;

use monitor_ebpf::{
    asking::{LOOK, may_name_websocket},
    event::{Opening, REQUEST_HEAD_MAX},
    stream::Segment,
    upgrade::ends_head,
};

use super::{own, settle};
use crate::{
    maps::BEGUN,
    source::{Source, tail},
    turns::forget_values,
};

/// Bytes of a request in pieces that are kept in one go.
const SOME: u32 = 8;

/// Whether a request of `length` bytes ends with the last of them.
#[inline(always)]
pub(crate) fn is_whole(source: &impl Source, length: u32) -> bool {
    tail(source, length).is_some_and(ends_head)
}

/// Whether a request that is whole may ask for a WebSocket, as [`look_at`] says of the bytes from an offset on. Of others
/// nothing is kept: that would take longer than to look. One longer than what is kept of any is not looked through.
#[inline(always)]
pub(crate) fn look_through(length: u64, look_at: impl Fn(u64) -> bool) -> bool {
    for number in 0..(REQUEST_HEAD_MAX / LOOK) as u64 {
        let from = number * LOOK as u64;
        if from >= length {
            return false;
        }
        if look_at(from) {
            return true;
        }
    }
    true
}

/// Whether the word `websocket` may begin in the [`LOOK`] bytes from `from` on, of `length` in all.
#[inline(always)]
pub(crate) fn look_at(source: &impl Source, length: u32, from: u32) -> bool {
    const WORDS: usize = LOOK / 8 + 1;
    let mut words = MaybeUninit::<[u64; WORDS]>::uninit();
    let word = words.as_mut_ptr().cast::<u64>();
    // SAFETY: as many words as there are, and no more bytes over them. See `source::first_bytes` for the zeros.
    let words = unsafe {
        for number in 0..WORDS {
            word.add(number).write_volatile(0);
        }
        let left = length.wrapping_sub(from);
        if !source.copy::<{ WORDS as u32 * 8 }>(from, word.cast(), left) {
            return true;
        }
        words.assume_init_ref()
    };
    may_name_websocket(words)
}

/// Keeps a request, as far as it is there, under this key.
///
/// # Safety
///
/// `opening` is an entry of a table; see [`new`](super::new).
#[inline(always)]
pub(crate) unsafe fn keep(
    source: &impl Source,
    segment: &Segment,
    opening: *mut Opening,
    key: u64,
) {
    let length = segment.length;
    // SAFETY: the caller's.
    unsafe {
        (*opening).socket.identity.cookie = 0;
        (*opening).response_length = 0;
        (*opening).request_length = 0;
        let into = (&raw mut (*opening).request).cast();
        let kept = if length < REQUEST_HEAD_MAX as u32 {
            length
        } else {
            REQUEST_HEAD_MAX as u32
        };
        if source.copy::<{ REQUEST_HEAD_MAX as u32 }>(0, into, kept) {
            (*opening).request_length = kept;
        }
        (*opening).request_tail = 0;
        note_end(source, segment, 0, opening);
        (*opening).socket.identity.cookie = key;
    }
}

/// Notes where a request ends with this segment, whose bytes from `offset` on are new, and its last bytes.
#[inline(always)]
unsafe fn note_end(source: &impl Source, segment: &Segment, offset: u32, opening: *mut Opening) {
    let length = segment.length;
    // SAFETY: the caller's: an entry of a table; see `new`.
    unsafe {
        (*opening).request_end = segment.sequence.wrapping_add(length);
        if let Some(tail) = tail(source, length) {
            (*opening).request_tail = tail;
            return;
        }
        for number in 0..size_of::<u32>() as u32 {
            let mut byte = 0;
            let at = offset + number;
            if at >= length || !source.copy::<1>(at, &raw mut byte, 1) {
                break;
            }
            (*opening).request_tail = (*opening).request_tail << 8 | u32::from(byte);
        }
    }
}

/// Keeps more of the request that has this key, from a segment whose bytes from `offset` on are new. `keep_some` keeps
/// those from an offset on, as [`keep_some`] does.
#[inline(always)]
pub(crate) fn go_on(
    source: &impl Source,
    segment: &Segment,
    offset: u32,
    key: u64,
    keep_some: impl Fn(u32) -> bool,
) {
    let Some(opening) = own(&BEGUN, key) else {
        return;
    };
    // SAFETY: an entry of the table; see `new`.
    unsafe { note_end(source, segment, offset, opening) };
    for number in 0..REQUEST_HEAD_MAX as u32 / SOME {
        let from = offset + number * SOME;
        if from >= segment.length || !keep_some(from) {
            break;
        }
    }
    // SAFETY: as above.
    if ends_head(unsafe { (*opening).request_tail }) {
        settle(key, key);
    }
}

/// Keeps some bytes from `from` on, of `length` in all, of the request that has this key; whether there may be more to
/// keep.
#[inline(always)]
pub(crate) fn keep_some(source: &impl Source, length: u32, from: u32, key: u64) -> bool {
    let Some(opening) = own(&BEGUN, key) else {
        return false;
    };
    for number in 0..SOME {
        let offset = from.wrapping_add(number);
        // SAFETY: an entry of the table; see `new`.
        unsafe {
            let at = (*opening).request_length as usize;
            if offset >= length || at >= REQUEST_HEAD_MAX {
                return false;
            }
            let into = (&raw mut (*opening).request).cast::<u8>().add(at);
            if !source.copy::<1>(offset, into, 1) {
                return false;
            }
            (*opening).request_length = at as u32 + 1;
        }
        forget_values();
    }
    true
}
