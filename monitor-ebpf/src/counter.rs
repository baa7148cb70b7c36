//! What the kernel side could not see, and what it found all the same, counted per CPU.
//!
//! The daemon reads these at every scrape; each has its metric.

use crate::{
    event::{Lost, Role},
    socket::Direction,
};

/// Places in the map of counters.
pub const COUNTERS: u32 = 30;

/// Something that was lost or found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// An event found the ring buffer full.
    EventLost,
    /// The end of a connection found the ring buffer full: its record is missing.
    EndLost,
    /// The kernel refused the storage for a socket.
    SocketLost,
    /// A response head had a hole.
    ResponseGap,
    /// A response head was longer than 16 KiB.
    ResponseTooLong,
    /// A request head had a hole.
    RequestGap,
    /// A `101` answered no request that is known.
    ResponseUnasked,
    /// An end closed before the `101`.
    ClosedBefore,
    /// Frames of a direction are not followed any more.
    StreamLost(Direction, Lost),
    /// Frames of a lost direction were found again.
    Relocked(Direction),
    /// A connection whose opening was not seen is watched for a WebSocket's frames.
    Candidate,
    /// Such a connection is no WebSocket.
    Rejected,
    /// Such a connection ended before it had shown whether it is one.
    Undecided,
    /// What a socket sent with a `101` bears other sequence numbers than the socket's own.
    Renumbered,
    /// A connection began with TLS, in which a local end plays this role: what it carries is not seen.
    Tls(Role),
    /// A TLS session's connection was found.
    TlsBound,
    /// What was taken for a TLS session's connection may be another's: of both nothing more is told.
    TlsContradicted,
    /// A WebSocket's TLS session ended, and its connection was not found.
    TlsUnbound,
    /// There was no room for another TLS session.
    TlsNoRoom,
}

impl Counter {
    /// Every counter.
    pub const ALL: [Self; 30] = [
        Self::EventLost,
        Self::EndLost,
        Self::SocketLost,
        Self::ResponseGap,
        Self::ResponseTooLong,
        Self::RequestGap,
        Self::ResponseUnasked,
        Self::ClosedBefore,
        Self::StreamLost(Direction::Egress, Lost::Gap),
        Self::StreamLost(Direction::Egress, Lost::InvalidFrame),
        Self::StreamLost(Direction::Egress, Lost::Budget),
        Self::StreamLost(Direction::Egress, Lost::Unreadable),
        Self::StreamLost(Direction::Egress, Lost::Busy),
        Self::StreamLost(Direction::Ingress, Lost::Gap),
        Self::StreamLost(Direction::Ingress, Lost::InvalidFrame),
        Self::StreamLost(Direction::Ingress, Lost::Budget),
        Self::StreamLost(Direction::Ingress, Lost::Unreadable),
        Self::StreamLost(Direction::Ingress, Lost::Busy),
        Self::Relocked(Direction::Egress),
        Self::Relocked(Direction::Ingress),
        Self::Candidate,
        Self::Rejected,
        Self::Undecided,
        Self::Renumbered,
        Self::Tls(Role::Client),
        Self::Tls(Role::Server),
        Self::TlsBound,
        Self::TlsContradicted,
        Self::TlsUnbound,
        Self::TlsNoRoom,
    ];

    /// The place of a lost direction, by the number of its reason, from [`Lost::Gap`] to [`Lost::Busy`]: no
    /// other makes one of a WebSocket lost.
    #[inline(always)]
    #[must_use]
    pub const fn stream_lost(direction: Direction, why: u8) -> u32 {
        match direction {
            Direction::Egress => 7 + why as u32,
            Direction::Ingress => 12 + why as u32,
        }
    }

    /// Its place in the map.
    #[inline(always)]
    #[must_use]
    pub const fn index(self) -> u32 {
        match self {
            Self::EventLost => 0,
            Self::EndLost => 1,
            Self::SocketLost => 2,
            Self::ResponseGap => 3,
            Self::ResponseTooLong => 4,
            Self::RequestGap => 5,
            Self::ResponseUnasked => 6,
            Self::ClosedBefore => 7,
            Self::StreamLost(direction, why) => Self::stream_lost(direction, why as u8),
            Self::Relocked(direction) => 18 + direction as u32,
            Self::Candidate => 20,
            Self::Rejected => 21,
            Self::Undecided => 22,
            Self::Renumbered => 23,
            Self::Tls(Role::Client) => 24,
            Self::Tls(Role::Server) => 25,
            Self::TlsBound => 26,
            Self::TlsContradicted => 27,
            Self::TlsUnbound => 28,
            Self::TlsNoRoom => 29,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_a_place_of_its_own() {
        let mut places: Vec<u32> = Counter::ALL.iter().map(|counter| counter.index()).collect();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), Counter::ALL.len());
        assert!(places.iter().all(|place| *place < COUNTERS));
    }
}
