//! The heads of the opening handshake: keeps the request's until the response comes, and reads the
//! response's to its end. Few packets carry one, so what is done with it are global functions that read the
//! packet's headers again.

use aya_ebpf::bindings::{__sk_buff, bpf_sock};
use monitor_ebpf::{
    socket::Direction,
    stream::Next,
    upgrade::{Beginning, REQUEST_LINE, STATUS_LINE},
};

pub(crate) use self::{request::go_on_request, response::go_on_response};
use self::{
    request::{begin_request, begin_request_of_none},
    response::begin_response,
};
use crate::{
    identity::{Kind, awaited, kind},
    keep,
    maps::{BEGUN, OPENINGS},
    openings,
    packet::Packet,
    storage::remember,
};

mod request;
mod response;

/// What the functions here return.
const NOTHING: u64 = 0;
const GO_ON: u64 = 1;

/// Bytes of a head that are read in one go: see `frames.rs` for the nesting.
const SOME: u32 = 8;

/// The payload of a packet whose socket is unknown, or waits for an answer to a request that it `requests`
/// in pieces. Whether it opened a WebSocket.
#[inline(always)]
pub(crate) fn begin(
    packet: &Packet,
    sk: *mut bpf_sock,
    direction: Direction,
    requests: bool,
) -> bool {
    let length = packet.segment.length;
    // Written as words, or the compiler calls a function to write zeros.
    let mut first = [0u64; 2];
    let wanted = if length < Beginning::BYTES {
        length
    } else {
        Beginning::BYTES
    };
    // SAFETY: 12 bytes into 16.
    if !unsafe {
        packet
            .body
            .copy::<{ Beginning::BYTES }>(0, first.as_mut_ptr().cast(), wanted)
    } {
        return false;
    }
    let beginning = Beginning::of(&zerocopy::transmute!(first), length);
    if beginning == Beginning::Neither && direction == Direction::Egress {
        return false;
    }
    let (skb, now_ns, way) = (packet.body.skb, packet.segment.now_ns, direction as u64);
    match (kind(sk), beginning) {
        (Kind::Listener, Beginning::Request) if !packet.is_syn() => {
            begin_request_of_none(skb, way);
        }
        (Kind::Listener | Kind::Other, _) => {}
        (Kind::Connection, Beginning::Neither) => {
            let awaited = awaited(sk);
            if packet.segment.sequence.wrapping_sub(awaited).cast_signed() > 0 {
                begin_behind_hole(skb, now_ns);
            }
        }
        (Kind::Connection, Beginning::Request) => {
            begin_request(skb, now_ns, way);
        }
        (Kind::Connection, Beginning::OtherResponse) => {
            let asked = openings::key(skb, direction.other());
            openings::remove(&OPENINGS, asked);
            if requests {
                openings::remove(&BEGUN, asked);
            }
        }
        (Kind::Connection, Beginning::Response) => {
            return begin_response(skb, now_ns, way) == GO_ON && go_on_response(packet, direction);
        }
    }
    false
}

/// Whether a packet begins like a request or a response.
#[inline(always)]
pub(crate) fn begins(packet: &Packet) -> bool {
    let mut first = [0u8; 4];
    // SAFETY: 4 bytes into 4; the helper refuses what is not there.
    let read = unsafe { packet.body.copy::<4>(0, first.as_mut_ptr(), 4) };
    read && (first == REQUEST_LINE || first == STATUS_LINE[..4])
}

/// The packet again, as the hook saw it.
#[inline(always)]
fn again(skb: *mut __sk_buff, now_ns: u64, way: u64) -> Option<(Packet, Direction)> {
    let mut packet = Packet::read(skb)?;
    packet.segment.now_ns = now_ns;
    let direction = if way & 1 == Direction::Egress as u64 {
        Direction::Egress
    } else {
        Direction::Ingress
    };
    Some((packet, direction))
}

/// What passes while an answer is awaited and is not the next byte may be frames that overtook the 101:
/// they are kept until it comes.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn begin_behind_hole(skb: *mut __sk_buff, now_ns: u64) -> u64 {
    let Some((packet, direction)) = again(skb, now_ns, Direction::Ingress as u64) else {
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
    // SAFETY: the storage of `sk`; see `storage::storage`.
    unsafe {
        (*socket).await_response(direction, awaited);
        if (*socket).stream(direction).arrive(&packet.segment) == Next::Early {
            keep::keep(&packet);
        }
    }
    NOTHING
}
