//! The tables of heads: requests that wait for their response, and requests that have only begun.
//!
//! An entry belongs to a socket and to the direction of its request: a response opens a WebSocket only
//! where a request went the other way.

use aya_ebpf::{
    bindings::__sk_buff, btf_maps::LruHashMap, helpers::generated::bpf_get_socket_cookie,
};
use monitor_ebpf::{event::Opening, socket::Direction};

use crate::maps::{BEGUN, NO_OPENING, OPENINGS};

pub(crate) mod request;
pub(crate) mod response;

/// One of the tables.
pub(crate) type Table<const N: usize> = LruHashMap<u64, Opening, N>;

/// The key of a request that went in `direction`. Cookies are counted up from 1 and never get near the
/// bits that tell directions, and requests of sockets that do not exist yet, apart.
#[inline(always)]
pub(crate) fn key(skb: *mut __sk_buff, direction: Direction) -> u64 {
    cookie(skb) | (direction as u64 + 1) << 61
}

/// The cookie of a packet's socket.
#[inline(always)]
pub(crate) fn cookie(skb: *mut __sk_buff) -> u64 {
    // SAFETY: the hook's own context.
    unsafe { bpf_get_socket_cookie(skb.cast()) }
}

/// An entry for this key, empty or with what it held.
///
/// The table is preallocated, so the memory stays an entry's; but in a flood of requests the kernel may
/// give it to another key while it is being written. Whoever writes puts the key into it last, and
/// whoever reads asks for the key ([`own`]): what could then still be mixed up is two heads that were
/// written at the very same moment.
#[inline(always)]
pub(crate) fn new<const N: usize>(table: &Table<N>, key: u64) -> Option<*mut Opening> {
    if let Some(opening) = table.get_ptr_mut(key) {
        return Some(opening);
    }
    let empty = NO_OPENING.get(0)?;
    table.insert(key, empty, 0).ok()?;
    table.get_ptr_mut(key)
}

/// The entry of this key, when there is one.
#[inline(always)]
pub(crate) fn own<const N: usize>(table: &Table<N>, key: u64) -> Option<*mut Opening> {
    let opening = table.get_ptr_mut(key)?;
    // SAFETY: an entry of the table; see `new`.
    (unsafe { (*opening).socket.identity.cookie } == key).then_some(opening)
}

/// Gives the entry of `begun`, when there is one, to the request that waits as `waiting`.
#[inline(always)]
pub(crate) fn settle(begun: u64, waiting: u64) {
    let Some(opening) = own(&BEGUN, begun) else {
        return;
    };
    // SAFETY: an entry of the table, see `new`; the kernel copies it.
    unsafe {
        (*opening).socket.identity.cookie = waiting;
        let opening: &Opening = &*opening;
        let _ = OPENINGS.insert(waiting, opening, 0);
    }
    remove(&BEGUN, begun);
}

/// Removes the entry of this key, if there is one.
#[inline(always)]
pub(crate) fn remove<const N: usize>(table: &Table<N>, key: u64) {
    // Mostly there is none, which the kernel says sooner to who only looks.
    if table.get_ptr(key).is_some() {
        let _ = table.remove(key);
    }
}
