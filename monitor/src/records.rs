//! One ended connection as one line of JSON, schema 1.
//!
//! In: an ended connection and its judgement. Out: a [`Record`] that serialises to the published
//! schema, every field in its order, null where nothing is known. Judges nothing and writes nothing:
//! `record_file.rs` does.

use std::{net::SocketAddr, time::Duration};

use monitor_ebpf::event::{CloseFrame, Side};
use serde::Serialize;

use crate::{
    clock::{Utc, UtcOffset, seconds},
    outcome::{Judgement, Outcome, client_and_server, role_name},
    tracker::{Connection, Server},
};

/// The published record: fields are a promise, and so is their meaning (README, "Records").
#[derive(Serialize)]
pub(crate) struct Record<'a> {
    schema: u8,
    opened_at: Option<Utc>,
    ended_at: Option<Utc>,
    role: &'static str,
    local: SocketAddr,
    remote: SocketAddr,
    server: SocketAddr,
    host: Option<&'a str>,
    path: Option<&'a str>,
    subprotocol: Option<&'a str>,
    user_agent: Option<&'a str>,
    server_software: Option<&'a str>,
    tls: bool,
    /// The opening was not seen: everything that it would have told is null.
    adopted: bool,
    cgroup: Option<&'a str>,
    pid: Option<u32>,
    process: Option<&'a str>,
    initiator: Option<&'static str>,
    client_close: Option<Close>,
    server_close: Option<Close>,
    client_fin: Option<Utc>,
    server_fin: Option<Utc>,
    client_rst: Option<Utc>,
    server_rst: Option<Utc>,
    close_handshake_seconds: Option<f64>,
    close_to_fin_seconds: Option<f64>,
    server_fin_delay_seconds: Option<f64>,
    rtt_seconds: Option<f64>,
    /// Null, like the next, when frames of that direction passed that could not be counted.
    frames_sent: Option<u64>,
    frames_received: Option<u64>,
    time_wait: &'static str,
    outcome: Option<&'static str>,
    slow: Option<bool>,
}

/// Where the local end lived, as far as it can be told for certain.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place<'a> {
    /// Path of its cgroup, below the cgroup v2 mount.
    pub(crate) cgroup: Option<&'a str>,
    /// Name of the process that closed it.
    pub(crate) process: Option<&'a str>,
}

#[derive(Serialize)]
struct Close {
    time: Utc,
    /// Null when the body was shorter than two bytes.
    code: Option<u16>,
}

impl<'a> Record<'a> {
    pub(crate) fn new(
        connection: &'a Connection,
        judgement: &Judgement,
        place: Place<'a>,
        offset: UtcOffset,
    ) -> Self {
        let Connection { snapshot, opening } = connection;
        let opening = opening.as_ref();
        let (client, server) = client_and_server(snapshot);
        let utc = |at: Duration| offset.utc(at);
        let close = |frame: CloseFrame| Close {
            time: utc(frame.at),
            code: frame.code,
        };
        Self {
            schema: 1,
            opened_at: snapshot.opened.map(utc),
            ended_at: snapshot.ended.map(utc),
            role: role_name(snapshot.role),
            local: snapshot.local,
            remote: snapshot.remote,
            server: Server::of(snapshot).address,
            host: opening.and_then(|heads| heads.host.as_deref()),
            path: opening.and_then(|heads| heads.path.as_deref()),
            subprotocol: opening.and_then(|heads| heads.subprotocol.as_deref()),
            user_agent: opening.and_then(|heads| heads.user_agent.as_deref()),
            server_software: opening.and_then(|heads| heads.server_software.as_deref()),
            tls: snapshot.tls,
            adopted: snapshot.opened.is_none(),
            cgroup: place.cgroup,
            pid: snapshot.closer.map(|closer| closer.pid),
            process: place.process,
            initiator: judgement.initiator.map(role_name),
            client_close: client.close.map(close),
            server_close: server.close.map(close),
            client_fin: client.fin.map(utc),
            server_fin: server.fin.map(utc),
            client_rst: client.rst.map(utc),
            server_rst: server.rst.map(utc),
            close_handshake_seconds: judgement.close_handshake.map(seconds),
            close_to_fin_seconds: judgement.close_to_fin.map(seconds),
            server_fin_delay_seconds: judgement.server_fin_delay.map(seconds),
            rtt_seconds: snapshot.rtt.map(seconds),
            frames_sent: frames(&snapshot.sent),
            frames_received: frames(&snapshot.received),
            time_wait: judgement.first_fin.name(),
            outcome: judgement.outcome.map(Outcome::name),
            slow: judgement.slow,
        }
    }

