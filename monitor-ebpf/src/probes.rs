//! The hooks: read the context, call the library, store, tell the daemon.

use core::{
    ffi::{c_long, c_void},
    intrinsics::{AtomicOrdering, atomic_xchg},
    ptr,
};

use aya_ebpf::{
    bindings::{__sk_buff, BPF_SK_STORAGE_GET_F_CREATE, bpf_sock, seq_file},
    helpers::generated::{
        bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_loop, bpf_seq_write,
        bpf_sk_storage_delete, bpf_sk_storage_get, bpf_tcp_sock,
    },
    macros::{btf_tracepoint, cgroup_skb},
    programs::{BtfTracePointContext, SkBuffContext},
};
use monitor_ebpf::{
    counter::Counter,
    event::Lost,
    socket::{ClosedBy, Direction, Look, Socket},
    stream::{Next, Stream},
};

use crate::{
    heads, keep,
    maps::SOCKETS,
    openings,
    packet::{Packet, now_ns},
    report::{count, tell},
};

/// What a `cgroup_skb` program returns to let a packet pass.
const PASS: i32 = 1;
/// Frames of one packet that are read at most, so that no packet is held up for long: at 80 ns a frame,
/// 1.3 ms. A full packet of 64 KiB holds this many frames of 4 bytes.
const FRAMES_PER_PACKET: u32 = 16_384;

/// How often a CPU asks whether the other one is done: some 10 µs in all.
const ENTER_TRIES: u32 = 1_000;

// Kernel: include/net/tcp_states.h.
const TCP_ESTABLISHED: i32 = 1;
const TCP_SYN_SENT: i32 = 2;
const TCP_FIN_WAIT1: i32 = 4;
const TCP_CLOSE: i32 = 7;
const TCP_CLOSE_WAIT: i32 = 8;
const TCP_LAST_ACK: i32 = 9;

#[cgroup_skb]
fn observe_egress(context: SkBuffContext) -> i32 {
    observe(context.skb.skb, Direction::Egress);
    PASS
}

#[cgroup_skb]
fn observe_ingress(context: SkBuffContext) -> i32 {
    observe(context.skb.skb, Direction::Ingress);
    PASS
}

#[inline(always)]
fn observe(skb: *mut __sk_buff, direction: Direction) {
    let Some(mut packet) = Packet::read(skb) else {
        return;
    };
    if packet.is_pure_ack() {
        return;
    }
    // SAFETY: the kernel hands the hook a context whose fields may be read.
    let sk = unsafe { (*skb).__bindgen_anon_2.sk };
    if sk.is_null() {
        return;
    }
    let known = storage(sk.cast(), 0);
    if known.is_none() && packet.segment.length == 0 {
        return;
    }
    packet.stamp();
    if direction == Direction::Ingress && packet.segment.rst {
        packet.segment.awaited = awaited(sk);
    }
    if direction == Direction::Egress {
        return observe_segment(&packet, sk, known, direction);
    }
    // On the way in the hook runs before the socket is locked, so two CPUs may be at one direction.
    let Some(socket) = known else {
        return observe_segment(&packet, sk, known, direction);
    };
    // TCP takes no such segment on a connection that is established.
    if packet.is_syn() || !(packet.acknowledges() || packet.segment.rst) {
        return;
    }
    // SAFETY: the storage of `sk`; see `storage`.
    let stream: *mut Stream = unsafe { (*socket).stream(direction) };
    if enter(stream) {
        observe_segment(&packet, sk, known, direction);
        leave(stream);
    } else {
        // SAFETY: as above. A byte is written, which no other CPU's work can make untrue.
        unsafe { (*stream).lose(Lost::Busy) };
        count(Counter::StreamLost(direction, Lost::Busy));
    }
}

#[inline(always)]
fn observe_segment(
    packet: &Packet,
    sk: *mut bpf_sock,
    known: Option<*mut Socket>,
    direction: Direction,
) {
    let facts = known.map_or(0, facts);
    let frames = match known {
        None => heads::begin(packet, sk, direction),
        Some(socket) => arrive(packet, sk, socket, direction),
    };
    if let Some(socket) = frames {
        follow(packet, socket, direction);
    }
    if let Some(socket) = frames.or(known) {
        settle(sk, socket, facts);
    }
}

