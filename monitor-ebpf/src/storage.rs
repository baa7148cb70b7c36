//! What is remembered of sockets, and who may write to it when.

use core::{
    ffi::{c_long, c_void},
    intrinsics::{AtomicOrdering, atomic_xchg},
    ptr,
};

use aya_ebpf::{
    bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock},
    helpers::generated::{bpf_loop, bpf_sk_storage_delete, bpf_sk_storage_get},
};
use monitor_ebpf::{socket::Socket, stream::Stream};

use crate::maps::SOCKETS;

/// How often a CPU asks whether the other one is done: some 10 µs in all.
const ENTER_TRIES: u32 = 1_000;

/// The storage of a socket, made when it has none; none when the kernel refuses the memory.
#[inline(always)]
pub(crate) fn remember(sk: *mut bpf_sock) -> Option<*mut Socket> {
    storage(sk.cast(), BPF_SK_STORAGE_GET_F_CREATE)
}

/// The storage of a socket.
///
/// The kernel keeps it until the program returns, even when the socket or another CPU lets go of it, so
/// a pointer to it stays good. Programs on several CPUs may write to it at the same time: one for each
/// direction (see [`enter`]) and the tracepoint. Every field is one word and is written whole. What can
/// be torn is an event: it may miss the other direction's newest change, which the next event has.
#[inline(always)]
pub(crate) fn storage(sk: *mut c_void, flags: u32) -> Option<*mut Socket> {
    // SAFETY: the helper takes any socket, and gives null or a value of the map.
    let socket = unsafe {
        bpf_sk_storage_get(sockets(), sk, ptr::null_mut(), u64::from(flags)).cast::<Socket>()
    };
    (!socket.is_null()).then_some(socket)
}

/// Gives a socket this storage; false when the kernel refuses the memory. One that it already has stays.
#[inline(always)]
pub(crate) fn remember_as(sk: *mut c_void, value: &Socket) -> bool {
    let value = ptr::from_ref(value).cast_mut().cast();
    // SAFETY: the helper takes any socket, and copies the value.
    let socket =
        unsafe { bpf_sk_storage_get(sockets(), sk, value, u64::from(BPF_SK_STORAGE_GET_F_CREATE)) };
    !socket.is_null()
}

/// Forgets a socket.
#[inline(always)]
pub(crate) fn forget(sk: *mut bpf_sock) {
    // SAFETY: the helper takes any socket.
    unsafe { bpf_sk_storage_delete(sockets(), sk.cast()) };
}

#[inline(always)]
fn sockets() -> *mut c_void {
    ptr::addr_of!(SOCKETS).cast_mut().cast()
}

/// Waits until no other CPU is at work on a direction; false when that takes longer than a few µs.
#[inline(always)]
pub(crate) fn enter(stream: *mut Stream) -> bool {
    let mut entering = Entering {
        stream,
        entered: false,
    };
    let pointer: *mut Entering = &mut entering;
    // SAFETY: the kernel calls `try_enter` with this pointer, and not after the helper returns.
    unsafe { bpf_loop(ENTER_TRIES, try_enter as *mut c_void, pointer.cast(), 0) };
    entering.entered
}

struct Entering {
    stream: *mut Stream,
    entered: bool,
}

unsafe extern "C" fn try_enter(_: u64, entering: *mut Entering) -> c_long {
    // SAFETY: `enter` passes a pointer to its own `Entering`; the word is the storage's.
    unsafe {
        let entering = &mut *entering;
        let was = atomic_xchg::<u64, { AtomicOrdering::SeqCst }>((*entering.stream).busy(), 1);
        entering.entered = was == 0;
        c_long::from(entering.entered)
    }
}

#[inline(always)]
pub(crate) fn leave(stream: *mut Stream) {
    // SAFETY: the storage's word, which this CPU holds.
    unsafe { atomic_xchg::<u64, { AtomicOrdering::SeqCst }>((*stream).busy(), 0) };
}
