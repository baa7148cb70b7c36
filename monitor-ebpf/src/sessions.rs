//! TLS sessions: found by the library's object, made, and removed. And the calls of threads into the library.

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    bindings::{BPF_NOEXIST, bpf_sock},
    helpers::generated::{bpf_get_prandom_u32, bpf_probe_read_kernel, bpf_skc_to_tcp_sock},
};
use monitor_ebpf::{counter::Counter, session::Session};

use crate::{
    maps::{TLS_NO_SESSION, TLS_OBJECTS, TLS_SESSIONS},
    report::count,
};

/// Whether the daemon follows TLS; it says so before the kernel takes the programs.
#[unsafe(no_mangle)]
static FOLLOWS_TLS: u8 = 0;

/// Where `struct tcp_sock` has `copied_seq`, as this kernel's types say; 0 when they do not.
#[unsafe(no_mangle)]
static COPIED_SEQ_AT: u32 = 0;

/// Tells the keys of sessions from socket cookies, in the tables of heads; see `openings.rs` for the bits above.
const IS_SESSION: u64 = 1 << 60;

/// A library's object (`SSL *`).
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Object {
    /// Its address.
    pub(crate) address: u64,
    /// The process that has it.
    pub(crate) process: u64,
}

/// A call into a library.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Call {
    pub(crate) session: u64,
    /// Where the plaintext is, or will be.
    pub(crate) buffer: u64,
    pub(crate) buffer_length: u64,
    /// Where the library puts how much it took or gave; 0 when it returns that.
    pub(crate) count_at: u64,
    /// The stack pointer at the call.
    pub(crate) stack: u64,
    pub(crate) began_ns: u64,
    /// A [`Purpose`](crate::uprobes::Purpose).
    pub(crate) purpose: u64,
}

/// Whether TLS is followed. A constant when the kernel takes the programs, so that what hangs on it is left out.
#[inline(always)]
pub(crate) fn follows_tls() -> bool {
    // SAFETY: a variable that is there.
    unsafe { ptr::read_volatile(&raw const FOLLOWS_TLS) != 0 }
}

/// The sequence number up to which a socket's process has read, where that can be told.
#[inline(always)]
pub(crate) fn consumed(sk: *mut c_void) -> Option<u32> {
    // SAFETY: a variable that is there; and the helper refuses what cannot be read.
    unsafe {
        let at = ptr::read_volatile(&raw const COPIED_SEQ_AT);
        if at == 0 {
            return None;
        }
        let mut consumed = 0u32;
        let from = sk.byte_add(at as usize).cast_const();
        let read = bpf_probe_read_kernel((&raw mut consumed).cast(), 4, from);
        (read == 0).then_some(consumed)
    }
}

/// The same in a callback, which reads the kernel's structures by their types only (from Linux 5.10 on); negative where it
/// cannot be told. An `Option` would leave a register unset, which no verifier lets be copied.
#[inline(always)]
pub(crate) fn consumed_in_callback(sk: *mut bpf_sock) -> i64 {
    // SAFETY: a variable that is there; the helper takes any socket, and gives null or the kernel's structure, which
    // the verifier knows.
    unsafe {
        let at = ptr::read_volatile(&raw const COPIED_SEQ_AT);
        if at == 0 {
            return -1;
        }
        let tcp = bpf_skc_to_tcp_sock(sk.cast());
        if tcp.is_null() {
            return -1;
        }
        let consumed = tcp.byte_add(at as usize).cast::<u32>();
        consumed.read_volatile().into()
    }
}

/// The session of this number.
///
/// An entry may be removed, and given to another session, while a pointer to it is held: the kernel keeps the memory of
/// preallocated maps. What is removed is never in use: the object is freed, or the connection has ended.
#[inline(always)]
pub(crate) fn session(number: u64) -> Option<*mut Session> {
    TLS_SESSIONS.get_ptr_mut(number)
}

/// The number of an object's session, which is made when there is none; 0 when there is no room.
#[inline(always)]
pub(crate) fn number_of(object: Object) -> u64 {
    if let Some(number) = TLS_OBJECTS.get_ptr(object) {
        // SAFETY: an entry of the table.
        let number = unsafe { *number };
        if session(number).is_some() {
            return number;
        }
    }
    begin(object)
}

/// Begins another session of an object.
#[inline(always)]
pub(crate) fn begin(object: Object) -> u64 {
    let Some(nothing) = TLS_NO_SESSION.get(0) else {
        return 0;
    };
    // SAFETY: takes nothing, touches nothing.
    let [high, low] = unsafe { [bpf_get_prandom_u32(), bpf_get_prandom_u32()] };
    let number = (u64::from(high) << 32 | u64::from(low)) & (IS_SESSION - 1) | IS_SESSION;
    if TLS_SESSIONS
        .insert(number, nothing, BPF_NOEXIST.into())
        .is_err()
    {
        count(Counter::TlsNoRoom);
        return 0;
    }
    let Some(session) = session(number) else {
        return 0;
    };
    // SAFETY: an entry of the table that nobody else knows yet.
    unsafe {
        (*session).begin(object.process as u32, object.address);
        (*session).socket.session = number;
    }
    let _ = TLS_OBJECTS.insert(object, number, 0);
    number
}

/// The library frees an object. What is bound goes with its connection.
#[inline(always)]
pub(crate) fn free(object: Object) {
    let Some(number) = TLS_OBJECTS.get_ptr(object) else {
        return;
    };
    // SAFETY: an entry of the table.
    let number = unsafe { *number };
    let _ = TLS_OBJECTS.remove(object);
    let Some(session) = session(number) else {
        return;
    };
    // SAFETY: an entry of the table; see `session`.
    unsafe {
        if (*session).is_bound() {
            return;
        }
        if (*session).is_unbound_websocket() {
            count(Counter::TlsUnbound);
        }
    }
    remove(number);
}

/// Removes a session.
#[inline(always)]
pub(crate) fn remove(number: u64) {
    let _ = TLS_SESSIONS.remove(number);
}
