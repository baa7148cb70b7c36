//! Connections whose opening was not seen: they were open before the daemon started, or their `101` had
//! a hole. Each is watched until it shows that it is a WebSocket, or that it is none.

use aya_ebpf::bindings::{__sk_buff, bpf_sock};
use monitor_ebpf::{
    counter::Counter,
    socket::{Direction, Socket, Verdict},
};

use crate::{
    binding, heads,
    identity::{awaited, identify, sent},
    openings,
    packet::Packet,
    report::count,
    sealed,
    sessions::follows_tls,
    storage::{forget, of_packet},
};

/// A packet of a known socket. False when that is no candidate any longer, and may be known no longer: on one that now begins
/// an HTTP message nothing was missed, and one that carries a TLS session shows nothing itself.
#[inline(always)]
pub(crate) fn meet(
    packet: &mut Packet,
    sk: *mut bpf_sock,
    socket: *mut Socket,
    direction: Direction,
) -> bool {
    // SAFETY: the storage of `sk`; see `storage::storage`.
    unsafe {
        if !(*socket).is_candidate() {
            return true;
        }
        if follows_tls() && direction == Direction::Egress && binding::bind(packet) {
            count(Counter::Rejected);
            sealed::observe(packet, direction);
            return false;
        }
        if heads::begins(packet) {
            count(Counter::Rejected);
            forget(sk);
            return false;
        }
        if (*socket).is_new_candidate() {
            (*socket).begin_candidate(sent(sk), awaited(sk));
        }
    }
    true
}

/// Watches a socket from here on.
#[inline(always)]
pub(crate) fn begin(packet: &Packet, sk: *mut bpf_sock, socket: *mut Socket, direction: Direction) {
    count(Counter::Candidate);
    let mut sent = sent(sk);
    // TCP counts a packet as sent when it has passed.
    let end = packet.segment.sequence.wrapping_add(packet.segment.length);
    if direction == Direction::Egress && end.wrapping_sub(sent).cast_signed() > 0 {
        sent = end;
    }
    // SAFETY: the storage of `sk`; see `storage::storage`.
    unsafe { (*socket).begin_candidate(sent, awaited(sk)) };
}

/// Judges a candidate by all that it has shown, after a packet.
#[inline(always)]
pub(crate) fn judge(
    skb: *mut __sk_buff,
    sk: *mut bpf_sock,
    socket: *mut Socket,
    direction: Direction,
) {
    // SAFETY: the storage of the packet's socket; see `storage::storage`.
    unsafe {
        if !(*socket).is_candidate() {
            return;
        }
        match (*socket).judge_candidate(direction) {
            Verdict::Unknown => {}
            Verdict::WebSocket => {
                adopt(skb);
            }
            Verdict::NoWebSocket => {
                count(Counter::Rejected);
                forget(sk);
            }
        }
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn adopt(skb: *mut __sk_buff) -> u64 {
    if let Some((sk, socket)) = of_packet(skb) {
        match identify(sk, openings::cookie(skb)) {
            // SAFETY: the storage of the packet's socket; see `storage::storage`.
            Some(identity) => unsafe { (*socket).adopt(identity) },
            None => count(Counter::SocketLost),
        }
    }
    0
}
