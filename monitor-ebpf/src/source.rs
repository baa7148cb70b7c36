//! Where the bytes of heads and frames are read from: a packet, or what passes a TLS library.

use core::mem::MaybeUninit;

use monitor_ebpf::upgrade::{REQUEST_LINE, STATUS_LINE};

/// A source of bytes.
pub(crate) trait Source {
    /// Copies 1 to `MAX` bytes; false when they are not all there.
    ///
    /// # Safety
    ///
    /// `into` has room for `MAX` bytes; the verifier checks it.
    unsafe fn copy<const MAX: u32>(&self, offset: u32, into: *mut u8, length: u32) -> bool;
}

/// The first `length` bytes, at most 16, and zeros behind; none when they are not there.
#[inline(always)]
pub(crate) fn first_bytes(source: &impl Source, length: u32) -> Option<[u8; 16]> {
    let mut words = MaybeUninit::<[u64; 2]>::uninit();
    let word = words.as_mut_ptr().cast::<u64>();
    // SAFETY: two words into two, and up to 16 bytes over them. Of other zeros the compiler makes a call, which takes
    // longer than all that is done with them.
    let words = unsafe {
        word.write_volatile(0);
        word.add(1).write_volatile(0);
        if !source.copy::<16>(0, word.cast(), length) {
            return None;
        }
        words.assume_init()
    };
    Some(zerocopy::transmute!(words))
}

/// The four bytes at `offset`.
#[inline(always)]
pub(crate) fn four_bytes(source: &impl Source, offset: u32) -> Option<[u8; 4]> {
    let mut bytes = [0u8; 4];
    // SAFETY: 4 bytes into 4.
    let read = unsafe { source.copy::<4>(offset, bytes.as_mut_ptr(), 4) };
    read.then_some(bytes)
}

/// Whether `length` bytes begin like a request or a response.
#[inline(always)]
pub(crate) fn begins_head(source: &impl Source, length: u32) -> bool {
    length >= 4
        && four_bytes(source, 0)
            .is_some_and(|first| first == REQUEST_LINE || first == STATUS_LINE[..4])
}

/// The last four of `length` bytes that are so many, the last one lowest.
#[inline(always)]
pub(crate) fn tail(source: &impl Source, length: u32) -> Option<u32> {
    let last = four_bytes(source, length.checked_sub(4)?)?;
    Some(u32::from_be_bytes(last))
}
