//! Every map, its size and why. These are all the memory that the kernel side takes.

use aya_ebpf::{
    btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, ProgramArray, RingBuf, SkStorage},
    macros::btf_map,
};
use monitor_ebpf::{
    counter::COUNTERS, early::Early, event::Opening, session::Session, socket::Socket,
    window::Window,
};

use crate::{
    binding::Record,
    sessions::{Call, Object},
};

/// What is remembered of a socket: 376 bytes, and the kernel's 64 to 80 around them, only for
/// sockets that opened a WebSocket, are about to, or may be one that was open before. It goes with the
/// socket.
#[btf_map]
pub(crate) static SOCKETS: SkStorage<Socket> = SkStorage::new();

/// The heads of requests that wait for their response and may ask for a WebSocket: see `openings.rs`. 4,096 × 3.4 KiB = 14 MiB; when
/// more than that many requests of a host wait at once, the oldest heads go, and a `101` that answers one
/// of them is counted and not followed.
#[btf_map]
pub(crate) static OPENINGS: LruHashMap<u64, Opening, 4096> = LruHashMap::new();

/// The same of requests that are not whole yet, or that came before their socket: 2,048 × 3.4 KiB = 7 MiB.
/// Such requests cost a stranger nothing, so they have no place among the others, which they would push
/// out.
#[btf_map]
pub(crate) static BEGUN: LruHashMap<u64, Opening, 2048> = LruHashMap::new();

/// To make entries of [`OPENINGS`] and [`BEGUN`]: they are too large for the stack.
#[btf_map]
pub(crate) static NO_OPENING: Array<Opening, 1> = Array::new();

/// Segments that passed before their turn, by socket cookie. 128 × 33 KiB = 4.2 MiB: for 128 directions
/// that are in disorder at one time. When there are more, the oldest lose theirs.
#[btf_map]
pub(crate) static EARLY: LruHashMap<u64, Early, 128> = LruHashMap::new();

/// To make entries of [`EARLY`].
#[btf_map]
pub(crate) static NOTHING_EARLY: Array<Early, 1> = Array::new();

/// What a socket that may be a WebSocket is remembered as at first; the daemon puts it there.
#[btf_map]
pub(crate) static CANDIDATE: Array<Socket, 1> = Array::new();

/// What packets full of short frames are read with: see `window.rs`. A CPU that is at work with one may be interrupted
/// by a packet, and that by another. 4 × 288 bytes a CPU.
#[btf_map]
pub(crate) static WINDOWS: PerCpuArray<Window, { WINDOWS_MAX as usize }> = PerCpuArray::new();
pub(crate) const WINDOWS_MAX: u32 = 4;

/// Bytes of the ring buffer: a power of two, as the kernel wants it.
pub(crate) const EVENTS_BYTES: usize = 4 << 20;

/// Events to the daemon. An opening takes 1.6 KiB and each of the four or five changes after it 368
/// bytes, so this holds what some 1,200 connections tell from their opening to their end while the
/// daemon is not scheduled, and then, of another 6,000, the ends.
#[btf_map]
pub(crate) static EVENTS: RingBuf<Socket, EVENTS_BYTES> = RingBuf::new();

/// What could not be seen: see `monitor_ebpf::counter`.
#[btf_map]
pub(crate) static COUNTS: PerCpuArray<u64, { COUNTERS as usize }> = PerCpuArray::new();

/// TLS sessions, by a number of their own. 65,536 × 0.7 KiB = 46 MiB: preallocated, for kernels before 6.1 take no other map
/// from a uprobe. When it is full, further sessions are counted and not followed. An entry goes with the library's object
/// or, when it is bound, after the end of its connection; the daemon removes what neither does. The maps of TLS have one entry
/// where TLS is not followed.
#[btf_map]
pub(crate) static TLS_SESSIONS: HashMap<u64, Session, 65_536> = HashMap::new();

/// To make entries of [`TLS_SESSIONS`].
#[btf_map]
pub(crate) static TLS_NO_SESSION: Array<Session, 1> = Array::new();

/// The session of a library's object. An object that nobody freed, for its process died, goes when others need the room.
#[btf_map]
pub(crate) static TLS_OBJECTS: LruHashMap<Object, u64, 65_536> = LruHashMap::new();

/// Calls into a library that have not returned, by thread.
#[btf_map]
pub(crate) static TLS_CALLS: LruHashMap<u64, Call, 16_384> = LruHashMap::new();

/// Records that were written and have not gone out, by their fingerprint. 16,384 × 100 bytes = 1.6 MiB.
#[btf_map]
pub(crate) static TLS_RECORDS: LruHashMap<[u64; 2], Record, 16_384> = LruHashMap::new();

/// To hand out the state of a sealed socket with.
#[btf_map]
pub(crate) static TLS_LISTED: PerCpuArray<Socket, 1> = PerCpuArray::new();

/// Of programs to go on with; it has none: see `uprobes.rs`.
#[btf_map]
pub(crate) static TLS_NOWHERE: ProgramArray<1> = ProgramArray::new();
