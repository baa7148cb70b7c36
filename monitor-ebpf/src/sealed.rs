//! Packets of connections that carry TLS: what TCP shows of their end, and when records pass.

use aya_ebpf::bindings::{__sk_buff, bpf_sock};
use monitor_ebpf::{
    counter::Counter,
    session::{Received, Session},
    socket::{Direction, Socket},
    stream::{Segment, Stream, WINDOW_MAX},
    tls,
};

use crate::{
    binding,
    identity::{awaited, rtt_us},
    packet::{Numbers, Packet, now_ns},
    plaintext,
    report::tell_session,
    segments::count_lost,
    sessions::{self, session},
    source::first_bytes,
    storage::of_packet,
};

/// Beside a packet's way: see `Numbers`.
const FIN: u64 = 1 << 40;
const RST: u64 = 1 << 41;
const ALERT: u64 = 1 << 42;

/// A packet of a sealed socket.
#[inline(always)]
pub(crate) fn observe(packet: &mut Packet, direction: Direction) {
    let length = packet.segment.length;
    let mut how = 0;
    if length != 0 {
        let wanted = if length < 16 { length } else { 16 };
        if let Some(first) = first_bytes(&packet.body, wanted) {
            if direction == Direction::Egress && tls::begins_record(&first) {
                binding::bind(packet);
            }
            if tls::is_alert(&first, length) {
                how |= ALERT;
            }
        }
    }
    packet.ask_when();
    if packet.segment.fin {
        how |= FIN;
    }
    if packet.segment.rst {
        how |= RST;
    }
    let Numbers { place, now_ns, way } = packet.numbers(direction);
    let acknowledges = packet.segment.acknowledges.into();
    pass(packet.body.skb, place, now_ns, way | how, acknowledges);
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pass(
    skb: *mut __sk_buff,
    place: u64,
    now_ns: u64,
    how: u64,
    acknowledges: u64,
) -> u64 {
    let Some((sk, socket)) = of_packet(skb) else {
        return 0;
    };
    let way = how & !(FIN | RST | ALERT);
    let (_, mut segment, direction) = Numbers { place, now_ns, way }.packet(skb);
    segment.acknowledges = acknowledges as u32;
    segment.fin = how & FIN != 0;
    segment.rst = how & RST != 0;
    if segment.rst && direction == Direction::Ingress {
        segment.awaited = awaited(sk);
    }
    // SAFETY: the storage of `sk`, see `storage::storage`, and an entry of the table, see `sessions::session`.
    unsafe {
        (*socket).pass_sealed(direction, &segment);
        let Some(session) = session((*socket).session) else {
            return 0;
        };
        let before = (*session).facts();
        if segment.length != 0 {
            let end = segment.sequence.wrapping_add(segment.length);
            if direction == Direction::Egress {
                if (*session).wire.go_out(end, now_ns) && (*session).is_opening() {
                    plaintext::went_out(session);
                }
            } else if is_taken(sk, socket, &segment) {
                let received = if how & ALERT != 0 {
                    Received::Alert
                } else {
                    Received::Records
                };
                (*session).wire.come_in(end, received, now_ns);
            }
        }
        (*session).note_ends(&*socket);
        if (*session).has_ended() {
            finish(session);
        }
        settle(sk, session, before);
    }
    0
}

/// Whether TCP may take a segment that comes in: it acknowledges what was sent, and is not beyond any window.
#[inline(always)]
unsafe fn is_taken(sk: *mut bpf_sock, socket: *mut Socket, segment: &Segment) -> bool {
    let end = segment.sequence.wrapping_add(segment.length);
    let ahead = end.wrapping_sub(awaited(sk)).cast_signed();
    // SAFETY: the caller's: the storage of `sk`; see `storage::storage`.
    let sent: *mut Stream = unsafe { (*socket).stream(Direction::Egress) };
    // SAFETY: as above.
    ahead <= WINDOW_MAX && unsafe { (*sent).can_be_acknowledged(segment.acknowledges) }
}

/// Tells the daemon when a packet brought a new fact.
#[inline(always)]
unsafe fn settle(sk: *mut bpf_sock, session: *mut Session, facts_before: u32) {
    // SAFETY: the caller's: an entry of the table; see `sessions::session`.
    unsafe {
        if !(*session).socket.is_open() || (*session).facts() == facts_before {
            return;
        }
        if (*session).wants_rtt()
            && let Some(rtt_us) = rtt_us(sk)
        {
            (*session).note_rtt(rtt_us);
        }
        let lost = if (*session).has_ended() {
            Counter::EndLost
        } else {
            Counter::EventLost
        };
        tell_session(session, lost);
    }
}

/// The end of a sealed socket, which its process has read up to `consumed`, if that is known.
#[inline(always)]
pub(crate) unsafe fn end(socket: *mut Socket, consumed: Option<u32>) {
    // SAFETY: the caller's: the storage of a socket, see `storage::storage`; and an entry of the table, see
    // `sessions::session`.
    unsafe {
        if (*socket).has_ended() {
            return;
        }
        (*socket).end(now_ns());
        let number = (*socket).session;
        let Some(session) = session(number) else {
            return;
        };
        (*session).note_ends(&*socket);
        if let Some(consumed) = consumed {
            (*session).wire.note_consumed(consumed);
        }
        if !(*session).socket.is_open() || (*session).is_opening() {
            sessions::remove(number);
            return;
        }
        finish(session);
        if tell_session(session, Counter::EndLost) {
            (*socket).note_end_told();
        }
    }
}

#[inline(always)]
unsafe fn finish(session: *mut Session) {
    // SAFETY: the caller's: an entry of the table; see `sessions::session`.
    unsafe {
        let before = (*session).socket.lost();
        (*session).finish();
        count_lost(&raw mut (*session).socket, before);
    }
}