    /// The record as one line.
    pub(crate) fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("a record has string keys and plain values");
        line.push(b'\n');
        line
    }
}

fn frames(side: &Side) -> Option<u64> {
    let exact = side.lost.is_none() && !side.missed;
    exact.then_some(side.frames)
}

#[cfg(test)]
mod tests {
    use monitor_ebpf::event::{Closer, Lost, Role};

    use super::*;
    use crate::{heads::Opening, outcome::judge, timeline::after};

    const BOOT: Duration = Duration::from_secs(1_795_371_621);

    #[test]
    fn every_field_in_the_order_of_the_schema() {
        let script = "0s upgrade; 1s client close 1000; 1000333us server close; 11s client fin; 11100ms gone";
        let mut snapshot = after(Role::Client, script);
        snapshot.rtt = Some(Duration::from_micros(21));
        snapshot.sent.frames = 12;
        snapshot.received.lost = Some(Lost::Gap);
        snapshot.closer = Some(Closer {
            pid: 4711,
            tid: 4711,
            comm: [0; 16],
        });
        let opening = Opening {
            host: Some("chat.example.com".into()),
            path: Some("/\"live".into()),
            ..Opening::default()
        };
        let place = Place {
            cgroup: Some("/system.slice/chat.service"),
            process: Some("python3"),
        };
        let expected = concat!(
            r#"{"schema":1,"opened_at":"2026-11-22T18:20:21.000000000Z","#,
            r#""ended_at":"2026-11-22T18:20:32.100000000Z","role":"client","#,
            r#""local":"192.0.2.7:43210","remote":"198.51.100.1:8765","server":"198.51.100.1:8765","#,
            r#""host":"chat.example.com","path":"/\"live","subprotocol":null,"#,
            r#""user_agent":null,"server_software":null,"tls":false,"adopted":false,"#,
            r#""cgroup":"/system.slice/chat.service","pid":4711,"process":"python3","#,
            r#""initiator":"client","#,
            r#""client_close":{"time":"2026-11-22T18:20:22.000000000Z","code":1000},"#,
            r#""server_close":{"time":"2026-11-22T18:20:22.000333000Z","code":null},"#,
            r#""client_fin":"2026-11-22T18:20:32.000000000Z","server_fin":null,"#,
            r#""client_rst":null,"server_rst":null,"close_handshake_seconds":0.000333,"#,
            r#""close_to_fin_seconds":9.999667,"server_fin_delay_seconds":null,"#,
            r#""rtt_seconds":0.000021,"frames_sent":12,"frames_received":null,"#,
            r#""time_wait":"client","outcome":"client_gave_up","slow":true}"#,
            "\n",
        );
        let line = line(
            Connection {
                snapshot,
                opening: Some(opening.into()),
            },
            place,
        );
        assert_eq!(line, expected);
    }

    #[test]
    fn unknown_is_null_and_addresses_are_printed_as_sockets() {
        let mut snapshot = after(Role::Server, "1s client rst; 2s gone");
        snapshot.local = "[2001:db8::1]:80".parse().unwrap();
        let line = line(
            Connection {
                snapshot,
                opening: None,
            },
            Place::default(),
        );
        assert!(line.contains(r#""opened_at":null"#), "{line}");
        assert!(
            line.contains(r#""local":"[2001:db8::1]:80","remote":"192.0.2.7:43210""#),
            "{line}"
        );
        assert!(
            line.contains(r#""cgroup":null,"pid":null,"process":null,"initiator":null"#),
            "{line}"
        );
    }

    #[test]
    fn durations_are_printed_to_the_nanosecond() {
        let snapshot = after(
            Role::Client,
            "1s client close; 2500198635ns server close; 3s gone",
        );
        let line = line(
            Connection {
                snapshot,
                opening: None,
            },
            Place::default(),
        );
        assert!(
            line.contains(r#""close_handshake_seconds":1.500198635,"#),
            "{line}"
        );
    }

    fn line(connection: Connection, place: Place<'_>) -> String {
        let judgement = judge(&connection.snapshot, Duration::from_secs(1));
        let offset = UtcOffset::between(BOOT, Duration::ZERO);
        String::from_utf8(Record::new(&connection, &judgement, place, offset).line()).unwrap()
    }
}
