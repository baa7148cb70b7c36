//! What is remembered of sockets, and who may write to it when.

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    bindings::{__sk_buff, BPF_SK_STORAGE_GET_F_CREATE, bpf_sock},
    helpers::generated::{bpf_ktime_get_ns, bpf_sk_storage_delete, bpf_sk_storage_get},
};
use monitor_ebpf::socket::Socket;

use crate::maps::SOCKETS;

/// How often a CPU asks whether the other one is done, and for how long in all.
const ENTER_TRIES: u32 = 256;
const ENTER_NS: u64 = 10_000;

/// The storage of a socket, made when it has none; none when the kernel refuses the memory. What all programs on the
/// host keep of a socket hangs on one structure; of two CPUs that make that at once, for whichever program, the kernel
/// refuses one (EAGAIN in `bpf_local_storage_alloc`), which has only to ask again.
#[inline(always)]
pub(crate) fn remember(sk: *mut bpf_sock) -> Option<*mut Socket> {
    let socket = storage(sk.cast(), BPF_SK_STORAGE_GET_F_CREATE);
    if socket.is_some() {
        return socket;
    }
    storage(sk.cast(), BPF_SK_STORAGE_GET_F_CREATE)
}

/// The storage of a socket.
///
/// The kernel keeps it until the program returns, even when the socket or another CPU lets go of it, so
/// a pointer to it stays good. Programs on several CPUs may write to it at the same time: one for each
/// direction (see [`enter`]) and the one for its end. Every field is one word and is written whole. What
/// can be torn is an event: it may miss the other direction's newest change, which the next event has.
#[inline(always)]
pub(crate) fn storage(sk: *mut c_void, flags: u32) -> Option<*mut Socket> {
    // SAFETY: the helper takes any socket, and gives null or a value of the map.
    let socket = unsafe {
        bpf_sk_storage_get(sockets(), sk, ptr::null_mut(), u64::from(flags)).cast::<Socket>()
    };
    (!socket.is_null()).then_some(socket)
}

/// The socket of a packet, and its storage: for a global function, which may be given neither.
#[inline(always)]
pub(crate) fn of_packet(skb: *mut __sk_buff) -> Option<(*mut bpf_sock, *mut Socket)> {
    // SAFETY: the hook's own context, whose fields may be read.
    let sk = unsafe { (*skb).__bindgen_anon_2.sk };
    if sk.is_null() {
        return None;
    }
    Some((sk, storage(sk.cast(), 0)?))
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

/// Waits until no other CPU is at work on what comes in; false when that takes longer than a few µs.
#[inline(always)]
pub(crate) fn enter(skb: *mut __sk_buff, socket: *mut Socket) -> bool {
    try_enter(socket) || wait_to_enter(skb) != 0
}

/// Whether this CPU is the only one at work on what comes in to a socket. Each adds itself and is in if it is then
/// alone: what an atomic addition was before it became lies in no register before Linux 5.12. Two that
/// add themselves at once both step back.
#[inline(always)]
fn try_enter(socket: *mut Socket) -> bool {
    // SAFETY: the storage's word.
    unsafe { try_alone((*socket).busy()) }
}

/// Whether nobody else has added himself to this word; who has takes himself away again with [`add`].
///
/// # Safety
///
/// `busy` may be read and written.
#[inline(always)]
pub(crate) unsafe fn try_alone(busy: *mut u32) -> bool {
    // SAFETY: the caller's.
    unsafe {
        if busy.read_volatile() != 0 {
            return false;
        }
        add(busy, 1);
        if busy.read_volatile() == 1 {
            return true;
        }
        add(busy, -1);
    }
    false
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn wait_to_enter(skb: *mut __sk_buff) -> u64 {
    let Some((_, socket)) = of_packet(skb) else {
        return 0;
    };
    // SAFETY: the storage of the packet's socket; the helper takes nothing and touches nothing.
    unsafe {
        let until = bpf_ktime_get_ns() + ENTER_NS;
        for _ in 0..ENTER_TRIES {
            if try_enter(socket) {
                return 1;
            }
            if bpf_ktime_get_ns() > until {
                break;
            }
        }
    }
    0
}

#[inline(always)]
pub(crate) fn leave(socket: *mut Socket) {
    // SAFETY: the storage's word, to which this CPU has added itself.
    unsafe { add((*socket).busy(), -1) };
}

/// Adds to a word atomically. In assembly: the compiler would ask for the value before, which the kernel
/// gives since 5.12 only.
///
/// # Safety
///
/// `word` may be written.
#[inline(always)]
pub(crate) unsafe fn add(word: *mut u32, amount: i64) {
    // SAFETY: the caller's.
    unsafe {
        core::arch::asm!(
            "lock *(u32 *)({word} + 0) += {amount}",
            word = in(reg) word,
            amount = in(reg) amount,
            options(nostack),
        );
    }
}
