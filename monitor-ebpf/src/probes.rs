//! The hooks.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::seq_file,
    helpers::generated::{bpf_seq_write, bpf_skc_to_tcp_sock, bpf_sock_from_file},
    macros::{btf_tracepoint, cgroup_skb, cgroup_sock, sock_ops},
    programs::{BtfTracePointContext, SkBuffContext, SockContext, SockOpsContext},
};
use monitor_ebpf::{
    counter::Counter,
    socket::{Direction, Socket},
};

use crate::{
    endings,
    identity::TCP_ESTABLISHED,
    maps::{CANDIDATE, TLS_LISTED},
    report::count,
    segments::observe,
    sessions::{follows_tls, session},
    storage::{remember_as, storage},
};

/// What a `cgroup_skb` program returns to let a packet pass.
const PASS: i32 = 1;

#[cgroup_skb]
#[inline(always)]
fn observe_egress(context: SkBuffContext) -> i32 {
    observe(context.skb.skb, Direction::Egress);
    PASS
}

#[cgroup_skb]
#[inline(always)]
fn observe_ingress(context: SkBuffContext) -> i32 {
    observe(context.skb.skb, Direction::Ingress);
    PASS
}

/// The end of a socket, and who closed it.
#[btf_tracepoint(function = "inet_sock_set_state")]
fn observe_state(context: BtfTracePointContext) -> i32 {
    endings::of_tracepoint(&context);
    0
}

/// The same once more. The kernel skips a tracing program that is running on the same CPU already, and a
/// softirq may end a socket while a process closes another one: of two programs, one always runs.
#[btf_tracepoint(function = "inet_sock_set_state")]
fn observe_state_nested(context: BtfTracePointContext) -> i32 {
    endings::of_tracepoint(&context);
    0
}

/// The end of a socket, where tracing programs reach no socket storage (before Linux 5.11). Sockets that were
/// established before this was attached end unseen.
#[sock_ops]
fn observe_end(context: SockOpsContext) -> u32 {
    endings::of_operations(context.ops);
    // "Not answered": TCP asks some of its settings here, and keeps its own.
    1
}

/// Who closes a socket, there.
#[cgroup_sock(sock_release)]
fn observe_close(context: SockContext) -> i32 {
    endings::of_release(context.sock);
    1
}

/// Hands out every WebSocket whose end was not told, for a daemon that lost events.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_sk_storage_map")]
fn list_sockets(context: *const SocketIteration) -> i32 {
    // SAFETY: the kernel calls this with a context of that layout; the verifier checks each step.
    unsafe {
        let mut socket: *mut Socket = (*context).value;
        if socket.is_null() || (*socket).is_end_told() {
            return 0;
        }
        if follows_tls() && (*socket).is_sealed() {
            let (Some(session), Some(listed)) =
                (session((*socket).session), TLS_LISTED.get_ptr_mut(0))
            else {
                return 0;
            };
            *listed = (*session).socket;
            (*session).overlay(&mut *listed);
            socket = listed;
        }
        if !(*socket).is_open() {
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
        if tcp.is_null() || u32::from((*tcp).state) != TCP_ESTABLISHED || storage(sk, 0).is_some() {
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
