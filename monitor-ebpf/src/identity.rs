//! Who a socket is, as the socket sees it: address translation behind it does not show.

use core::mem::offset_of;

use aya_ebpf::{
    bindings::{bpf_sock, bpf_tcp_sock},
    helpers::generated::{self, bpf_sk_cgroup_id, bpf_sk_fullsock},
};
use monitor_ebpf::{socket::Identity, stream::Stream};

const AF_INET6: u32 = 10;
const SOCK_STREAM: u32 = 1;
const IPPROTO_TCP: u32 = 6;

// Kernel: include/net/tcp_states.h.
pub(crate) const TCP_ESTABLISHED: u32 = 1;
pub(crate) const TCP_SYN_SENT: u32 = 2;
const TCP_SYN_RECV: u32 = 3;
pub(crate) const TCP_FIN_WAIT1: u32 = 4;
pub(crate) const TCP_CLOSE: u32 = 7;
pub(crate) const TCP_CLOSE_WAIT: u32 = 8;
pub(crate) const TCP_LAST_ACK: u32 = 9;
const TCP_LISTEN: u32 = 10;

/// Whether neither end has closed yet. A socket of TCP Fast Open sends before it is established.
#[inline(always)]
pub(crate) fn is_open(sk: *mut bpf_sock) -> bool {
    let state = state(sk);
    state == TCP_ESTABLISHED || state == TCP_SYN_RECV
}

/// What a packet's socket is.
pub(crate) enum Kind {
    /// One end of a TCP connection.
    Connection,
    /// A listening socket, which stands for many.
    Listener,
    /// A raw socket, which sees what belongs to others.
    Other,
}

/// What this socket is.
#[inline(always)]
pub(crate) fn kind(sk: *mut bpf_sock) -> Kind {
    // SAFETY: the helper checks that `sk` is a full socket; its fields may then be read.
    unsafe {
        let sk = bpf_sk_fullsock(sk);
        if sk.is_null()
            || word::<{ offset_of!(bpf_sock, type_) }, _>(sk) != SOCK_STREAM
            || word::<{ offset_of!(bpf_sock, protocol) }, _>(sk) != IPPROTO_TCP
        {
            return Kind::Other;
        }
        if word::<{ offset_of!(bpf_sock, state) }, _>(sk) == TCP_LISTEN {
            return Kind::Listener;
        }
    }
    Kind::Connection
}

/// The sequence number up to which a socket has sent; 0 when the kernel does not tell.
#[inline(always)]
pub(crate) fn sent(sk: *mut bpf_sock) -> u32 {
    // SAFETY: the helper checks that `sk` is a TCP socket; its fields may then be read.
    unsafe {
        let tcp = generated::bpf_tcp_sock(sk);
        if tcp.is_null() {
            0
        } else {
            word::<{ offset_of!(bpf_tcp_sock, snd_nxt) }, _>(tcp)
        }
    }
}

/// How many segments with payload a socket has sent, repeated ones included; 0 when the kernel does not tell.
#[inline(always)]
pub(crate) fn data_segments_sent(sk: *mut bpf_sock) -> u32 {
    // SAFETY: the helper checks that `sk` is a TCP socket; its fields may then be read.
    unsafe {
        let tcp = generated::bpf_tcp_sock(sk);
        if tcp.is_null() {
            0
        } else {
            word::<{ offset_of!(bpf_tcp_sock, data_segs_out) }, _>(tcp)
        }
    }
}

/// The state of a socket, by the kernel's number.
#[inline(always)]
pub(crate) fn state(sk: *mut bpf_sock) -> u32 {
    // SAFETY: `state` may be read of any socket.
    unsafe { word::<{ offset_of!(bpf_sock, state) }, _>(sk) }
}

/// The sequence number that a socket waits for; 0 when the kernel does not tell.
#[inline(always)]
pub(crate) fn awaited(sk: *mut bpf_sock) -> u32 {
    // SAFETY: the helper checks that `sk` is a TCP socket; its fields may then be read.
    unsafe {
        let tcp = generated::bpf_tcp_sock(sk);
        if tcp.is_null() {
            0
        } else {
            word::<{ offset_of!(bpf_tcp_sock, rcv_nxt) }, _>(tcp)
        }
    }
}

/// Whether the socket's TCP drops a segment that acknowledges so little.
#[inline(always)]
pub(crate) fn is_too_old(sk: *mut bpf_sock, acknowledges: u32) -> bool {
    // SAFETY: the helper checks that `sk` is a TCP socket; its fields may then be read.
    unsafe {
        let tcp = generated::bpf_tcp_sock(sk);
        if tcp.is_null() {
            return false;
        }
        let unacknowledged = word::<{ offset_of!(bpf_tcp_sock, snd_una) }, _>(tcp);
        let acknowledged = (*tcp).bytes_acked;
        Stream::is_too_old(acknowledges, unacknowledged, acknowledged)
    }
}

