//! What could not be seen, or was found all the same: by the kernel side, in its ring, by searching its sockets.

use anyhow::Result;
use monitor_ebpf::{counter::Counter, event::Lost, socket::Direction};
use prometheus::{IntCounter, IntCounterVec, Registry, core::Collector};

use super::register::{counter, counters, raise};
use crate::{
    heads::{Missing, Unparsed},
    labels::{direction_name, lost_name},
    outcome::role_name,
};

/// The result of a TLS session whose connection is known: nothing of it is lost.
pub(super) const BOUND: &str = "bound";

pub(crate) struct Sight {
    events_lost: IntCounterVec,
    sockets_lost: IntCounterVec,
    streams_lost: IntCounterVec,
    streams_relocked: IntCounterVec,
    candidates: IntCounter,
    candidates_rejected: IntCounter,
    candidates_undecided: IntCounter,
    heads_unparsed: IntCounterVec,
    servers_folded: IntCounter,
    connections_swept: IntCounter,
    searches_failed: IntCounterVec,
    tls_connections: IntCounterVec,
    tls_sessions: IntCounterVec,
}

/// What the kernel's sockets are searched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Search {
    /// Connections that were open already.
    Open,
    /// Connections that ended unseen.
    Ended,
}

impl Search {
    fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Ended => "ended",
        }
    }
}

impl Sight {
    pub(super) fn new(r: &Registry) -> Result<Self> {
        let metrics = Self {
            events_lost: counters(
                r,
                "events_lost_total",
                "Kernel events that did not reach the daemon.",
                &["reason"],
            )?,
            sockets_lost: counters(
                r,
                "sockets_lost_total",
                "WebSocket connections that could not be followed from their opening on.",
                &["reason"],
            )?,
            streams_lost: counters(
                r,
                "streams_lost_total",
                "Times that the frames of a direction could not be followed any further.",
                &["direction", "reason"],
            )?,
            streams_relocked: counters(
                r,
                "streams_relocked_total",
                "Times that the frames of a lost direction were found again.",
                &["direction"],
            )?,
            candidates: counter(
                r,
                "adoption_candidates_total",
                "TCP connections that are or were watched for the frames of a WebSocket, because their opening was not seen.",
            )?,
            candidates_rejected: counter(
                r,
                "adoption_rejected_total",
                "Such connections that turned out to be something else.",
            )?,
            candidates_undecided: counter(
                r,
                "adoption_undecided_total",
                "Such connections that ended before they had shown what they are: a WebSocket among them has no record.",
            )?,
            heads_unparsed: counters(
                r,
                "heads_unparsed_total",
                "Heads of the opening handshake of which a part is missing.",
                &["head", "reason"],
            )?,
            servers_folded: counter(
                r,
                "servers_folded_total",
                "Ended connections counted under server=\"other\" because of --max-servers.",
            )?,
            connections_swept: counter(
                r,
                "connections_swept_total",
                "Connections whose end was not seen; they have no record.",
            )?,
            searches_failed: counters(
                r,
                "searches_failed_total",
                "Searches for connections, open already or ended unseen, that the kernel refused.",
                &["search"],
            )?,
            tls_connections: counters(
                r,
                "tls_connections_total",
                "Connections that began with TLS, once for each local end; WebSockets in them are seen only with --tls.",
                &["role"],
            )?,
            tls_sessions: counters(
                r,
                "tls_sessions_total",
                "TLS sessions in followed libraries, by what became of the search for their connection.",
                &["result"],
            )?,
        };
        metrics.streams_refused();
        metrics.tls_sessions.with_label_values(&["left"]);
        for reason in Unparsed::ALL {
            metrics
                .heads_unparsed
                .with_label_values(&["request", reason.name()]);
            metrics
                .heads_unparsed
                .with_label_values(&["response", reason.name()]);
        }
        for search in [Search::Open, Search::Ended] {
            metrics.searches_failed.with_label_values(&[search.name()]);
        }
        Ok(metrics)
    }

