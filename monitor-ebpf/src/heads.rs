//! The heads of the opening handshake: keeps the request's until the response comes, and reads the
//! response's to its end. Few packets carry one, so what is done with it are global functions that read the
//! packet's headers again.

use aya_ebpf::bindings::{__sk_buff, bpf_sock};
use monitor_ebpf::{
    counter::Counter,
    event::Role,
    proxy,
    socket::{Direction, Socket},
    stream::Next,
    tls,
    upgrade::{Beginning, REQUEST_LINE},
};

pub(crate) use self::{request::go_on_request, response::go_on_response};
use self::{
    request::{begin_request, begin_request_of_none},
    response::begin_response,
};
use crate::{
    binding,
    identity::{Kind, awaited, data_segments_sent, kind},
    keep,
    maps::{BEGUN, OPENINGS},
    openings,
    packet::{Packet, direction},
    report::count,
    sealed,
    sessions::follows_tls,
    source::{Source as _, begins_head, first_bytes, four_bytes},
    storage::{enter, leave, remember, storage},
};

mod request;
mod response;

/// What the functions here return.
const NOTHING: u64 = 0;
const GO_ON: u64 = 1;
const KNOWN: u64 = 3;

/// What a packet was to a socket of which nothing was remembered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begun {
    Nothing,
    /// A WebSocket opened.
    Opened,
    /// Another CPU has begun to remember the socket.
    Known,
}

/// Beside the direction in `way`: see [`begin`].
const ENTERS: u64 = 1 << 1;

/// The payload of a packet whose socket is unknown, or waits for an answer to a request that it `requests`
/// in pieces. One that `enters` is at work on the socket as [`enter`](crate::storage::enter) says once it is
/// remembered, and is still when this returns [`Begun::Opened`].
#[inline(always)]
pub(crate) fn begin(
    packet: &mut Packet,
    sk: *mut bpf_sock,
    direction: Direction,
    requests: bool,
    enters: bool,
) -> Begun {
    let length = packet.segment.length;
    let wanted = if length < Beginning::BYTES {
        length
    } else {
        Beginning::BYTES
    };
    let Some(first) = first_bytes(&packet.body, wanted) else {
        return Begun::Nothing;
    };
    let mut beginning = Beginning::of(&first, length);
    if beginning == Beginning::Proxied {
        beginning = if request_follows(packet.body.skb) == GO_ON {
            Beginning::Request
        } else {
            Beginning::Neither
        };
    }
    if beginning == Beginning::Neither && direction == Direction::Egress {
        begin_tls(packet, &first);
        return Begun::Nothing;
    }
    if beginning == Beginning::Neither {
        // It may have overtaken an answer.
        let ahead = packet.segment.sequence.wrapping_sub(awaited(sk));
        if ahead.cast_signed() <= 0 {
            return Begun::Nothing;
        }
    }
    let (skb, way) = (packet.body.skb, direction as u64);
    let entering = if enters { way | ENTERS } else { way };
    match (kind(sk), beginning) {
        (Kind::Listener, Beginning::Request) => {
            begin_request_of_none(skb, way);
        }
        (Kind::Listener | Kind::Other, _) => {}
        (Kind::Connection, Beginning::Neither | Beginning::Proxied) => {
            if begin_behind_hole(skb, packet.ask_when(), entering) == KNOWN {
                return Begun::Known;
            }
        }
        (Kind::Connection, Beginning::Request) => {
            begin_request(skb, packet.ask_when(), way);
        }
        (Kind::Connection, Beginning::OtherResponse) => {
            let asked = openings::key(skb, direction.other());
            openings::remove(&OPENINGS, asked);
            if requests {
                openings::remove(&BEGUN, asked);
            }
        }
        (Kind::Connection, Beginning::Response) => {
            let begun = begin_response(skb, packet.ask_when(), entering);
            if begun == KNOWN {
                return Begun::Known;
            }
            if begun == GO_ON
                && let Some(socket) = storage(sk.cast(), 0)
            {
                if go_on_response(packet, direction) {
                    return Begun::Opened;
                }
                if enters {
                    leave(socket);
                }
            }
        }
    }
    Begun::Nothing
}