/// Whether what a socket sends bears its own numbers: SYNPROXY and the like on the same host change them on the way
/// out and change back what is acknowledged, before this is seen.
#[inline(always)]
pub(crate) fn is_own_number(sk: *mut bpf_sock, sequence: u32) -> bool {
    // SAFETY: the helper checks that `sk` is a TCP socket; its fields may then be read.
    unsafe {
        let tcp = generated::bpf_tcp_sock(sk);
        if tcp.is_null() {
            return true;
        }
        let unacknowledged = word::<{ offset_of!(bpf_tcp_sock, snd_una) }, _>(tcp);
        let next = word::<{ offset_of!(bpf_tcp_sock, snd_nxt) }, _>(tcp);
        sequence.wrapping_sub(unacknowledged) <= next.wrapping_sub(unacknowledged)
    }
}

/// The smoothed round-trip time in µs; none when the kernel does not tell.
#[inline(always)]
pub(crate) fn rtt_us(sk: *mut bpf_sock) -> Option<u32> {
    // SAFETY: the helper checks that `sk` is a TCP socket; its fields may then be read.
    unsafe {
        let tcp = generated::bpf_tcp_sock(sk);
        if tcp.is_null() {
            return None;
        }
        // The kernel keeps it in eighths of a microsecond.
        Some(word::<{ offset_of!(bpf_tcp_sock, srtt_us) }, _>(tcp) >> 3)
    }
}

/// None when the kernel does not show the whole socket.
#[inline(always)]
pub(crate) fn identify(sk: *mut bpf_sock, cookie: u64) -> Option<Identity> {
    // SAFETY: the helper checks that `sk` is a full socket; its fields may then be read.
    unsafe {
        let sk = bpf_sk_fullsock(sk);
        if sk.is_null() {
            return None;
        }
        // The kernel keeps the socket's own port in host order, the remote one in network order.
        let is_ipv6 = word::<{ offset_of!(bpf_sock, family) }, _>(sk) == AF_INET6;
        let (local, remote) = if is_ipv6 {
            (
                [
                    word::<{ offset_of!(bpf_sock, src_ip6) }, _>(sk),
                    word::<{ offset_of!(bpf_sock, src_ip6) + 4 }, _>(sk),
                    word::<{ offset_of!(bpf_sock, src_ip6) + 8 }, _>(sk),
                    word::<{ offset_of!(bpf_sock, src_ip6) + 12 }, _>(sk),
                ],
                [
                    word::<{ offset_of!(bpf_sock, dst_ip6) }, _>(sk),
                    word::<{ offset_of!(bpf_sock, dst_ip6) + 4 }, _>(sk),
                    word::<{ offset_of!(bpf_sock, dst_ip6) + 8 }, _>(sk),
                    word::<{ offset_of!(bpf_sock, dst_ip6) + 12 }, _>(sk),
                ],
            )
        } else {
            let local = word::<{ offset_of!(bpf_sock, src_ip4) }, _>(sk);
            let remote = word::<{ offset_of!(bpf_sock, dst_ip4) }, _>(sk);
            ([local, 0, 0, 0], [remote, 0, 0, 0])
        };
        Some(Identity {
            cookie,
            cgroup_id: bpf_sk_cgroup_id(sk.cast()),
            local_address: zerocopy::transmute!(local),
            remote_address: zerocopy::transmute!(remote),
            local_port: word::<{ offset_of!(bpf_sock, src_port) }, _>(sk) as u16,
            remote_port: u16::from_be(word::<{ offset_of!(bpf_sock, dst_port) }, _>(sk) as u16),
            is_ipv6: u8::from(is_ipv6),
            reserved: [0; 3],
        })
    }
}

/// Reads the word `AT` bytes into a socket.
///
/// In assembly: the verifier takes only loads at a fixed distance from the socket's own pointer, and the
/// optimiser likes to make one load of two, at a distance that it computes.
///
/// # Safety
///
/// `socket` is what a helper gave as a socket of that kind, and the field at `AT` may be read.
#[inline(always)]
unsafe fn word<const AT: usize, T>(socket: *const T) -> u32 {
    let word: u64;
    // SAFETY: the caller's, and the verifier's.
    unsafe {
        core::arch::asm!(
            "{word} = *(u32 *)({socket} + {at})",
            word = out(reg) word,
            socket = in(reg) socket,
            at = const AT,
            options(readonly, nostack),
        );
    }
    word as u32
}
