//! The heads of the opening handshake: keeps the request's until the response comes, and reads the
//! response's to its end.

use core::ffi::{c_long, c_void};

use aya_ebpf::{
    bindings::bpf_sock,
    helpers::generated::{bpf_get_socket_cookie, bpf_loop, bpf_sk_cgroup_id, bpf_sk_fullsock},
};
use monitor_ebpf::{
    counter::Counter,
    event::{Opening, REQUEST_HEAD_MAX, RESPONSE_HEAD_MAX},
    socket::{Direction, Identity, Phase, Socket},
    upgrade::{Beginning, HEAD_MAX, Scan},
};

use crate::{
    maps::{EMPTY, OPENINGS},
    packet::Packet,
    probes::{forget, remember},
    report::{count, tell, tell_opening},
};

const AF_INET6: u32 = 10;
/// Kernel: include/net/tcp_states.h.
const TCP_LISTEN: u32 = 10;
/// What a `bpf_loop` callback returns.
const GO_ON: c_long = 0;
const STOP: c_long = 1;

/// The payload of a packet whose socket is unknown, or waits for an answer to its request. Gives
/// the socket back when it opened a WebSocket.
#[inline(always)]
pub(crate) fn begin(
    packet: &Packet,
    sk: *mut bpf_sock,
    direction: Direction,
) -> Option<*mut Socket> {
    let length = packet.segment.length;
    let mut first = [0u8; 16];
    let wanted = if length < Beginning::BYTES {
        length
    } else {
        Beginning::BYTES
    };
    // SAFETY: 12 bytes into 16.
    if !unsafe { packet.copy::<{ Beginning::BYTES }>(0, first.as_mut_ptr(), wanted) } {
        return None;
    }
    match Beginning::of(&first, length) {
        Beginning::Neither => {}
        Beginning::Request => begin_request(packet, sk, direction),
        Beginning::Response => return begin_response(packet, sk, direction),
    }
    None
}

#[inline(always)]
fn begin_request(packet: &Packet, sk: *mut bpf_sock, direction: Direction) {
    // A request that comes with the end of the TCP handshake (a full accept queue, a lost ACK,
    // TCP_DEFER_ACCEPT) passes before its socket exists: the kernel shows the listening one, which
    // stands for many. The 101 will acknowledge the request's end.
    // SAFETY: `state` may be read of any socket.
    if unsafe { field(&raw const (*sk).state) } == TCP_LISTEN {
        let end = packet.segment.sequence.wrapping_add(packet.segment.length);
        if let Some(place) = packet.remote_place(direction, end) {
            keep_request(packet, place);
        }
        return;
    }
    keep_request(packet, cookie(packet));
    if ends_head(packet) {
        return;
    }
    let Some(socket) = remember(sk) else { return };
    // SAFETY: the storage of `sk`; see `probes::observe`.
    unsafe {
        (*socket).begin(Phase::Request, direction, &packet.segment);
        (*socket).stream(direction).skip(&packet.segment);
    }
}

#[inline(always)]
fn keep_request(packet: &Packet, key: u64) {
    let Some(opening) = opening_of(key) else {
        return;
    };
    let length = packet.segment.length;
    // SAFETY: an entry of the map. The kernel may give it to another socket meanwhile, in a flood of
    // requests; the key, written last, tells.
    unsafe {
        (*opening).socket.identity.cookie = 0;
        (*opening).response_length = 0;
        (*opening).request_length = 0;
        let into = (&raw mut (*opening).request).cast();
        let kept = if length < REQUEST_HEAD_MAX as u32 {
            length
        } else {
            REQUEST_HEAD_MAX as u32
        };
        if packet.copy::<{ REQUEST_HEAD_MAX as u32 }>(0, into, kept) {
            (*opening).request_length = kept;
        }
        (*opening).socket.identity.cookie = key;
    }
}

/// Whether the packet ends with the empty line that ends a head.
#[inline(always)]
fn ends_head(packet: &Packet) -> bool {
    let mut last = [0u8; 4];
    let Some(at) = packet.segment.length.checked_sub(4) else {
        return false;
    };
    // SAFETY: 4 bytes into 4.
    unsafe { packet.copy::<4>(at, last.as_mut_ptr(), 4) && last == *b"\r\n\r\n" }
}

/// Keeps more of a request that came in pieces.
#[inline(always)]
pub(crate) fn go_on_request(packet: &Packet, socket: *mut Socket, direction: Direction) {
    // SAFETY: the storage of the packet's socket; see `probes::observe`.
    let stream = unsafe { (*socket).stream(direction) };
    let Some(offset) = stream.offset(&packet.segment) else {
        return;
    };
    stream.skip(&packet.segment);
    let Some(opening) = own_opening(cookie(packet)) else {
        return;
    };
    let mut bytes = Bytes {
        packet,
        socket,
        opening,
        offset,
        direction,
        scan: Scan::More,
    };
    run(
        packet.segment.length - offset,
        keep_request_byte,
        &mut bytes,
    );
}

