//! The hooks.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::seq_file,
    helpers::generated::{
        bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_seq_write, bpf_skc_to_tcp_sock,
        bpf_sock_from_file,
    },
    macros::{btf_tracepoint, cgroup_skb},
    programs::{BtfTracePointContext, SkBuffContext},
};
use monitor_ebpf::{
    counter::Counter,
    socket::{ClosedBy, Direction, Socket},
};

use crate::{
    maps::CANDIDATE,
    packet::now_ns,
    report::{count, tell},
    segments::{count_lost, lost, observe},
    storage::{forget, remember_as, storage},
};

/// What a `cgroup_skb` program returns to let a packet pass.
const PASS: i32 = 1;

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
    // SAFETY: the storage of `sk`; see `storage::storage`.
    unsafe {
        let is_open = (*socket).is_open();
        // A candidate may be found to be a WebSocket by what the other end still sends.
        if closes && (is_open || (*socket).is_candidate()) {
            (*socket).note_closed_by(current());
        } else if !closes && is_open && !(*socket).has_ended() {
            let lost_before = lost(socket);
            (*socket).end(now_ns());
            count_lost(socket, lost_before);
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

/// Makes a candidate of every established TCP connection that some process holds, in all network
/// namespaces, for a daemon that has just begun to watch.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
fn find_candidates(context: *const FileIteration) -> i32 {
    // SAFETY: the kernel calls this with a context of that layout; the verifier checks each step.
    unsafe {
        let file = (*context).file;
        if file.is_null() {
            return 0;
        }
        let socket: *const FileSocket = bpf_sock_from_file(file.cast()).cast();
        if socket.is_null() {
            return 0;
        }
        let sk = (*socket).sk;
        if sk.is_null() {
            return 0;
        }
        let tcp: *const SockCommon = bpf_skc_to_tcp_sock(sk).cast();
        if tcp.is_null() || i32::from((*tcp).state) != TCP_ESTABLISHED || storage(sk, 0).is_some() {
            return 0;
        }
        if let Some(candidate) = CANDIDATE.get(0)
            && remember_as(sk, candidate)
        {
            count(Counter::Candidate);
        }
    }
    0
}

/// Kernel: `struct bpf_iter__task_file`.
#[repr(C)]
struct FileIteration {
    meta: *const c_void,
    task: *const c_void,
    fd: u32,
    reserved: u32,
    file: *mut c_void,
}

/// Kernel: the beginning of `struct socket`, as it is since 5.3.
#[repr(C)]
struct FileSocket {
    before: [u64; 3],
    sk: *mut c_void,
}

/// Kernel: the beginning of `struct sock_common`, with which every socket begins.
#[repr(C)]
struct SockCommon {
    before: [u8; 18],
    state: u8,
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
