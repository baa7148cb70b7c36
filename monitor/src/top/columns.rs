//! The columns of the table of servers: what is in them, how they sort, and which give way first.

use std::{cmp::Ordering, net::SocketAddr};

use jiff::Timestamp;

use super::{
    answers::{Server, Window},
    text::Text,
    words::{age, count, duration, or_none, percent, share},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Server,
    Role,
    SlowFor,
    Open,
    Closing,
    NoFin,
    HalfClosed,
    Hangs,
    Ended,
    SlowShare,
    P50,
    P99,
    Longest,
    HeldByClient,
    HeldByServer,
    HeldByBoth,
    HeldNow,
    Host,
}

use Column::{
    Closing, Ended, HalfClosed, Hangs, HeldByBoth, HeldByClient, HeldByServer, HeldNow, Host,
    Longest, NoFin, Open, P50, P99, Role, SlowFor, SlowShare,
};

/// When the figures were true.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// The daemon's time of the answer.
    pub(super) time: Timestamp,
    /// Seconds since then: what ages are counted up by.
    pub(super) since: f64,
}

impl Column {
    pub(super) const ALL: [Self; 18] = [
        Column::Server,
        Role,
        SlowFor,
        Open,
        Closing,
        NoFin,
        HalfClosed,
        Hangs,
        Ended,
        SlowShare,
        P50,
        P99,
        Longest,
        HeldByClient,
        HeldByServer,
        HeldByBoth,
        HeldNow,
        Host,
    ];

    /// What `s` goes through, after the daemon's own order.
    pub(super) const SORTABLE: [Self; 10] = [
        Column::Server,
        SlowFor,
        Hangs,
        Ended,
        SlowShare,
        P99,
        Longest,
        HeldByClient,
        HeldNow,
        Host,
    ];

    /// Which columns stay when there is no room for all: the first ones of these.
    pub(super) const KEPT: [Self; 18] = [
        Column::Server,
        SlowFor,
        Hangs,
        Role,
        SlowShare,
        Longest,
        Ended,
        HeldByClient,
        HeldByServer,
        NoFin,
        HalfClosed,
        Open,
        P99,
        Host,
        P50,
        HeldNow,
        Closing,
        HeldByBoth,
    ];

    pub(super) fn title(self) -> &'static str {
        match self {
            Column::Server => "server",
            Role => "role",
            SlowFor => "slow for",
            Open => "open",
            Closing => "closing",
            NoFin => "no FIN",
            HalfClosed => "half",
            Hangs => "hangs",
            Ended => "ended",
            SlowShare => "slow",
            P50 => "p50",
            P99 => "p99",
            Longest => "longest",
            HeldByClient => "client",
            HeldByServer => "server",
            HeldByBoth => "both",
            HeldNow => "now",
            Host => "host",
        }
    }

    /// What stands above columns that belong together.
    pub(super) fn group(self) -> &'static str {
        match self {
            Column::Server | Role | SlowFor | Hangs | Host => "",
            Open | Closing | NoFin | HalfClosed => "live",
            Ended | SlowShare => "closes",
            P50 | P99 | Longest => "waits, 5 min",
            HeldByClient | HeldByServer | HeldByBoth | HeldNow => "TIME_WAIT by",
        }
    }

    /// What it is called where its group does not stand above it.
    pub(super) fn full_title(self) -> String {
        match self {
            HeldByClient | HeldByServer | HeldByBoth | HeldNow => {
                format!("TIME_WAIT {}", self.title())
            }
            SlowShare => "slow share".to_owned(),
            Longest => "longest wait".to_owned(),
            HalfClosed => "half closed".to_owned(),
            Column::Server
            | Role
            | SlowFor
            | Open
            | Closing
            | NoFin
            | Hangs
            | Ended
            | P50
            | P99
            | Host => self.title().to_owned(),
        }
    }

    /// Figures end at the right, words begin at the left.
    pub(super) fn is_text(self) -> bool {
        matches!(self, Column::Server | Role | Host)
    }

    pub(super) fn cell(self, server: &Server, at: Moment) -> String {
        let counted = |seconds: f64| age(seconds + at.since);
        let wait = |of: fn(Window) -> Option<f64>| or_none(server.window.and_then(of), duration);
        let held = server.time_wait.entered;
        match self {
            Column::Server => server.server.to_string(),
            Role => server.role.name().to_owned(),
            SlowFor => or_none(server.slow_for(at.time), counted),
            Open => count(server.live.open),
            Closing => count(server.live.awaiting_close_frame),
            NoFin => count(server.live.awaiting_fin),
            HalfClosed => count(server.live.half_closed),
            Hangs => or_none(server.hangs(), counted),
            Ended => count(server.ended),
            SlowShare => or_none(share(server.slow_closes, server.ended), percent),
            P50 => wait(|window| window.p50_seconds),
            P99 => wait(|window| window.p99_seconds),
            Longest => wait(|window| window.longest_seconds),
            HeldByClient => count(held.client),
            HeldByServer => count(held.server),
            HeldByBoth => count(held.both),
            HeldNow => or_none(server.time_wait.current, count),
            Host => hosts(server),
        }
    }

    /// The larger figure first, text from its beginning; what is not known comes last either way.
    pub(super) fn compare(
        self,
        a: &Server,
        b: &Server,
        reversed: bool,
        time: Timestamp,
    ) -> Ordering {
        let turn = |order: Ordering| if reversed { order.reverse() } else { order };
        if self.is_text() {
            let by_address = || address(&a.server).cmp(&address(&b.server));
            return turn(if self == Host {
                a.hosts.cmp(&b.hosts)
            } else {
                by_address().then(a.role.cmp(&b.role))
            });
        }
        match (self.figure(a, time), self.figure(b, time)) {
            (Some(a), Some(b)) => turn(b.total_cmp(&a)),
            (a, b) => b.is_some().cmp(&a.is_some()),
        }
    }

    fn figure(self, server: &Server, time: Timestamp) -> Option<f64> {
        let held = server.time_wait.entered;
        match self {
            Column::Server | Role | Host => None,
            SlowFor => server.slow_for(time),
            Open => Some(server.live.open as f64),
            Closing => Some(server.live.awaiting_close_frame as f64),
            NoFin => Some(server.live.awaiting_fin as f64),
            HalfClosed => Some(server.live.half_closed as f64),
            Hangs => server.hangs(),
            Ended => Some(server.ended as f64),
            SlowShare => share(server.slow_closes, server.ended),
            P50 => server.window?.p50_seconds,
            P99 => server.window?.p99_seconds,
            Longest => server.window?.longest_seconds,
            HeldByClient => Some(held.client as f64),
            HeldByServer => Some(held.server as f64),
            HeldByBoth => Some(held.both as f64),
            HeldNow => server.time_wait.current.map(|now| now as f64),
        }
    }
}

/// Addresses by number, and what is none behind them.
fn address(server: &Text) -> (Option<SocketAddr>, &Text) {
    (server.as_str().parse().ok(), server)
}

/// The latest hosts.
pub(super) fn hosts(server: &Server) -> String {
    let mut words: Vec<&str> = server.hosts.iter().map(Text::as_str).collect();
    if server.hosts_more {
        words.push("…");
    }
    words.join(" ")
}
