//! The verdict on one connection: who closed, in which order, and whose fault a delay was.
//!
//! In: the last state of a socket and the threshold. Out: a [`Judgement`]. Reads no clock, does no
//! I/O, remembers nothing; the only place that knows what "clean" means.

use std::time::Duration;

use monitor_ebpf::event::{Lost, Role, Side, Snapshot};

/// How a connection ended: fixed by what had happened when the first end came. Exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Both Close frames, then the server closed TCP within slow-after (RFC 6455 section 7.1.1).
    Clean,
    /// Both Close frames, then the server closed TCP later than slow-after.
    SlowServer,
    /// Both Close frames, then the client waited slow-after or longer and closed TCP itself.
    ClientGaveUp,
    /// The client closed TCP before slow-after had passed since the latest Close frame.
    ClientEarly,
    /// The client's Close frame was not answered: it gave up, or the server closed TCP instead.
    UnansweredByServer,
    /// The server's Close frame was not answered: it gave up, or the client closed TCP instead.
    UnansweredByClient,
    /// The server sent a Close frame and closed TCP before the client could answer.
    ServerEarly,
    /// No Close frame before the first end: what an application reports as 1006.
    Abnormal,
}

impl Outcome {
    pub(crate) const ALL: [Self; 8] = [
        Self::Clean,
        Self::SlowServer,
        Self::ClientGaveUp,
        Self::ClientEarly,
        Self::UnansweredByServer,
        Self::UnansweredByClient,
        Self::ServerEarly,
        Self::Abnormal,
    ];

    /// The word for the label of a connection whose outcome could not be seen.
    pub(crate) const UNKNOWN: &'static str = "unknown";

    /// The word for labels and records.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::SlowServer => "slow_server",
            Self::ClientGaveUp => "client_gave_up",
            Self::ClientEarly => "client_early",
            Self::UnansweredByServer => "unanswered_by_server",
            Self::UnansweredByClient => "unanswered_by_client",
            Self::ServerEarly => "server_early",
            Self::Abnormal => "abnormal",
        }
    }
}

/// Which end TIME_WAIT falls to: the one that sent the first FIN (RFC 9293 section 3.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeWait {
    Client,
    Server,
    /// The FINs crossed: each end sent its own before it saw the other's.
    Both,
    /// The connection ended by RST, or without either.
    None,
}

impl TimeWait {
    /// The word for records.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::Both => "both",
            Self::None => "none",
        }
    }
}

/// All that is concluded from one ended connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Judgement {
    /// None when a Close frame may have passed unseen, or the first end did.
    pub(crate) outcome: Option<Outcome>,
    /// The close was slow, and by the server's fault. None without an outcome.
    pub(crate) slow: Option<bool>,
    /// Who sent the first Close frame; none when nobody did, or one may have passed unseen.
    pub(crate) initiator: Option<Role>,
    /// Who made the first end.
    pub(crate) first_end: Role,
    /// From the first Close frame to the second.
    pub(crate) close_handshake: Option<Duration>,
    /// From the second Close frame to the first FIN or RST; none unless that order held.
    pub(crate) close_to_fin: Option<Duration>,
    /// From the latest Close frame before the first end to the first end.
    pub(crate) waited: Option<Duration>,
    /// From the second Close frame to the server's own FIN or RST; none unless both were seen, in
    /// that order.
    pub(crate) server_fin_delay: Option<Duration>,
    /// Who sent FIN first; none when an RST passed before any FIN.
    pub(crate) first_fin: TimeWait,
    /// Who took TIME_WAIT: as [`Judgement::first_fin`], unless an RST passed before the second FIN, after which
    /// no end has anything to hold (RFC 9293 section 3.10.7.4).
    pub(crate) time_wait: TimeWait,
}

/// The word for an end, or for the local end's role, in labels and records.
pub(crate) fn role_name(role: Role) -> &'static str {
    match role {
        Role::Client => "client",
        Role::Server => "server",
    }
}

/// What the client sent, and what the server sent.
pub(crate) fn client_and_server(snapshot: &Snapshot) -> (&Side, &Side) {
    match snapshot.role {
        Role::Client => (&snapshot.sent, &snapshot.received),
        Role::Server => (&snapshot.received, &snapshot.sent),
    }
}

/// When the closing handshake was complete: the second of the two Close frames.
pub(crate) fn complete(snapshot: &Snapshot) -> Option<Duration> {
    Some(snapshot.sent.close?.at.max(snapshot.received.close?.at))
}

