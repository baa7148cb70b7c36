//! What travels on the ring buffer, and what it is read into (in `event/decode.rs`).
//!
//! In: a [`Socket`] as the kernel side keeps it, at an opening with the two heads behind it. Out,
//! on the daemon's side: plain values with the raw integers turned into types. Why an event was sent
//! is what is new in it. Ring bytes are input: a record that is too short or holds an unknown number
//! is [`Malformed`], never a guess. The layout is no promise; both halves ship in one file.

use core::{net::SocketAddr, time::Duration};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::socket::Socket;

mod decode;

/// Bytes of the request head that an `Opened` event carries at most.
pub const REQUEST_HEAD_MAX: usize = 2048;
/// Bytes of the response head that an `Opened` event carries at most.
pub const RESPONSE_HEAD_MAX: usize = 1024;

/// The WebSocket role of the local end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// The local end sent the upgrade request.
    Client = 1,
    /// The local end sent the 101.
    Server = 2,
}

/// Why the frames of a direction are not followed to their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// A frame header was in bytes that never passed, or passed out of order.
    Gap = 1,
    /// A frame broke RFC 6455 section 5.2 or 5.5: what follows is no WebSocket.
    InvalidFrame = 2,
    /// One packet held more frames than the budget for a packet.
    Budget = 3,
    /// The kernel did not hand out the bytes of a packet.
    Unreadable = 4,
    /// Another CPU was at work on the direction for too long, or this one with too many packets full of frames.
    Busy = 5,
    /// The connection's opening was not seen.
    Unseen = 6,
    /// A Close frame passed that TCP did not take. The daemon's conclusion, never the kernel side's.
    Refused = 7,
}

impl Lost {
    /// The reason that a number stands for; none for 0 and for those that stand for nothing.
    #[inline(always)]
    pub(crate) fn from_raw(raw: u8) -> Option<Self> {
        match raw {
            1 => Some(Self::Gap),
            2 => Some(Self::InvalidFrame),
            3 => Some(Self::Budget),
            4 => Some(Self::Unreadable),
            5 => Some(Self::Busy),
            6 => Some(Self::Unseen),
            _ => None,
        }
    }
}

/// The first Close frame that an end sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseFrame {
    /// When its last byte passed, since boot (CLOCK_BOOTTIME).
    pub at: Duration,
    /// The status code (RFC 6455 section 7.4); none when the body is shorter than two bytes.
    pub code: Option<u16>,
}

/// One direction of a connection: what one end sent. Times are since boot (CLOCK_BOOTTIME).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// The first Close frame.
    pub close: Option<CloseFrame>,
    /// The first segment with FIN.
    pub fin: Option<Duration>,
    /// The first segment with RST.
    pub rst: Option<Duration>,
    /// The first FIN of this end acknowledged the other end's FIN: it was sent in answer.
    pub fin_answers_fin: bool,
    /// Frames of every opcode whose header passed, up to the first Close frame, which counts too. Exact
    /// unless `missed` or `lost`.
    pub frames: u64,
    /// Frames may have passed that were not counted: this direction was lost at least once, or not
    /// followed from its beginning.
    pub missed: bool,
    /// Of those that were found after that, none has held data: a Close frame may have passed before them.
    pub only_control: bool,
    /// Why this direction is not followed now.
    pub lost: Option<Lost>,
    /// The receiving TCP did not have the first Close frame when more passed, and is not known to have it since.
    pub close_left: bool,
    /// What was told of the first Close frame before was taken back: TCP had left it.
    pub reread: bool,
}

/// The process that closed the local end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closer {
    /// Process id in the initial pid namespace.
    pub pid: u32,
    /// Thread id of the thread that called `close` or `shutdown`, or that exited.
    pub tid: u32,
    /// That thread's name, padded with NUL.
    pub comm: [u8; 16],
}

/// All that is known of one socket at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The socket cookie: the kernel's stable id of a socket; our key.
    pub cookie: u64,
    /// The cgroup v2 that the socket belongs to, by its id (the inode of its directory).
    pub cgroup_id: u64,
    /// The role of the local end.
    pub role: Role,
    /// The local address. IPv4-mapped addresses are IPv4.
    pub local: SocketAddr,
    /// The remote address. IPv4-mapped addresses are IPv4.
    pub remote: SocketAddr,
    /// When this snapshot was taken.
    pub taken: Duration,
    /// When the last byte of the 101 head passed; none when the connection was adopted: its opening was
    /// not seen.
    pub opened: Option<Duration>,
    /// When the socket reached TCP_CLOSE.
    pub ended: Option<Duration>,
    /// What the local end sent.
    pub sent: Side,
    /// What the remote end sent.
    pub received: Side,
    /// Smoothed round-trip time when the closing handshake was complete.
    pub rtt: Option<Duration>,
    /// Who closed the local end; none while nobody has, or when it ended without.
    pub closer: Option<Closer>,
    /// TLS hides the connection's bytes; what is known of them is from the plaintext that passed a library.
    pub tls: bool,
}

/// The TLS session that an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfSession {
    /// Its key in the map of sessions.
    pub number: u64,
    /// It turned out that it may not be this connection's: nothing is to be said of either.
    pub withheld: bool,
}

/// The heads of the opening handshake, as far as the bounds above let them through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heads<'a> {
    /// From the request line on; empty when the request was not seen whole and in order.
    pub request: &'a [u8],
    /// From the status line on; may hold bytes after the head's end.
    pub response: &'a [u8],
}

/// One record of the ring buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The socket's state.
    pub snapshot: Snapshot,
    /// The heads, with the event that tells of the opening. None of the two is there when the
    /// kernel's table of heads had no place for them.
    pub heads: Option<Heads<'a>>,
    /// The TLS session, where there is one.
    pub session: Option<OfSession>,
}

/// A ring record that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// An opening: what the kernel side keeps of the heads until the 101 is whole, and then sends.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Opening {
    /// The socket; from the request on, its cookie, which tells whose these heads are.
    pub socket: Socket,
    /// Bytes of the response head that are there.
    pub response_length: u32,
    /// Bytes of the request head that are there.
    pub request_length: u32,
    /// Sequence number after the request's last byte.
    pub request_end: u32,
    /// The request's last four bytes, the last one lowest: see [`ends_head`](crate::upgrade::ends_head).
    pub request_tail: u32,
    /// The response head's beginning.
    pub response: [u8; RESPONSE_HEAD_MAX],
    /// The request head's beginning. Last, so that the record ends with what is there of it.
    pub request: [u8; REQUEST_HEAD_MAX],
}

/// Bytes of an [`Opening`] before its request head.
pub const OPENING_FIXED: usize = size_of::<Opening>() - REQUEST_HEAD_MAX;

// The ring buffer aligns to 8 bytes; padding would not compile (`IntoBytes`).
const _: () = assert!(size_of::<Socket>() == 376 && size_of::<Opening>() == 376 + 16 + 3072);
