//! Connections that should be closed by now: both Close frames and no FIN, or a FIN and still there.

use super::{
    answers::{Connection, Connections, Role},
    text::Text,
};

/// The phases in which a connection hangs once it is in them for longer than slow-after.
pub(super) const PHASES: [&str; 2] = ["awaiting_fin", "half_closed"];

/// What hangs, the longest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Hanging {
    pub(super) all: Vec<Hang>,
    /// The daemon has more that hang.
    pub(super) more: bool,
}

/// One of them, whichever end it was seen from.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Hang {
    pub(super) server: Text,
    pub(super) client: Text,
    pub(super) phase: Text,
    /// The role of the end that saw it, or of the first of both.
    pub(super) role: Role,
    pub(super) both_ends: bool,
    pub(super) age_seconds: f64,
    pub(super) host: Option<Text>,
    pub(super) path: Option<Text>,
    pub(super) cgroup: Option<Text>,
}

impl Hanging {
    /// Those of the answers for [`PHASES`] that are in their phase for longer than slow-after.
    pub(super) fn new(answers: Vec<Connections>, slow_after: f64) -> Self {
        let hangs = |connection: &Connection| connection.age_seconds >= slow_after;
        // The longest come first: if the last one that was told hangs, the next may as well.
        let more = answers
            .iter()
            .any(|answer| answer.next.is_some() && answer.connections.last().is_some_and(hangs));
        let mut told: Vec<Connection> = answers
            .into_iter()
            .flat_map(|answer| answer.connections)
            .filter(hangs)
            .collect();
        told.sort_by(|a, b| b.age_seconds.total_cmp(&a.age_seconds));
        let mut all = Vec::<Hang>::new();
        let mut known = std::collections::HashMap::new();
        for connection in told {
            let hang = Hang::from(connection);
            let name = (hang.server.clone(), hang.client.clone(), hang.phase.clone());
            // A connection whose two ends are on this host is told by both, and is one.
            let place = *known.entry(name).or_insert(all.len());
            match all.get_mut(place) {
                Some(other) => other.both_ends |= other.role != hang.role,
                None => all.push(hang),
            }
        }
        Self { all, more }
    }
}

impl Hang {
    pub(super) fn is(&self, other: &Self) -> bool {
        (&self.server, &self.client, &self.phase) == (&other.server, &other.client, &other.phase)
    }

    pub(super) fn phase(&self) -> &str {
        match self.phase.as_str() {
            "awaiting_fin" => "awaits FIN",
            "half_closed" => "half closed",
            other => other,
        }
    }

    pub(super) fn seen_by(&self) -> &'static str {
        if self.both_ends {
            "both"
        } else {
            self.role.name()
        }
    }

    /// `Host` and path, as the client wrote them.
    pub(super) fn target(&self) -> String {
        let part = |text: &Option<Text>| text.as_ref().map_or(String::new(), Text::to_string);
        part(&self.host) + &part(&self.path)
    }
}

impl From<Connection> for Hang {
    fn from(connection: Connection) -> Self {
        Self {
            client: match connection.role {
                Role::Client => connection.local,
                Role::Server => connection.remote,
            },
            server: connection.server,
            phase: connection.phase,
            role: connection.role,
            both_ends: false,
            age_seconds: connection.age_seconds,
            host: connection.host,
            path: connection.path,
            cgroup: connection.cgroup,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_a_connection_are_one_and_the_young_do_not_hang() {
        let told = vec![
            answer(
                &[
                    ("server", 50_000, 20.0),
                    ("client", 50_000, 20.1),
                    ("server", 50_001, 0.9),
                ],
                true,
            ),
            answer(&[("server", 50_002, 30.0)], true),
        ];
        let hanging = Hanging::new(told, 1.0);
        let seen: Vec<_> = hanging
            .all
            .iter()
            .map(|hang| (hang.client.as_str(), hang.seen_by()))
            .collect();
        assert_eq!(
            seen,
            [("127.0.0.1:50002", "server"), ("127.0.0.1:50000", "both")]
        );
        assert!(hanging.more, "the last of the second answer hangs");
        assert!(!Hanging::new(vec![answer(&[("server", 1, 0.5)], true)], 1.0).more);
        assert!(!Hanging::new(vec![answer(&[("server", 1, 5.0)], false)], 1.0).more);
    }

    fn answer(connections: &[(&str, u16, f64)], more: bool) -> Connections {
        let connections: Vec<_> = connections
            .iter()
            .map(|(role, port, age)| {
                let [server, client] = ["127.0.0.1:80".to_owned(), format!("127.0.0.1:{port}")];
                let (local, remote) = match *role {
                    "server" => (&server, &client),
                    _ => (&client, &server),
                };
                serde_json::json!({
                    "server": server, "role": role, "local": local, "remote": remote,
                    "phase": "awaiting_fin", "age_seconds": age, "host": "chat", "path": "/live",
                    "cgroup": null, "unheard_of": [1],
                })
            })
            .collect();
        let next = more.then_some("1-2-3");
        let answer = serde_json::json!({"connections": connections, "next": next});
        serde_json::from_value(answer).unwrap()
    }
}