/// What goes out and is neither request nor response may be a TLS session's.
#[inline(always)]
fn begin_tls(packet: &mut Packet, first: &[u8; 16]) {
    if let Some(role) = tls::role_of_hello(first, packet.segment.length) {
        count_tls(packet.body.skb, role as u64);
    }
    if follows_tls() && tls::begins_record(first) && binding::bind(packet) {
        sealed::observe(packet, Direction::Egress);
    }
}

/// A packet that goes out begins with a Hello. It is a connection's beginning when nothing was sent before.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn count_tls(skb: *mut __sk_buff, role: u64) -> u64 {
    // SAFETY: the hook's own context, whose fields may be read.
    let (sk, segments) = unsafe { ((*skb).__bindgen_anon_2.sk, (*skb).gso_segs) };
    // The kernel counts a packet before it passes here.
    if !sk.is_null() && data_segments_sent(sk) == segments.max(1) {
        count(Counter::Tls(if role == Role::Client as u64 {
            Role::Client
        } else {
            Role::Server
        }));
    }
    NOTHING
}

/// Whether a request begins behind the header of the PROXY protocol, in the same packet. Otherwise it begins the next one, or
/// there is none.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn request_follows(skb: *mut __sk_buff) -> u64 {
    let Some(packet) = Packet::read(skb) else {
        return NOTHING;
    };
    let length = packet.segment.length;
    if length < proxy::BINARY_FIXED {
        return NOTHING;
    }
    let Some(fixed) = first_bytes(&packet.body, proxy::BINARY_FIXED) else {
        return NOTHING;
    };
    let behind = if fixed[0] == proxy::BINARY[0] {
        proxy::binary_length(&fixed)
    } else {
        end_of_line(&packet)
    };
    if four_bytes(&packet.body, behind) == Some(REQUEST_LINE) {
        GO_ON
    } else {
        NOTHING
    }
}

/// Behind the first line of a packet; 0, where no request begins, when it does not end in time.
#[inline(always)]
fn end_of_line(packet: &Packet) -> u32 {
    for at in 0..proxy::TEXT_MAX {
        let mut byte = 0;
        // SAFETY: one byte into one; the helper refuses what is not there.
        if !unsafe { packet.body.copy::<1>(at, &raw mut byte, 1) } {
            return 0;
        }
        if byte == b'\n' {
            return at + 1;
        }
    }
    0
}

/// Whether a packet begins like a request or a response.
#[inline(always)]
pub(crate) fn begins(packet: &Packet) -> bool {
    begins_head(&packet.body, packet.segment.length)
}

/// The packet again, as the hook saw it.
#[inline(always)]
fn again(skb: *mut __sk_buff, now_ns: u64, way: u64) -> Option<(Packet, Direction)> {
    let mut packet = Packet::read(skb)?;
    packet.segment.now_ns = now_ns;
    Some((packet, direction(way)))
}

/// Two CPUs may each have found nothing remembered of a socket. Whether this one is at work on it now, before anything
/// was noted.
#[inline(always)]
fn is_first(skb: *mut __sk_buff, socket: *mut Socket) -> bool {
    if !enter(skb, socket) {
        return false;
    }
    // SAFETY: the storage of the packet's socket; see `storage::storage`.
    let first = unsafe { (*socket).is_blank() };
    if !first {
        leave(socket);
    }
    first
}

/// What passes while an answer is awaited and is not the next byte may be frames that overtook the 101:
/// they are kept until it comes.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn begin_behind_hole(skb: *mut __sk_buff, now_ns: u64, way: u64) -> u64 {
    let Some((packet, direction)) = again(skb, now_ns, way) else {
        return NOTHING;
    };
    // SAFETY: the hook's own context, whose fields may be read.
    let sk = unsafe { (*skb).__bindgen_anon_2.sk };
    if sk.is_null() || openings::own(&OPENINGS, openings::key(skb, direction.other())).is_none() {
        return NOTHING;
    }
    let awaited = awaited(sk);
    let Some(socket) = remember(sk) else {
        return NOTHING;
    };
    if way & ENTERS != 0 && !is_first(skb, socket) {
        return KNOWN;
    }
    // SAFETY: the storage of `sk`; see `storage::storage`.
    unsafe {
        (*socket).await_response(direction, awaited);
        if (*socket).stream(direction).arrive(&packet.segment) == Next::Early {
            keep::keep(&packet);
        }
    }
    if way & ENTERS != 0 {
        leave(socket);
    }
    NOTHING
}