/// Judges an ended connection.
///
/// One that shows no FIN and no RST (a TCP timeout, a silent death) was ended by the local end's
/// giving up, at the moment its socket reached TCP_CLOSE. If a process closed it and the FIN never passed (no route,
/// a firewall), that was at some time before: who was slow is then known only if nobody was.
pub(crate) fn judge(snapshot: &Snapshot, slow_after: Duration) -> Judgement {
    let (client, server) = client_and_server(snapshot);
    let (first_end, end_at) = first_end(snapshot);

    // At most equal: the last byte of a Close frame and a FIN may share a segment.
    let close_before_end = |side: &Side| side.close.map(|c| c.at).filter(|at| *at <= end_at);
    let client_close = close_before_end(client);
    let server_close = close_before_end(server);
    let waited = client_close.max(server_close).map(|latest| end_at - latest);
    let all_seen = !may_hide_close(client) && !may_hide_close(server);
    let end_seen = end_of(client).is_some() || end_of(server).is_some();
    let end_known = end_seen || snapshot.closer.is_none() || waited < Some(slow_after);
    let outcome = (all_seen && end_known).then(|| {
        outcome(
            client_close.is_some(),
            server_close.is_some(),
            first_end,
            waited.unwrap_or_default(),
            slow_after,
        )
    });

    let complete = complete(snapshot);
    let first_close = client
        .close
        .map(|c| c.at)
        .into_iter()
        .chain(server.close.map(|c| c.at))
        .min();
    let server_end = end_of(server);
    Judgement {
        outcome,
        slow: outcome.map(|outcome| match outcome {
            Outcome::SlowServer | Outcome::ClientGaveUp => true,
            Outcome::UnansweredByServer => waited >= Some(slow_after),
            Outcome::Clean
            | Outcome::ClientEarly
            | Outcome::UnansweredByClient
            | Outcome::ServerEarly
            | Outcome::Abnormal => false,
        }),
        initiator: initiator(client, server).filter(|_| all_seen),
        first_end,
        close_handshake: complete
            .zip(first_close)
            .map(|(second, first)| second - first),
        close_to_fin: complete
            .filter(|_| end_seen)
            .and_then(|at| end_at.checked_sub(at)),
        waited,
        server_fin_delay: server_end
            .zip(complete)
            .and_then(|(end, at)| end.checked_sub(at)),
        first_fin: first_fin(client, server),
        time_wait: time_wait(client, server),
    }
}

fn outcome(
    client_close: bool,
    server_close: bool,
    first_end: Role,
    waited: Duration,
    slow_after: Duration,
) -> Outcome {
    match (client_close, server_close, first_end) {
        (true, true, Role::Server) if waited <= slow_after => Outcome::Clean,
        (true, true, Role::Server) => Outcome::SlowServer,
        (true, true, Role::Client) if waited >= slow_after => Outcome::ClientGaveUp,
        (true, _, Role::Client) if waited < slow_after => Outcome::ClientEarly,
        (true, _, Role::Client | Role::Server) => Outcome::UnansweredByServer,
        (false, true, Role::Server) if waited < slow_after => Outcome::ServerEarly,
        (false, true, Role::Client | Role::Server) => Outcome::UnansweredByClient,
        (false, false, Role::Client | Role::Server) => Outcome::Abnormal,
    }
}

/// Whether a Close frame of this end may have passed without being recognised. After an invalid
/// frame none counts, so nothing is hidden there; but where frames were missed before, that may have been
/// none.
fn may_hide_close(side: &Side) -> bool {
    let unread = match side.lost {
        Some(
            Lost::Gap | Lost::Budget | Lost::Unreadable | Lost::Busy | Lost::Unseen | Lost::Refused,
        ) => true,
        Some(Lost::InvalidFrame) => side.missed,
        // Only control frames may follow a Close frame: data shows that none was missed.
        None => side.only_control,
    };
    unread && side.close.is_none()
}

fn initiator(client: &Side, server: &Side) -> Option<Role> {
    match (client.close, server.close) {
        (Some(client), Some(server)) if server.at < client.at => Some(Role::Server),
        (Some(_), _) => Some(Role::Client),
        (None, Some(_)) => Some(Role::Server),
        (None, None) => None,
    }
}

fn first_end(snapshot: &Snapshot) -> (Role, Duration) {
    let (client, server) = client_and_server(snapshot);
    match (end_of(client), end_of(server)) {
        (Some(client_at), Some(server_at)) => {
            let server_first =
                server_at < client_at || (server_at == client_at && client.fin_answers_fin);
            if server_first {
                (Role::Server, server_at)
            } else {
                (Role::Client, client_at)
            }
        }
        (Some(at), None) => (Role::Client, at),
        (None, Some(at)) => (Role::Server, at),
        (None, None) => (snapshot.role, snapshot.ended.unwrap_or(snapshot.taken)),
    }
}

/// When this end sent its first FIN or RST.
fn end_of(side: &Side) -> Option<Duration> {
    side.fin.into_iter().chain(side.rst).min()
}

fn first_fin(client: &Side, server: &Side) -> TimeWait {
    let first_fin = client.fin.into_iter().chain(server.fin).min();
    if first_rst(client, server).is_some_and(|rst| first_fin.is_none_or(|fin| rst < fin)) {
        return TimeWait::None;
    }
    match (client.fin, server.fin) {
        (None, None) => TimeWait::None,
        (Some(_), None) => TimeWait::Client,
        (None, Some(_)) => TimeWait::Server,
        // Only the later of two FINs can answer the earlier.
        (Some(_), Some(_)) if server.fin_answers_fin => TimeWait::Client,
        (Some(_), Some(_)) if client.fin_answers_fin => TimeWait::Server,
        (Some(_), Some(_)) => TimeWait::Both,
    }
}

fn time_wait(client: &Side, server: &Side) -> TimeWait {
    let last_fin = client
        .fin
        .zip(server.fin)
        .map(|(one, other)| one.max(other));
    if first_rst(client, server).is_some_and(|rst| last_fin.is_none_or(|fin| rst < fin)) {
        return TimeWait::None;
    }
    first_fin(client, server)
}

fn first_rst(client: &Side, server: &Side) -> Option<Duration> {
    client.rst.into_iter().chain(server.rst).min()
}

#[cfg(test)]
mod tests;