unsafe extern "C" fn keep_request_byte(_: u64, bytes: *mut Bytes<'_>) -> c_long {
    // SAFETY: `run` passes a pointer to its caller's `Bytes`; what they point to outlives the call.
    unsafe {
        let bytes = &mut *bytes;
        let at = (*bytes.opening).request_length as usize;
        if at >= REQUEST_HEAD_MAX {
            return STOP;
        }
        let into = (&raw mut (*bytes.opening).request).cast::<u8>().add(at);
        if !bytes.packet.copy::<1>(bytes.offset, into, 1) {
            return STOP;
        }
        (*bytes.opening).request_length = at as u32 + 1;
        bytes.offset += 1;
    }
    GO_ON
}

#[inline(always)]
fn begin_response(packet: &Packet, sk: *mut bpf_sock, direction: Direction) -> Option<*mut Socket> {
    let socket = remember(sk)?;
    let cookie = cookie(packet);
    if own_opening(cookie).is_none() {
        adopt_request(packet, direction, cookie);
    }
    if let Some(opening) = opening_of(cookie) {
        // SAFETY: an entry of the map, as in `keep_request`.
        unsafe {
            if (*opening).socket.identity.cookie != cookie {
                (*opening).request_length = 0;
                (*opening).socket.identity.cookie = cookie;
            }
            (*opening).response_length = 0;
        }
    }
    // SAFETY: the storage of `sk`; see `probes::observe`.
    unsafe { (*socket).begin(Phase::Response, direction, &packet.segment) };
    go_on_response(packet, sk, socket, direction)
}

/// Takes over the request that passed before the socket existed, when there was one.
#[inline(always)]
fn adopt_request(packet: &Packet, direction: Direction, cookie: u64) {
    let Some(place) = packet.remote_place(direction, packet.segment.acknowledges) else {
        return;
    };
    let Some(opening) = own_opening(place) else {
        return;
    };
    // SAFETY: an entry of the map, as in `keep_request`; the kernel copies it.
    unsafe {
        (*opening).socket.identity.cookie = cookie;
        let request: &Opening = &*opening;
        let _ = OPENINGS.insert(cookie, request, 0);
    }
    let _ = OPENINGS.remove(place);
}

/// Reads more of a response. Gives the socket back when its head is whole and opened a WebSocket.
#[inline(always)]
pub(crate) fn go_on_response(
    packet: &Packet,
    sk: *mut bpf_sock,
    socket: *mut Socket,
    direction: Direction,
) -> Option<*mut Socket> {
    // SAFETY: the storage of `sk`; see `probes::observe`.
    let offset = unsafe { (*socket).stream(direction) }.offset(&packet.segment)?;
    let mut bytes = Bytes {
        packet,
        socket,
        opening: own_opening(cookie(packet)).unwrap_or_default(),
        offset,
        direction,
        scan: Scan::More,
    };
    run(
        packet.segment.length - offset,
        read_response_byte,
        &mut bytes,
    );
    match bytes.scan {
        Scan::More => {}
        Scan::Other => forget(sk),
        Scan::TooLong => {
            count(Counter::ResponseTooLong);
            forget(sk);
        }
        Scan::WebSocket => {
            open(packet, sk, socket, direction);
            return Some(socket);
        }
    }
    None
}

unsafe extern "C" fn read_response_byte(_: u64, bytes: *mut Bytes<'_>) -> c_long {
    // SAFETY: as in `keep_request_byte`.
    unsafe {
        let bytes = &mut *bytes;
        let mut byte = 0;
        if !bytes.packet.copy::<1>(bytes.offset, &raw mut byte, 1) {
            return STOP;
        }
        bytes.offset += 1;
        let opening = bytes.opening;
        if !opening.is_null() {
            let at = (*opening).response_length as usize;
            if at < RESPONSE_HEAD_MAX {
                *(&raw mut (*opening).response).cast::<u8>().add(at) = byte;
                (*opening).response_length = at as u32 + 1;
            }
        }
        bytes.scan = (*bytes.socket).read_head(bytes.direction, byte);
        if bytes.scan == Scan::More {
            GO_ON
        } else {
            STOP
        }
    }
}

#[inline(always)]
fn open(packet: &Packet, sk: *mut bpf_sock, socket: *mut Socket, direction: Direction) {
    let cookie = cookie(packet);
    // SAFETY: the storage of `sk`, see `probes::observe`, and an entry of the map.
    unsafe {
        identify(sk, cookie, &mut (*socket).identity);
        (*socket).open(direction, &packet.segment);
        match own_opening(cookie) {
            Some(opening) => {
                (*opening).socket = *socket;
                tell_opening(opening);
                let _ = OPENINGS.remove(cookie);
            }
            None => tell(socket, Counter::EventLost),
        }
    }
}