    /// What the kernel side could not see or tell, and how many of its events could not be read.
    pub(crate) fn kernel_losses(&self, counters: &[(Counter, u64)], malformed: u64) {
        raise(
            &self.events_lost.with_label_values(&["malformed"]),
            malformed,
        );
        for (counter, count) in counters {
            let series = match counter {
                Counter::EventLost => self.events_lost.with_label_values(&["ring_full"]),
                Counter::EndLost => self.events_lost.with_label_values(&["ring_full_at_end"]),
                Counter::SocketLost => self.sockets_lost.with_label_values(&["storage"]),
                Counter::ResponseGap => self.sockets_lost.with_label_values(&["response_gap"]),
                Counter::ResponseTooLong => {
                    self.sockets_lost.with_label_values(&["response_too_long"])
                }
                Counter::ResponseUnasked => {
                    self.sockets_lost.with_label_values(&["response_unasked"])
                }
                Counter::ClosedBefore => self.sockets_lost.with_label_values(&["closed_before"]),
                Counter::Renumbered => self.sockets_lost.with_label_values(&["renumbered"]),
                Counter::RequestGap => self.heads_unparsed.with_label_values(&["request", "gap"]),
                Counter::StreamLost(direction, why) => self
                    .streams_lost
                    .with_label_values(&[direction_name(*direction), lost_name(*why)]),
                Counter::Relocked(direction) => self
                    .streams_relocked
                    .with_label_values(&[direction_name(*direction)]),
                Counter::Candidate => self.candidates.clone(),
                Counter::Rejected => self.candidates_rejected.clone(),
                Counter::Undecided => self.candidates_undecided.clone(),
                Counter::Tls(role) => self.tls_connections.with_label_values(&[role_name(*role)]),
                Counter::TlsBound => self.tls_sessions.with_label_values(&[BOUND]),
                Counter::TlsContradicted => self.tls_sessions.with_label_values(&["contradicted"]),
                Counter::TlsUnbound => self.tls_sessions.with_label_values(&["unbound"]),
                Counter::TlsNoRoom => self.tls_sessions.with_label_values(&["no_room"]),
            };
            raise(&series, *count);
        }
    }

    /// The heads of an opening were read.
    pub(super) fn heads(&self, missing: Missing) {
        for (head, reason) in [("request", missing.request), ("response", missing.response)] {
            if let Some(reason) = reason {
                self.heads_unparsed
                    .with_label_values(&[head, reason.name()])
                    .inc();
            }
        }
    }

    /// A connection ended of whose opening no head ever came.
    pub(crate) fn heads_unseen(&mut self) {
        for head in ["request", "response"] {
            self.heads_unparsed
                .with_label_values(&[head, Unparsed::Unseen.name()])
                .inc();
        }
    }

    /// Ended connections that were counted as `other`, since the start.
    pub(crate) fn folded(&mut self, connections: u64) {
        raise(&self.servers_folded, connections);
    }

    /// A connection ended of which a Close frame passed that its TCP never took.
    pub(crate) fn refused(&mut self) {
        self.streams_refused().inc();
    }

    fn streams_refused(&self) -> IntCounter {
        let direction = direction_name(Direction::Ingress);
        self.streams_lost
            .with_label_values(&[direction, lost_name(Lost::Refused)])
    }

    /// WebSockets in TLS sessions went with their processes, and their connections were not known.
    pub(crate) fn tls_left(&mut self, sessions: usize) {
        self.tls_sessions
            .with_label_values(&["left"])
            .inc_by(sessions as u64);
    }

    /// Connections were dropped whose end was not seen.
    pub(crate) fn swept(&mut self, connections: usize) {
        self.connections_swept.inc_by(connections as u64);
    }

    /// The kernel refused a search.
    pub(crate) fn search_failed(&mut self, search: Search) {
        self.searches_failed
            .with_label_values(&[search.name()])
            .inc();
    }

    /// Those that count what is not known.
    pub(super) fn counters(&self) -> [&dyn Collector; 8] {
        [
            &self.events_lost,
            &self.sockets_lost,
            &self.streams_lost,
            &self.heads_unparsed,
            &self.servers_folded,
            &self.connections_swept,
            &self.searches_failed,
            &self.tls_sessions,
        ]
    }
}
