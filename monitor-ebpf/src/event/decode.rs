//! Reads what travels on the ring buffer.
//!
//! In: a record's bytes. Out: an [`Event`], or [`Malformed`].

use core::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use zerocopy::FromBytes as _;

use super::{
    CloseFrame, Closer, Event, Heads, Malformed, OfSession, RESPONSE_HEAD_MAX, Role, Side, Snapshot,
};
use crate::{
    socket::{ClosedBy, Identity, Socket},
    stream::Stream,
};

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
    use zerocopy::IntoBytes as _;

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
