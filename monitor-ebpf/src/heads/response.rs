//! The head of a response: read to its end, where a `101` opens a WebSocket.

use aya_ebpf::bindings::{__sk_buff, bpf_sock};
use monitor_ebpf::{
    counter::Counter,
    socket::{Direction, Phase, Socket},
    upgrade::{Beginning, Scan},
};

use super::{ENTERS, GO_ON, KNOWN, NOTHING, again, is_first};
use crate::{
    candidates,
    identity::{identify, is_open, is_own_number, sent},
    maps::OPENINGS,
    openings::{
        self,
        response::{self, READ},
    },
    packet::{Numbers, Packet},
    report::{count, tell, tell_opening},
    storage::{forget, leave, of_packet, remember},
};

const OPENED: u64 = 2;

#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn begin_response(skb: *mut __sk_buff, now_ns: u64, way: u64) -> u64 {
    let Some((packet, direction)) = again(skb, now_ns, way) else {
        return NOTHING;
    };
    // SAFETY: the hook's own context, whose fields may be read.
    let sk = unsafe { (*skb).__bindgen_anon_2.sk };
    if sk.is_null() {
        return NOTHING;
    }
    let asked = openings::key(skb, direction.other());
    if openings::own(&OPENINGS, asked).is_none() {
        openings::settle(asked, asked);
    }
    if openings::own(&OPENINGS, asked).is_none()
        && let Some(place) = packet.remote_place(direction, packet.segment.acknowledges)
    {
        openings::settle(place, asked);
    }
    let Some(opening) = openings::own(&OPENINGS, asked) else {
        if packet.segment.length >= Beginning::BYTES {
            let socket = remember(sk);
            if let Some(socket) = socket
                && way & ENTERS != 0
                && !is_first(skb, socket)
            {
                return KNOWN;
            }
            count(Counter::ResponseUnasked);
            if let Some(socket) = socket {
                candidates::begin(&packet, sk, socket, direction);
                if way & ENTERS != 0 {
                    leave(socket);
                }
            }
        }
        return NOTHING;
    };
    // SAFETY: an entry of the table; see `openings::new`.
    unsafe { (*opening).response_length = 0 };
    let Some(socket) = remember(sk) else {
        count(Counter::SocketLost);
        openings::remove(&OPENINGS, asked);
        return NOTHING;
    };
    if way & ENTERS != 0 && !is_first(skb, socket) {
        return KNOWN;
    }
    // SAFETY: the storage of `sk`; see `storage::storage`.
    unsafe { (*socket).begin(Phase::Response, direction, &packet.segment) };
    GO_ON
}

/// Reads more of a response. Whether its head is whole and opened a WebSocket.
#[inline(always)]
pub(crate) fn go_on_response(packet: &Packet, direction: Direction) -> bool {
    read_response(packet.body.skb, packet.segment.now_ns, direction as u64) == OPENED
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_response(skb: *mut __sk_buff, now_ns: u64, way: u64) -> u64 {
    let Some((packet, direction)) = again(skb, now_ns, way) else {
        return NOTHING;
    };
    let Some((sk, socket)) = of_packet(skb) else {
        return NOTHING;
    };
    let asked = openings::key(skb, direction.other());
    let Numbers { place, way, .. } = packet.numbers(direction);
    let scan = read_all_response(skb, place, way);
    if scan == Scan::WebSocket as u64 {
        return open(&packet, sk, socket, direction);
    }
    if scan == Scan::TooLong as u64 {
        count(Counter::ResponseTooLong);
    } else if scan == READ {
        // SAFETY: the storage of `sk`; see `storage::storage`.
        let stream = unsafe { (*socket).stream(direction) };
        if stream.keeps_early() {
            // The rest of the head is among what was kept, where only frames are looked for.
            count(Counter::ResponseGap);
            openings::remove(&OPENINGS, asked);
            candidates::begin(&packet, sk, socket, direction);
        }
        return NOTHING;
    }
    openings::remove(&OPENINGS, asked);
    forget(sk);
    NOTHING
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_all_response(skb: *mut __sk_buff, place: u64, way: u64) -> u64 {
    response::read_all(|| read_many_response(skb, place, way))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_many_response(skb: *mut __sk_buff, place: u64, way: u64) -> u64 {
    response::read_many(|| read_some_response(skb, place, way))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_some_response(skb: *mut __sk_buff, place: u64, way: u64) -> u64 {
    let numbers = Numbers {
        place,
        now_ns: 0,
        way,
    };
    let (body, segment, direction) = numbers.packet(skb);
    let Some((_, socket)) = of_packet(skb) else {
        return READ;
    };
    let opening = openings::own(&OPENINGS, openings::key(skb, direction.other()));
    // SAFETY: the storage of the packet's socket, see `storage::storage`, and an entry of the table.
    unsafe { response::read_some(&body, &segment, direction, socket, opening) }
}

#[inline(always)]
fn open(packet: &Packet, sk: *mut bpf_sock, socket: *mut Socket, direction: Direction) -> u64 {
    let asked = openings::key(packet.body.skb, direction.other());
    let opening = openings::own(&OPENINGS, asked);
    // An end that closed before the 101 did so unseen: what follows could not be told truly.
    if !is_open(sk) {
        count(Counter::ClosedBefore);
        openings::remove(&OPENINGS, asked);
        forget(sk);
        return NOTHING;
    }
    // Then nothing that comes in could be compared with what went out.
    if direction == Direction::Egress && !is_own_number(sk, packet.segment.sequence) {
        count(Counter::Renumbered);
        openings::remove(&OPENINGS, asked);
        forget(sk);
        return NOTHING;
    }
    let Some(identity) = identify(sk, openings::cookie(packet.body.skb)) else {
        count(Counter::SocketLost);
        openings::remove(&OPENINGS, asked);
        forget(sk);
        return NOTHING;
    };
    // SAFETY: the storage of `sk`, see `storage::storage`, and an entry of the table.
    unsafe {
        (*socket).identity = identity;
        let acknowledges = packet.segment.acknowledges;
        let nothing_between =
            opening.is_some_and(|opening| response::answers(opening, acknowledges));
        (*socket).open(direction, &packet.segment, nothing_between, sent(sk));
        match opening {
            Some(opening) => {
                // Then it may be another request's.
                if !nothing_between {
                    (*opening).request_length = 0;
                }
                (*opening).socket = *socket;
                tell_opening(opening);
                openings::remove(&OPENINGS, asked);
            }
            None => {
                tell(socket, Counter::EventLost);
            }
        }
    }
    OPENED
}
