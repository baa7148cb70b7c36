//! Tells the daemon: events, and counts of what could not be told or seen.

use core::{
    ffi::c_void,
    intrinsics::{AtomicOrdering, atomic_xadd},
    ptr,
};

use aya_ebpf::{
    bindings::BPF_RB_AVAIL_DATA,
    helpers::generated::{
        bpf_ringbuf_output, bpf_ringbuf_query, bpf_ringbuf_reserve, bpf_ringbuf_submit,
    },
};
use monitor_ebpf::{
    counter::Counter,
    event::{OPENING_FIXED, Opening, REQUEST_HEAD_MAX},
    session::Session,
    socket::Socket,
};

use crate::{
    maps::{COUNTS, EVENTS, EVENTS_BYTES},
    packet::{clamp, now_ns},
};

/// Bytes that may wait in the ring buffer before it takes nothing but ends: half of it.
const ROOM_FOR_ALL: usize = EVENTS_BYTES / 2;

/// Sends the state of a socket. False, and `lost` counted, when the ring buffer has no room.
///
/// # Safety
///
/// `socket` is the storage of a socket.
#[inline(always)]
pub(crate) unsafe fn tell(socket: *mut Socket, lost: Counter) -> bool {
    // SAFETY: the caller's; see `storage::storage` for what other CPUs may do to it.
    unsafe {
        (*socket).note_taken(now_ns());
        if lost == Counter::EventLost && is_nearly_full() {
            count(lost);
            return false;
        }
        output(socket.cast(), size_of::<Socket>() as u64, lost)
    }
}

/// Sends an opening: the state of the socket and the heads, as far as they are there.
///
/// # Safety
///
/// `opening` is an entry of the map.
#[inline(always)]
pub(crate) unsafe fn tell_opening(opening: *mut Opening) {
    // SAFETY: the caller's; the length stays inside the entry, of which the request is the end.
    unsafe {
        (*opening).socket.note_taken(now_ns());
        if is_nearly_full() {
            return count(Counter::EventLost);
        }
        let request = clamp::<{ REQUEST_HEAD_MAX as u32 }>((*opening).request_length);
        let length = OPENING_FIXED as u64 + u64::from(request);
        output(opening.cast(), length, Counter::EventLost);
    }
}

/// Sends the state of a TLS session that is bound; of one that is not, nothing. As [`tell`].
///
/// # Safety
///
/// `session` is an entry of the map.
#[inline(always)]
pub(crate) unsafe fn tell_session(session: *mut Session, lost: Counter) -> bool {
    // SAFETY: the caller's. What the kernel reserves is as long as a socket, and handed back.
    unsafe {
        let is_claimed = (*session).is_bound() || (*session).is_contradicted();
        if !is_claimed || (*session).is_opening() {
            return false;
        }
        if lost == Counter::EventLost && is_nearly_full() {
            count(lost);
            return false;
        }
        let events = ptr::addr_of!(EVENTS).cast_mut().cast();
        let length = size_of::<Socket>() as u64;
        let record: *mut Socket = bpf_ringbuf_reserve(events, length, 0).cast();
        if record.is_null() {
            count(lost);
            return false;
        }
        // Of two states the one that was taken later counts.
        let taken_ns = now_ns();
        *record = (*session).socket;
        (*session).overlay(&mut *record);
        (*record).note_taken(taken_ns);
        bpf_ringbuf_submit(record.cast(), 0);
        true
    }
}

/// Counts a loss.
#[inline(always)]
pub(crate) fn count(what: Counter) {
    count_at(what.index());
}

/// Counts a loss, by its place.
#[inline(always)]
pub(crate) fn count_at(place: u32) {
    if let Some(count) = COUNTS.get_ptr_mut(place) {
        // SAFETY: this CPU's own place. In one step, for a softirq's hook may interrupt a process's.
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(count, 1) };
    }
}

/// Whether what room there is must be kept for ends. All else is told again by a later event of the
/// same socket; an end is not.
#[inline(always)]
fn is_nearly_full() -> bool {
    // SAFETY: asks for the bytes that the daemon has not read; touches nothing.
    let waiting = unsafe {
        bpf_ringbuf_query(
            ptr::addr_of!(EVENTS).cast_mut().cast(),
            u64::from(BPF_RB_AVAIL_DATA),
        )
    };
    waiting > ROOM_FOR_ALL as u64
}

#[inline(always)]
unsafe fn output(data: *mut c_void, length: u64, lost: Counter) -> bool {
    // SAFETY: the verifier checks that `length` bytes are there.
    let failed = unsafe {
        bpf_ringbuf_output(ptr::addr_of!(EVENTS).cast_mut().cast(), data, length, 0) != 0
    };
    if failed {
        count(lost);
    }
    !failed
}
