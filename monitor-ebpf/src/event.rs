//! What travels on the ring buffer, and how it is read.
//!
//! In: a [`Socket`] as the kernel side keeps it, at an opening with the two heads behind it. Out,
//! on the daemon's side: plain values with the raw integers turned into types. Why an event was sent
//! is what is new in it. Ring bytes are input: a record that is too short or holds an unknown number
//! is [`Malformed`], never a guess. The layout is no promise; both halves ship in one file.

use core::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    socket::{ClosedBy, Identity, Socket},
    stream::Stream,
};

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

impl<'a> Event<'a> {
    /// Reads a ring record.
    ///
    /// # Errors
    ///
    /// When it is shorter than it says, or holds a number that stands for nothing.
    pub fn decode(record: &'a [u8]) -> Result<Self, Malformed> {
        let (socket, rest) = Socket::read_from_prefix(record).map_err(|_| Malformed)?;
        let snapshot = Snapshot::of(&socket)?;
        let heads = if rest.is_empty() {
            None
        } else {
            Some(Heads::decode(rest)?)
        };
        let session = (socket.session != 0).then_some(OfSession {
            number: socket.session,
            withheld: socket.is_withheld(),
        });
        Ok(Self {
            snapshot,
            heads,
            session,
        })
    }
}

impl<'a> Heads<'a> {
    fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (response_length, bytes) = u32::read_from_prefix(bytes).map_err(|_| Malformed)?;
        let (request_length, bytes) = u32::read_from_prefix(bytes).map_err(|_| Malformed)?;
        let (_, bytes) = <[u32; 2]>::read_from_prefix(bytes).map_err(|_| Malformed)?;
        let (response, request) = bytes.split_at_checked(RESPONSE_HEAD_MAX).ok_or(Malformed)?;
        Ok(Self {
            response: response.get(..response_length as usize).ok_or(Malformed)?,
            request: request.get(..request_length as usize).ok_or(Malformed)?,
        })
    }
}

impl Snapshot {
    /// Turns the raw integers into types.
    fn of(socket: &Socket) -> Result<Self, Malformed> {
        let role = match socket.role {
            1 => Role::Client,
            2 => Role::Server,
            _ => return Err(Malformed),
        };
        let identity = &socket.identity;
        Ok(Self {
            cookie: identity.cookie,
            cgroup_id: identity.cgroup_id,
            role,
            local: endpoint(identity, &identity.local_address, identity.local_port),
            remote: endpoint(identity, &identity.remote_address, identity.remote_port),
            taken: Duration::from_nanos(socket.taken_ns),
            opened: time(socket.opened_ns),
            ended: time(socket.ended_ns),
            sent: Side::of(socket.sent(), socket.received())?,
            received: Side::of(socket.received(), socket.sent())?,
            rtt: (socket.rtt_us != 0).then(|| Duration::from_micros(socket.rtt_us.into())),
            closer: Closer::of(&socket.closed_by),
            tls: socket.session != 0,
        })
    }
}

impl Side {
    fn of(stream: &Stream, other: &Stream) -> Result<Self, Malformed> {
        let lost = stream.lost();
        if lost.is_none() && stream.lost != 0 {
            return Err(Malformed);
        }
        let code = (stream.has_code != 0).then_some(stream.code);
        Ok(Self {
            close: time(stream.close_ns)
                .filter(|_| stream.believes_close(other))
                .map(|at| CloseFrame { at, code }),
            fin: time(stream.fin_ns).filter(|_| stream.has_fin()),
            rst: time(stream.rst_ns),
            fin_answers_fin: stream.fin_answers_fin != 0,
            frames: stream.frames,
            missed: stream.has_missed(),
            only_control: stream.has_shown_only_control(),
            lost,
            close_left: stream.is_close_left(),
            reread: stream.is_reread(),
        })
    }
}

impl Closer {
    fn of(by: &ClosedBy) -> Option<Self> {
        // A kernel worker closes what a process left behind (io_uring, delayed `fput`): whose, it
        // does not tell.
        let is_worker = by.comm.starts_with(b"kworker/");
        (by.pid != 0 && !is_worker).then_some(Self {
            pid: by.pid,
            tid: by.tid,
            comm: by.comm,
        })
    }
}

/// A time that is there, when it is not 0.
fn time(ns: u64) -> Option<Duration> {
    (ns != 0).then(|| Duration::from_nanos(ns))
}

fn endpoint(identity: &Identity, address: &[u8; 16], port: u16) -> SocketAddr {
    let address = if identity.is_ipv6 != 0 {
        IpAddr::V6(Ipv6Addr::from(*address)).to_canonical()
    } else {
        IpAddr::V4(Ipv4Addr::new(
            address[0], address[1], address[2], address[3],
        ))
    };
    SocketAddr::new(address, port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        socket::{Direction, Phase},
        stream::Segment,
    };

    fn open() -> Socket {
        let mut socket = Socket::default();
        let head = Segment {
            sequence: 1,
            acknowledges: 9,
            length: 1,
            now_ns: 5,
            ..Segment::default()
        };
        socket.begin(Phase::Response, Direction::Egress, &head);
        socket.stream(Direction::Egress).skip(&head);
        socket.open(Direction::Egress, &head, true, 9);
        socket
    }

    #[test]
    fn a_record_says_what_the_socket_says() {
        let mut socket = open();
        socket.identity = Identity {
            cookie: 7,
            is_ipv6: 1,
            local_address: Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets(),
            remote_address: Ipv6Addr::LOCALHOST.octets(),
            local_port: 80,
            remote_port: 40_000,
            ..Identity::default()
        };
        socket.end(77);
        let record = socket.as_bytes();
        let event = Event::decode(record).expect("whole");
        assert_eq!(event.heads, None);
        let snapshot = event.snapshot;
        assert_eq!((snapshot.cookie, snapshot.role), (7, Role::Server));
        assert_eq!(snapshot.local, "127.0.0.1:80".parse().expect("an address"));
        assert_eq!(snapshot.remote, "[::1]:40000".parse().expect("an address"));
        assert_eq!(snapshot.opened, Some(Duration::from_nanos(5)));
        assert_eq!(snapshot.ended, Some(Duration::from_nanos(77)));
        assert_eq!(
            (snapshot.sent, snapshot.received),
            (Side::default(), Side::default())
        );
        assert_eq!((snapshot.rtt, snapshot.closer), (None, None));
    }

    #[test]
    fn heads_come_behind_and_end_with_the_request() {
        let mut record = open().as_bytes().to_vec();
        record.extend(3u32.to_ne_bytes());
        record.extend(2u32.to_ne_bytes());
        record.extend([0; 8]);
        let mut response = [0; RESPONSE_HEAD_MAX];
        response[..3].copy_from_slice(b"RES");
        record.extend(response);
        record.extend(b"RE");
        let event = Event::decode(&record).expect("whole");
        assert_eq!(
            event.heads,
            Some(Heads {
                request: b"RE",
                response: b"RES"
            })
        );
        record.pop();
        assert_eq!(Event::decode(&record), Err(Malformed), "less than it says");
    }

    #[test]
    fn what_is_short_or_no_socket_is_malformed() {
        let socket = open();
        let record = socket.as_bytes();
        for length in 0..record.len() {
            assert_eq!(
                Event::decode(&record[..length]),
                Err(Malformed),
                "{length} bytes"
            );
        }
        assert_eq!(
            Event::decode(Socket::default().as_bytes()),
            Err(Malformed),
            "no role"
        );
    }
}