/// Waits until no other CPU is at work on a direction; false when that takes longer than a few µs.
#[inline(always)]
fn enter(stream: *mut Stream) -> bool {
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
fn leave(stream: *mut Stream) {
    // SAFETY: the storage's word, which this CPU holds.
    unsafe { atomic_xchg::<u64, { AtomicOrdering::SeqCst }>((*stream).busy(), 0) };
}

/// Takes a segment of a known socket. Gives the socket back when the segment holds frames.
#[inline(always)]
fn arrive(
    packet: &Packet,
    sk: *mut bpf_sock,
    socket: *mut Socket,
    direction: Direction,
) -> Option<*mut Socket> {
    // SAFETY: the storage of `sk`; see `storage`.
    match unsafe { (*socket).arrive(direction, &packet.segment) } {
        Look::Away => None,
        Look::AtBeginning => {
            let opened = heads::begin(packet, sk, direction);
            // SAFETY: as above.
            if unsafe { (*socket).still_requests() } {
                forget(sk);
            }
            opened
        }
        Look::AtRequest => {
            heads::go_on_request(packet, socket, direction);
            None
        }
        Look::AtResponse => heads::go_on_response(packet, sk, socket, direction),
        Look::AtFrames => Some(socket),
        Look::RequestLost => {
            count(Counter::RequestGap);
            forget(sk);
            None
        }
        Look::ResponseLost => {
            count(Counter::ResponseGap);
            forget(sk);
            None
        }
        Look::Early => {
            early(packet, sk, socket, direction);
            None
        }
    }
}

/// Reads the frame headers in a packet.
#[inline(always)]
fn follow(packet: &Packet, socket: *mut Socket, direction: Direction) {
    // SAFETY: the storage of a socket; see `storage`.
    let stream: *mut Stream = unsafe { (*socket).stream(direction) };
    let mut frames = Frames {
        packet,
        stream,
        next: Next::Turn,
    };
    let frames_ptr: *mut Frames<'_> = &mut frames;
    // SAFETY: the kernel calls `next_frame` with this pointer, and not after the helper returns.
    unsafe {
        bpf_loop(
            FRAMES_PER_PACKET,
            next_frame as *mut c_void,
            frames_ptr.cast(),
            0,
        );
        if frames.next == Next::Turn {
            (*stream).lose(Lost::Budget);
        }
        if direction == Direction::Ingress && (*stream).keeps_early() {
            keep::catch_up(openings::cookie(packet), stream);
        }
        if let Some(why) = (*stream).lost() {
            count(Counter::StreamLost(direction, why));
        }
    }
}

/// A segment passed before its turn. On the way out nothing does; there, and where TCP has had the
/// missing bytes already, they will not come.
#[inline(always)]
fn early(packet: &Packet, sk: *mut bpf_sock, socket: *mut Socket, direction: Direction) {
    // SAFETY: the storage of `sk`; see `storage`.
    unsafe {
        let stream: *mut Stream = (*socket).stream(direction);
        if direction == Direction::Egress || (*stream).is_overtaken(awaited(sk)) {
            (*stream).lose(Lost::Gap);
            count(Counter::StreamLost(direction, Lost::Gap));
        } else {
            keep::keep(packet, openings::cookie(packet), stream);
        }
    }
}

struct Frames<'a> {
    packet: &'a Packet,
    stream: *mut Stream,
    next: Next,
}

unsafe extern "C" fn next_frame(_: u64, frames: *mut Frames<'_>) -> c_long {
    // SAFETY: `follow` passes a pointer to its own `Frames`; what they point to outlives the call.
    unsafe {
        let frames = &mut *frames;
        frames.next = (*frames.stream).turn(&frames.packet.segment, frames.packet);
        c_long::from(frames.next == Next::Done)
    }
}

/// Tells the daemon when a segment brought a new fact.
#[inline(always)]
fn settle(sk: *mut bpf_sock, socket: *mut Socket, facts_before: u8) {
    // SAFETY: the storage of `sk`; see `storage`.
    unsafe {
        if !(*socket).is_open() || (*socket).facts() == facts_before {
            return;
        }
        if (*socket).wants_rtt() {
            let tcp = bpf_tcp_sock(sk);
            if !tcp.is_null() {
                // The kernel keeps it in eighths of a microsecond.
                (*socket).note_rtt((*tcp).srtt_us >> 3);
            }
        }
        // The RST of a local abort follows the end, and nothing follows it.
        let lost = if (*socket).has_ended() {
            Counter::EndLost
        } else {
            Counter::EventLost
        };
        tell(socket, lost);
    }
}

