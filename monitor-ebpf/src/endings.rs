//! The end of a socket, and who closed it.
//!
//! Two ways, of which the daemon takes the first that the kernel has: the tracepoint of state changes, from
//! Linux 5.11 on, or the callbacks of `sock_ops` and of `cgroup/sock_release`.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB,
        BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_CONNECT_CB, bpf_sock,
        bpf_sock_ops,
    },
    helpers::generated::{
        bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_sock_ops_cb_flags_set,
    },
    programs::BtfTracePointContext,
};
use monitor_ebpf::{
    counter::Counter,
    socket::{ClosedBy, Socket},
};

use crate::{
    identity::{
        TCP_CLOSE, TCP_CLOSE_WAIT, TCP_ESTABLISHED, TCP_FIN_WAIT1, TCP_LAST_ACK, TCP_SYN_SENT,
        state,
    },
    packet::now_ns,
    report::{count, tell},
    sealed,
    segments::{count_lost, lost},
    sessions::{consumed, consumed_in_callback, follows_tls},
    storage::{forget, storage},
};

/// A change of a socket's state.
#[inline(always)]
pub(crate) fn of_tracepoint(context: &BtfTracePointContext) {
    let sk: *mut c_void = context.arg(0);
    let from: u32 = context.arg(1);
    let to: u32 = context.arg(2);
    // `close` and `shutdown` leave ESTABLISHED for FIN_WAIT1 and CLOSE_WAIT for LAST_ACK; nothing
    // but the thread that calls them, or that exits, does (tcp_close_state in net/ipv4/tcp.c).
    let closes = (from == TCP_ESTABLISHED && to == TCP_FIN_WAIT1)
        || (from == TCP_CLOSE_WAIT && to == TCP_LAST_ACK);
    // A socket that was taken apart with `connect(AF_UNSPEC)` and is used again.
    let begins_anew = to == TCP_SYN_SENT;
    if !closes && !begins_anew && to != TCP_CLOSE {
        return;
    }
    let Some(socket) = storage(sk, 0) else {
        return;
    };
    if begins_anew {
        forget(sk.cast());
    } else if closes {
        note_closed_by(socket);
    } else {
        // SAFETY: the storage of the socket; see `storage::storage`.
        let consumed = if follows_tls() && unsafe { (*socket).is_sealed() } {
            consumed(sk)
        } else {
            None
        };
        end(sk.cast(), socket, consumed);
    }
}

/// What TCP tells of a socket.
#[inline(always)]
pub(crate) fn of_operations(operations: *mut bpf_sock_ops) {
    // SAFETY: the kernel hands the hook a context whose fields may be read, and its socket or null.
    unsafe {
        match (*operations).op {
            BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB | BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => {
                // What others have asked for stays.
                let flags = (*operations).bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG;
                bpf_sock_ops_cb_flags_set(operations, flags.cast_signed());
            }
            // As SYN_SENT above.
            BPF_SOCK_OPS_TCP_CONNECT_CB => {
                let sk = (*operations).__bindgen_anon_2.sk;
                if !sk.is_null() {
                    forget(sk);
                }
            }
            BPF_SOCK_OPS_STATE_CB => {
                let [from, to, ..] = (*operations).__bindgen_anon_1.args;
                let sk = (*operations).__bindgen_anon_2.sk;
                if to != TCP_CLOSE || sk.is_null() {
                    return;
                }
                let Some(socket) = storage(sk.cast(), 0) else {
                    return;
                };
                // Whoever closed it sent no FIN, but an RST: see `of_release`.
                if from == TCP_ESTABLISHED || from == TCP_CLOSE_WAIT {
                    (*socket).forget_closed_by();
                }
                let consumed = if follows_tls() && (*socket).is_sealed() {
                    consumed_in_callback(sk)
                } else {
                    -1
                };
                end(sk, socket, u32::try_from(consumed).ok());
            }
            _ => {}
        }
    }
}

/// The last descriptor of a socket is being closed. When neither `shutdown` nor anything else came before,
/// it is this that sends FIN, as in [`of_tracepoint`], or RST, which is known only afterwards.
#[inline(always)]
pub(crate) fn of_release(sk: *mut bpf_sock) {
    let state = state(sk);
    if state != TCP_ESTABLISHED && state != TCP_CLOSE_WAIT {
        return;
    }
    if let Some(socket) = storage(sk.cast(), 0) {
        note_closed_by(socket);
    }
}

#[inline(always)]
fn note_closed_by(socket: *mut Socket) {
    // SAFETY: the storage of a socket; see `storage::storage`.
    unsafe {
        // A candidate may be found to be a WebSocket by what the other end still sends.
        if (*socket).is_open() || (*socket).is_candidate() || (*socket).is_sealed() {
            (*socket).note_closed_by(current());
        }
    }
}

/// `consumed`: up to where its process has read it, if that is known.
#[inline(always)]
fn end(sk: *mut bpf_sock, socket: *mut Socket, consumed: Option<u32>) {
    // SAFETY: the storage of a socket; see `storage::storage`.
    unsafe {
        if (*socket).is_candidate() {
            // One without a segment is not of the watched cgroup.
            if !(*socket).is_new_candidate() {
                count(Counter::Undecided);
            }
            forget(sk);
            return;
        }
        if follows_tls() && (*socket).is_sealed() {
            sealed::end(socket, consumed);
            return;
        }
        if (*socket).may_have_opened_unseen() {
            count(Counter::ResponseGap);
            forget(sk);
            return;
        }
        if !(*socket).is_open() || (*socket).has_ended() {
            return;
        }
        let lost_before = lost(socket);
        (*socket).end(now_ns());
        count_lost(socket, lost_before);
        if tell(socket, Counter::EndLost) {
            (*socket).note_end_told();
        }
    }
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
