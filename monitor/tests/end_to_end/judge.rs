//! The table of outcomes, applied to the times that a capture gives.
//!
//! Written from the README's table alone; the product's own judgement is not used here.

use crate::{tcp::Moment, websocket::Frames};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Server,
}

impl Role {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Role::Client => "client",
            Role::Server => "server",
        }
    }
}

/// What one end did. Without frames: those are counted, not judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Side {
    pub(crate) close: Option<(Moment, Option<u16>)>,
    pub(crate) fin: Option<Moment>,
    pub(crate) rst: Option<Moment>,
}

impl Side {
    /// The same end with every event moved in time.
    pub(crate) fn shifted(self, by: i64) -> Side {
        let shift = |moment: Moment| Moment {
            at: moment.at + by,
            ..moment
        };
        Side {
            close: self.close.map(|(moment, code)| (shift(moment), code)),
            fin: self.fin.map(shift),
            rst: self.rst.map(shift),
        }
    }

    pub(crate) fn end(self) -> Option<i64> {
        self.fin
            .into_iter()
            .chain(self.rst)
            .map(|moment| moment.at)
            .min()
    }

    pub(crate) fn moments(self) -> impl Iterator<Item = Moment> {
        self.close
            .map(|(moment, _)| moment)
            .into_iter()
            .chain(self.fin)
            .chain(self.rst)
    }
}

/// Durations are nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Judged {
    pub(crate) initiator: Option<Role>,
    pub(crate) close_handshake: Option<i64>,
    pub(crate) close_to_fin: Option<i64>,
    pub(crate) server_fin_delay: Option<i64>,
    pub(crate) time_wait: &'static str,
    pub(crate) outcome: &'static str,
    pub(crate) slow: bool,
}

/// None for a connection that has not ended.
pub(crate) fn judge(client: Side, server: Side, slow_after: i64) -> Option<Judged> {
    let first_end_by = match (client.end(), server.end()) {
        (None, None) => return None,
        (Some(client), Some(server)) if client <= server => Role::Client,
        (Some(_), None) => Role::Client,
        (None | Some(_), Some(_)) => Role::Server,
    };
    let first_end = client.end().into_iter().chain(server.end()).min()?;
    let client_close = client.close.map(|(moment, _)| moment.at);
    let server_close = server.close.map(|(moment, _)| moment.at);
    let before_end = |close: Option<i64>| close.filter(|&at| at <= first_end);
    let complete = client_close.zip(server_close).map(|(a, b)| a.max(b));

    let latest = before_end(client_close).max(before_end(server_close));
    let waited = latest.map(|latest| first_end - latest);
    let long = waited.is_some_and(|waited| waited >= slow_after);
    let outcome = match (
        before_end(client_close),
        before_end(server_close),
        first_end_by,
    ) {
        (Some(_), Some(_), Role::Server) if long => "slow_server",
        (Some(_), Some(_), Role::Server) => "clean",
        (Some(_), Some(_), Role::Client) if long => "client_gave_up",
        (Some(_), Some(_), Role::Client) => "client_early",
        (Some(_), None, Role::Client) if long => "unanswered_by_server",
        (Some(_), None, Role::Client) => "client_early",
        (Some(_), None, Role::Server) => "unanswered_by_server",
        (None, Some(_), Role::Server) if long => "unanswered_by_client",
        (None, Some(_), Role::Server) => "server_early",
        (None, Some(_), Role::Client) => "unanswered_by_client",
        (None, None, Role::Client | Role::Server) => "abnormal",
    };
    let slow = match outcome {
        "slow_server" | "client_gave_up" => true,
        "unanswered_by_server" => long,
        _ => false,
    };
    Some(Judged {
        initiator: match (client_close, server_close) {
            (Some(client), Some(server)) if client <= server => Some(Role::Client),
            (Some(_), None) => Some(Role::Client),
            (_, Some(_)) => Some(Role::Server),
            (None, None) => None,
        },
        close_handshake: client_close.zip(server_close).map(|(a, b)| (a - b).abs()),
        close_to_fin: complete
            .filter(|&at| at <= first_end)
            .map(|at| first_end - at),
        // A server that ended first delayed nothing.
        server_fin_delay: complete
            .zip(server.end())
            .map(|(complete, end)| end - complete)
            .filter(|&delay| delay >= 0),
        time_wait: time_wait(client, server),
        outcome,
        slow,
    })
}

fn time_wait(client: Side, server: Side) -> &'static str {
    let fins = [client.fin, server.fin];
    let first_fin = fins.iter().flatten().map(|moment| moment.at).min();
    let first_rst = client
        .rst
        .into_iter()
        .chain(server.rst)
        .map(|moment| moment.at)
        .min();
    let Some(first_fin) = first_fin.filter(|&fin| first_rst.is_none_or(|rst| fin <= rst)) else {
        return "none";
    };
    match fins {
        [Some(client), Some(server)] if client.crosses(server) => "both",
        [Some(client), _] if client.at == first_fin => "client",
        _ => "server",
    }
}

/// The events of one end, from its frames.
pub(crate) fn side(frames: &Frames, stream: &crate::tcp::Stream) -> Side {
    Side {
        close: frames.close.map(|(end, code)| (stream.passed(end), code)),
        fin: stream.fin,
        rst: stream.rst,
    }
}
