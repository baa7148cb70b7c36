//! Who a socket is, as the socket sees it: address translation behind it does not show.

use aya_ebpf::{
    bindings::bpf_sock,
    helpers::generated::{bpf_sk_cgroup_id, bpf_sk_fullsock, bpf_tcp_sock},
};
use monitor_ebpf::socket::Identity;

const AF_INET6: u32 = 10;
const SOCK_STREAM: u32 = 1;
const IPPROTO_TCP: u32 = 6;

// Kernel: include/net/tcp_states.h.
const TCP_ESTABLISHED: u32 = 1;
const TCP_SYN_RECV: u32 = 3;
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
            || field(&raw const (*sk).type_) != SOCK_STREAM
            || field(&raw const (*sk).protocol) != IPPROTO_TCP
        {
            return Kind::Other;
        }
        if field(&raw const (*sk).state) == TCP_LISTEN {
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
        let tcp = bpf_tcp_sock(sk);
        if tcp.is_null() { 0 } else { (*tcp).snd_nxt }
    }
}

#[inline(always)]
fn state(sk: *mut bpf_sock) -> u32 {
    // SAFETY: `state` may be read of any socket.
    unsafe { field(&raw const (*sk).state) }
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
        let is_ipv6 = field(&raw const (*sk).family) == AF_INET6;
        let (local, remote) = if is_ipv6 {
            (
                [
                    field(&raw const (*sk).src_ip6[0]),
                    field(&raw const (*sk).src_ip6[1]),
                    field(&raw const (*sk).src_ip6[2]),
                    field(&raw const (*sk).src_ip6[3]),
                ],
                [
                    field(&raw const (*sk).dst_ip6[0]),
                    field(&raw const (*sk).dst_ip6[1]),
                    field(&raw const (*sk).dst_ip6[2]),
                    field(&raw const (*sk).dst_ip6[3]),
                ],
            )
        } else {
            let local = field(&raw const (*sk).src_ip4);
            let remote = field(&raw const (*sk).dst_ip4);
            ([local, 0, 0, 0], [remote, 0, 0, 0])
        };
        Some(Identity {
            cookie,
            cgroup_id: bpf_sk_cgroup_id(sk.cast()),
            local_address: zerocopy::transmute!(local),
            remote_address: zerocopy::transmute!(remote),
            local_port: field(&raw const (*sk).src_port) as u16,
            remote_port: u16::from_be(field(&raw const (*sk).dst_port)),
            is_ipv6: u8::from(is_ipv6),
            reserved: [0; 3],
        })
    }
}

/// Reads one field of a socket. The verifier takes only loads at a fixed distance from the socket's
/// own pointer, which a volatile read keeps.
#[inline(always)]
unsafe fn field<T: Copy>(field: *const T) -> T {
    // SAFETY: the caller's: a field of a socket that may be read.
    unsafe { field.read_volatile() }
}
