//! What travels on the ring buffer, and how it is read.
//!
//! In: the state of one socket, with the reason for telling it. Out, on the daemon's side: plain
//! values with the raw integers turned into types. Ring bytes are input: a record that is too short
//! or holds an unknown number is [`Malformed`], never a guess. The layout is no promise; both
//! halves ship in one file.

use core::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

/// Bytes of the request head that an `Opened` event carries at most.
pub const REQUEST_HEAD_MAX: usize = 2048;
/// Bytes of the response head that an `Opened` event carries at most.
pub const RESPONSE_HEAD_MAX: usize = 1024;

/// Why an event was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The 101 passed: a WebSocket exists from here. Carries the two heads.
    Opened = 1,
    /// An end sent its first Close frame.
    CloseFrame = 2,
    /// An end sent its first FIN or RST.
    End = 3,
    /// The socket reached TCP_CLOSE.
    Ended = 4,
    /// Nothing happened; the daemon asked what there is.
    Listed = 5,
}

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
    /// Frames of every opcode whose header passed, up to the first Close frame, which counts too.
    /// Exact unless `lost`.
    pub frames: u64,
    /// Why this direction is not followed any more.
    pub lost: Option<Lost>,
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
    /// When the last byte of the 101 head passed.
    pub opened: Option<Duration>,
    /// When the socket reached TCP_CLOSE, and from which state (`TCP_*` of the kernel's
    /// `tcp_states.h`).
    pub ended: Option<(Duration, u8)>,
    /// What the local end sent.
    pub sent: Side,
    /// What the remote end sent.
    pub received: Side,
    /// Smoothed round-trip time when the closing handshake was complete.
    pub rtt: Option<Duration>,
    /// Who closed the local end; none while nobody has, or when it ended without.
    pub closer: Option<Closer>,
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
    /// Why it was sent.
    pub reason: Reason,
    /// The socket's state.
    pub snapshot: Snapshot,
    /// Only with [`Reason::Opened`].
    pub heads: Heads<'a>,
}

/// A ring record that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;
