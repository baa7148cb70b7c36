//! Whose a TLS session is: the socket that sends the very records that its library wrote.

use core::mem::MaybeUninit;

use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock},
    helpers::generated::bpf_probe_read_user,
};
use monitor_ebpf::{
    counter::Counter,
    session::Session,
    tls::{self, MARKED},
};

use crate::{
    identity::{TCP_CLOSE_WAIT, TCP_LAST_ACK, awaited, identify, state},
    maps::TLS_RECORDS,
    openings,
    packet::Packet,
    report::{count, tell_session},
    sessions::{self, Object, session},
    source::Source as _,
    storage::{remember, storage},
};

/// A record that was written.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Record {
    session: u64,
    outlet: u64,
    /// Bytes that were written to the outlet before it.
    at: u64,
}

/// What the library hands to its transport.
pub(crate) struct Written {
    pub(crate) outlet: u64,
    pub(crate) data: u64,
    pub(crate) length: u32,
    /// It is plaintext, of which the kernel makes records.
    pub(crate) is_opaque: bool,
}

const NOTHING: u64 = 0;
const BOUND: u64 = 1;

/// Beside the length of what is written.
const OPAQUE: u64 = 1 << 32;

/// Notes what a session's library writes. The session that it belongs to now: a Hello behind plaintext begins
/// another.
#[inline(always)]
pub(crate) fn note_written(number: u64, written: &Written) -> u64 {
    let how = u64::from(written.length) | if written.is_opaque { OPAQUE } else { 0 };
    write(number, written.outlet, written.data, how)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn write(number: u64, outlet: u64, data: u64, how: u64) -> u64 {
    let length = how as u32;
    let mut words = MaybeUninit::<[u64; 3]>::uninit();
    let word = words.as_mut_ptr().cast::<u64>();
    // SAFETY: three words into three, and up to 21 bytes over them.
    let record: [u8; 24] = unsafe {
        for at in 0..3 {
            word.add(at).write_volatile(0);
        }
        if length >= MARKED {
            bpf_probe_read_user(word.cast(), MARKED, data as *const _);
        } else if length >= 5 {
            bpf_probe_read_user(word.cast(), 5, data as *const _);
        }
        zerocopy::transmute!(words.assume_init())
    };
    let is_long = length >= MARKED;
    let mut number = number;
    let Some(mut session) = session(number) else {
        return number;
    };
    // SAFETY: an entry of the table; see `sessions::session`.
    unsafe {
        if is_long && tls::is_hello(&record) && !(*session).note_hello() {
            number = sessions::begin(Object {
                address: (*session).object,
                process: (*session).process.into(),
            });
            let Some(another) = sessions::session(number) else {
                return number;
            };
            session = another;
            (*session).note_hello();
        }
        let [first, _] = tls::fingerprint(&record);
        let waits = (*session).socket.has_written_close();
        let at = (*session).wire.write(
            outlet,
            data + u64::from(length),
            length,
            first,
            how & OPAQUE != 0,
            !waits,
        );
        if is_long && how & OPAQUE == 0 && tls::has_fingerprint(&record) {
            let key = tls::fingerprint(&record);
            let record = Record {
                session: number,
                outlet,
                at: at.into(),
            };
            let _ = TLS_RECORDS.insert(key, record, 0);
        }
    }
    number
}

/// A packet that goes out begins like a record. Whether its socket is a session's, now or already.
#[inline(always)]
pub(crate) fn bind(packet: &Packet) -> bool {
    packet.segment.length >= MARKED && find_record(packet.body.skb) == BOUND
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find_record(skb: *mut __sk_buff) -> u64 {
    let Some(packet) = Packet::read(skb) else {
        return NOTHING;
    };
    if packet.segment.length < MARKED {
        return NOTHING;
    }
    let mut words = MaybeUninit::<[u64; 3]>::uninit();
    let word = words.as_mut_ptr().cast::<u64>();
    // SAFETY: three words into three, and 21 bytes over them.
    let bytes: [u8; 24] = unsafe {
        for at in 0..3 {
            word.add(at).write_volatile(0);
        }
        if !packet.body.copy::<MARKED>(0, word.cast(), MARKED) {
            return NOTHING;
        }
        zerocopy::transmute!(words.assume_init())
    };
    if !tls::has_fingerprint(&bytes) {
        return NOTHING;
    }
    let key = tls::fingerprint(&bytes);
    let Some(found) = TLS_RECORDS.get_ptr(key) else {
        return NOTHING;
    };
    // SAFETY: an entry of the table.
    let Record {
        session: number,
        outlet,
        at,
    } = unsafe { *found };
    // Who sends it later has it from this socket: a program that passes TLS on.
    let _ = TLS_RECORDS.remove(key);
    // SAFETY: the hook's own context, whose fields may be read.
    let sk = unsafe { (*skb).__bindgen_anon_2.sk };
    let Some(session) = session(number) else {
        return NOTHING;
    };
    if sk.is_null() {
        return NOTHING;
    }
    // SAFETY: an entry of the table; see `sessions::session`.
    unsafe {
        // It went out behind another record, where it was not looked for. A session that was followed from its Hello on is
        // certainly where that went out.
        let is_elsewhere =
            (*session).is_bound() && (*session).socket.identity.cookie != openings::cookie(skb);
        let has_gone_out = (*session).is_fresh() || (*session).wire.has_gone_out(outlet, at as u32);
        if is_elsewhere && tls::is_protected(&bytes) && has_gone_out {
            return NOTHING;
        }
        if !belongs(skb, sk, session, number, packet.segment.sequence) {
            return NOTHING;
        }
        (*session)
            .wire
            .found(outlet, at as u32, packet.segment.sequence);
    }
    BOUND
}

/// Whether a socket and a session belong together, from now on or before. Where each has another already, both are given
/// up.
#[inline(always)]
unsafe fn belongs(
    skb: *mut __sk_buff,
    sk: *mut bpf_sock,
    session: *mut Session,
    number: u64,
    sequence: u32,
) -> bool {
    let cookie = openings::cookie(skb);
    // SAFETY: the caller's: an entry of the table; and the storage of `sk`, see `storage::storage`.
    unsafe {
        if (*session).is_contradicted() {
            return false;
        }
        let known = storage(sk.cast(), 0);
        let mut claimed = 0;
        if let Some(socket) = known {
            if (*socket).is_sealed() {
                claimed = (*socket).session;
            } else if !(*socket).is_candidate() && !(*socket).is_blank() {
                return false;
            }
        }
        if claimed == number && (*session).is_bound() {
            return true;
        }
        let rival = if claimed == 0 || claimed == number {
            None
        } else {
            sessions::session(claimed)
        };
        let is_elsewhere = (*session).is_bound() && (*session).socket.identity.cookie != cookie;
        if is_elsewhere || rival.is_some() {
            count(Counter::TlsContradicted);
            contradict(session);
            if let Some(rival) = rival {
                contradict(rival);
            }
            return false;
        }
        // Its FIN has passed, and nobody knows when.
        let state = state(sk);
        if state == TCP_CLOSE_WAIT || state == TCP_LAST_ACK {
            return false;
        }
        let Some(socket) = remember(sk) else {
            count(Counter::SocketLost);
            return false;
        };
        let Some(identity) = identify(sk, cookie) else {
            count(Counter::SocketLost);
            return false;
        };
        (*socket).seal(number, sequence, awaited(sk));
        (*session).bind(identity);
        count(Counter::TlsBound);
        if (*session).socket.is_open() {
            tell_session(session, Counter::EventLost);
        }
    }
    true
}

#[inline(always)]
unsafe fn contradict(session: *mut Session) {
    // SAFETY: the caller's: an entry of the table; see `sessions::session`.
    unsafe {
        (*session).contradict();
        if (*session).socket.is_open() && (*session).socket.identity.cookie != 0 {
            tell_session(session, Counter::EventLost);
        }
    }
}