/// The end of a socket, and who closed it.
#[btf_tracepoint(function = "inet_sock_set_state")]
fn observe_state(context: BtfTracePointContext) -> i32 {
    observe_change(&context)
}

/// The same once more. The kernel skips a tracing program that is running on the same CPU already, and a
/// softirq may end a socket while a process closes another one: of two programs, one always runs.
#[btf_tracepoint(function = "inet_sock_set_state")]
fn observe_state_nested(context: BtfTracePointContext) -> i32 {
    observe_change(&context)
}

#[inline(always)]
fn observe_change(context: &BtfTracePointContext) -> i32 {
    let sk: *mut c_void = context.arg(0);
    let from: i32 = context.arg(1);
    let to: i32 = context.arg(2);
    // `close` and `shutdown` leave ESTABLISHED for FIN_WAIT1 and CLOSE_WAIT for LAST_ACK; nothing
    // but the thread that calls them, or that exits, does (tcp_close_state in net/ipv4/tcp.c).
    let closes = (from == TCP_ESTABLISHED && to == TCP_FIN_WAIT1)
        || (from == TCP_CLOSE_WAIT && to == TCP_LAST_ACK);
    // A socket that was taken apart with `connect(AF_UNSPEC)` and is used again.
    let begins_anew = to == TCP_SYN_SENT;
    if !closes && !begins_anew && to != TCP_CLOSE {
        return 0;
    }
    let Some(socket) = storage(sk, 0) else {
        return 0;
    };
    if begins_anew {
        forget(sk.cast());
        return 0;
    }
    // SAFETY: the storage of `sk`; see `storage`.
    unsafe {
        if !(*socket).is_open() || (*socket).has_ended() {
            return 0;
        }
        if closes {
            (*socket).note_closed_by(current());
        } else {
            (*socket).end(now_ns());
            if tell(socket, Counter::EndLost) {
                (*socket).note_end_told();
            }
        }
    }
    0
}

/// Hands out every WebSocket whose end was not told, for a daemon that lost events.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_sk_storage_map")]
fn list_sockets(context: *const SocketIteration) -> i32 {
    // SAFETY: the kernel calls this with a context of that layout; the verifier checks each step.
    unsafe {
        let socket: *mut Socket = (*context).value;
        if socket.is_null() || !(*socket).is_open() || (*socket).is_end_told() {
            return 0;
        }
        bpf_seq_write(*(*context).meta, socket.cast(), size_of::<Socket>() as u32);
    }
    0
}

/// Kernel: `struct bpf_iter__bpf_sk_storage_map`; the first word of `struct bpf_iter_meta` is the
/// file to write to.
#[repr(C)]
struct SocketIteration {
    meta: *const *mut seq_file,
    map: *const c_void,
    sk: *const c_void,
    value: *mut Socket,
}

#[inline(always)]
fn current() -> ClosedBy {
    let mut by = ClosedBy::default();
    // SAFETY: writes at most the 16 bytes that `comm` has.
    unsafe {
        let ids = bpf_get_current_pid_tgid();
        by.pid = (ids >> 32) as u32;
        by.tid = ids as u32;
        bpf_get_current_comm(by.comm.as_mut_ptr().cast(), by.comm.len() as u32);
    }
    by
}

#[inline(always)]
fn facts(socket: *mut Socket) -> u8 {
    // SAFETY: the storage of a socket; see `storage`.
    unsafe { (*socket).facts() }
}

#[inline(always)]
fn awaited(sk: *mut bpf_sock) -> u32 {
    // SAFETY: the helper checks that `sk` is a TCP socket; its fields may then be read.
    unsafe {
        let tcp = bpf_tcp_sock(sk);
        if tcp.is_null() { 0 } else { (*tcp).rcv_nxt }
    }
}

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
fn storage(sk: *mut c_void, flags: u32) -> Option<*mut Socket> {
    // SAFETY: the helper takes any socket, and gives null or a value of the map.
    let socket = unsafe {
        bpf_sk_storage_get(sockets(), sk, ptr::null_mut(), u64::from(flags)).cast::<Socket>()
    };
    (!socket.is_null()).then_some(socket)
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