/// Who the socket is, as the socket sees it: address translation behind it does not show.
#[inline(always)]
unsafe fn identify(sk: *mut bpf_sock, cookie: u64, identity: &mut Identity) {
    // SAFETY: the helper checks that `sk` is a full socket; its fields may then be read.
    unsafe {
        let sk = bpf_sk_fullsock(sk);
        if sk.is_null() {
            return;
        }
        *identity = Identity {
            cookie,
            ..Identity::default()
        };
        identity.cgroup_id = bpf_sk_cgroup_id(sk.cast());
        // The kernel keeps the socket's own port in host order, the peer's in network order.
        identity.local_port = field(&raw const (*sk).src_port) as u16;
        identity.remote_port = u16::from_be(field(&raw const (*sk).dst_port));
        if field(&raw const (*sk).family) == AF_INET6 {
            identity.is_ipv6 = 1;
            set_word(
                &mut identity.local_address,
                0,
                field(&raw const (*sk).src_ip6[0]),
            );
            set_word(
                &mut identity.local_address,
                4,
                field(&raw const (*sk).src_ip6[1]),
            );
            set_word(
                &mut identity.local_address,
                8,
                field(&raw const (*sk).src_ip6[2]),
            );
            set_word(
                &mut identity.local_address,
                12,
                field(&raw const (*sk).src_ip6[3]),
            );
            set_word(
                &mut identity.remote_address,
                0,
                field(&raw const (*sk).dst_ip6[0]),
            );
            set_word(
                &mut identity.remote_address,
                4,
                field(&raw const (*sk).dst_ip6[1]),
            );
            set_word(
                &mut identity.remote_address,
                8,
                field(&raw const (*sk).dst_ip6[2]),
            );
            set_word(
                &mut identity.remote_address,
                12,
                field(&raw const (*sk).dst_ip6[3]),
            );
        } else {
            set_word(
                &mut identity.local_address,
                0,
                field(&raw const (*sk).src_ip4),
            );
            set_word(
                &mut identity.remote_address,
                0,
                field(&raw const (*sk).dst_ip4),
            );
        }
    }
}

/// Reads one field of a socket. The verifier takes only loads at a fixed distance from the socket's
/// own pointer, which a volatile read keeps.
#[inline(always)]
unsafe fn field<T: Copy>(field: *const T) -> T {
    // SAFETY: the caller's: a field of a full socket.
    unsafe { field.read_volatile() }
}

/// Puts a word, which the kernel keeps in network order, at `at`.
#[inline(always)]
fn set_word(address: &mut [u8; 16], at: usize, word: u32) {
    let [a, b, c, d] = word.to_ne_bytes();
    address[at] = a;
    address[at + 1] = b;
    address[at + 2] = c;
    address[at + 3] = d;
}

/// The bytes of a packet from `offset` on, one a turn.
struct Bytes<'a> {
    packet: &'a Packet,
    socket: *mut Socket,
    opening: *mut Opening,
    offset: u32,
    direction: Direction,
    scan: Scan,
}

#[inline(always)]
fn run(
    length: u32,
    turn: unsafe extern "C" fn(u64, *mut Bytes<'_>) -> c_long,
    bytes: &mut Bytes<'_>,
) {
    let turns = if length < u32::from(HEAD_MAX) + 1 {
        length
    } else {
        u32::from(HEAD_MAX) + 1
    };
    let bytes: *mut Bytes<'_> = bytes;
    // SAFETY: the kernel calls `turn` with this pointer, and not after the helper returns.
    unsafe { bpf_loop(turns, turn as *mut c_void, bytes.cast(), 0) };
}

/// The cookie of a packet's socket.
#[inline(always)]
pub(crate) fn cookie(packet: &Packet) -> u64 {
    // SAFETY: the hook's own context.
    unsafe { bpf_get_socket_cookie(packet.skb.cast()) }
}

/// This socket's entry, or a new one.
#[inline(always)]
fn opening_of(cookie: u64) -> Option<*mut Opening> {
    if let Some(opening) = OPENINGS.get_ptr_mut(cookie) {
        return Some(opening);
    }
    let empty = EMPTY.get(0)?;
    OPENINGS.insert(cookie, empty, 0).ok()?;
    OPENINGS.get_ptr_mut(cookie)
}

/// This socket's entry, when it has one.
#[inline(always)]
fn own_opening(cookie: u64) -> Option<*mut Opening> {
    let opening = OPENINGS.get_ptr_mut(cookie)?;
    // SAFETY: an entry of the map.
    (unsafe { (*opening).socket.identity.cookie } == cookie).then_some(opening)
}
