//! The witness and the comparison on made-up packets: no root, no network.

use std::{collections::BTreeMap, net::SocketAddr};

use serde_json::{Value, json};

use crate::{
    compare::{Expectation, TOLERANCE, compare},
    judge::{Role, judge},
    sandbox::{Plays, Process},
    tcp::{Packet, connections},
    websocket::{Frames, frames},
    witness::{View, views},
};

const SECOND: i64 = 1_000_000_000;
const MILLISECOND: i64 = 1_000_000;
const REQUEST: &str = "GET /a?b HTTP/1.1\r\nhost: h\r\n\r\n";
const RESPONSE: &str = "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\n\r\n";
const CLOSE: [u8; 4] = [0x88, 2, 0x03, 0xe8];

/// Builds the packets of one connection.
struct Talk {
    packets: Vec<Packet>,
    sent: [u32; 2],
}

impl Talk {
    fn begin(origin: u32) -> Talk {
        let mut talk = Talk {
            packets: Vec::new(),
            sent: [origin, origin.wrapping_add(7)],
        };
        talk.send(0, Role::Client, b"").syn = true;
        talk.sent[0] = talk.sent[0].wrapping_add(1);
        talk.packets[0].ack = false;
        talk.send(0, Role::Server, b"").syn = true;
        talk.sent[1] = talk.sent[1].wrapping_add(1);
        talk
    }

    fn open(origin: u32) -> Talk {
        let mut talk = Talk::begin(origin);
        talk.send(1, Role::Client, REQUEST.as_bytes());
        talk.send(2, Role::Server, RESPONSE.as_bytes());
        talk
    }

    /// A packet that acknowledges everything before it.
    fn send(&mut self, millisecond: i64, by: Role, payload: &[u8]) -> &mut Packet {
        let (from, to) = if by == Role::Client { (0, 1) } else { (1, 0) };
        let address = |end: usize| SocketAddr::from(([127, 0, 0, 1], [40000, 80][end]));
        self.packets.push(Packet {
            at: millisecond * MILLISECOND,
            source: address(from),
            destination: address(to),
            sequence: self.sent[from],
            acknowledgement: self.sent[to],
            syn: false,
            ack: true,
            fin: false,
            rst: false,
            payload: payload.to_vec(),
        });
        self.sent[from] = self.sent[from].wrapping_add(payload.len() as u32);
        self.packets.last_mut().unwrap()
    }

    fn fin(&mut self, millisecond: i64, by: Role) {
        self.send(millisecond, by, b"").fin = true;
        let from = usize::from(by == Role::Server);
        self.sent[from] = self.sent[from].wrapping_add(1);
    }

    fn view(&self) -> View {
        views(&self.packets, Role::Client).remove(0)
    }
}

/// Both Close frames by 20 ms, the server's FIN at 30 ms, the client's at 31 ms.
fn by_the_book(origin: u32) -> Talk {
    let mut talk = Talk::open(origin);
    talk.send(5, Role::Client, &[0x81, 1, b'x']);
    talk.send(10, Role::Client, &CLOSE);
    talk.send(20, Role::Server, &CLOSE);
    talk.fin(30, Role::Server);
    talk.fin(31, Role::Client);
    talk.send(31, Role::Server, b"");
    talk
}

#[test]
fn a_close_by_the_book() {
    for origin in [0, u32::MAX - 20, 1 << 31] {
        let view = by_the_book(origin).view();
        assert_eq!(view.opened_at, 2 * MILLISECOND);
        assert!(!view.disordered);
        assert_eq!(view.path.value.as_deref(), Some("/a"));
        assert_eq!(view.frames(Role::Client, i64::MAX), Some(2));
        assert_eq!(view.frames(Role::Client, 5 * MILLISECOND), Some(1));
        let judged = judge(view.client, view.server, SECOND).unwrap();
        assert_eq!((judged.outcome, judged.time_wait), ("clean", "server"));
        assert_eq!(judged.initiator, Some(Role::Client));
        assert_eq!(judged.close_handshake, Some(10 * MILLISECOND));
        assert_eq!(judged.close_to_fin, Some(10 * MILLISECOND));
        assert_eq!(judged.server_fin_delay, Some(10 * MILLISECOND));
    }
}

#[test]
fn retransmissions_and_disorder_change_nothing() {
    let talk = by_the_book(1000);
    let mut packets = talk.packets.clone();
    // Every packet again, half a second later, and the Close frame behind the text before it.
    packets.extend(talk.packets.iter().map(|packet| Packet {
        at: packet.at + SECOND / 2,
        syn: packet.syn,
        ..packet.clone()
    }));
    packets.swap(4, 5);
    let stirred = views(&packets, Role::Client).remove(0);
    let view = talk.view();
    assert_eq!(
        (stirred.server, stirred.client.fin),
        (view.server, view.client.fin)
    );
    // The Close frame waited for the text: it was all there when the text came.
    let (close, code) = stirred.client.close.unwrap();
    assert_eq!(
        (close.end, code),
        (view.client.close.unwrap().0.end, Some(1000))
    );
}

#[test]
fn a_cut_close_frame_passes_with_its_last_byte() {
    let mut talk = Talk::open(0);
    for (index, byte) in CLOSE.into_iter().enumerate() {
        talk.send(10 + index as i64, Role::Client, &[byte]);
    }
    let (close, code) = talk.view().client.close.unwrap();
    assert_eq!((close.at, code), (13 * MILLISECOND, Some(1000)));
}

#[test]
fn fins_that_cross() {
    let mut talk = Talk::open(0);
    talk.fin(10, Role::Server);
    let crossing = talk.sent[1].wrapping_sub(1);
    talk.fin(11, Role::Client);
    let judged = |talk: &Talk| {
        let view = talk.view();
        judge(view.client, view.server, SECOND).unwrap().time_wait
    };
    assert_eq!(judged(&talk), "server");
    talk.packets.last_mut().unwrap().acknowledgement = crossing;
    assert_eq!(judged(&talk), "both");
}

#[test]
fn what_is_no_websocket() {
    let mut talk = Talk::begin(0);
    talk.send(1, Role::Client, b"GET / HTTP/1.1\r\n\r\n");
    talk.send(
        2,
        Role::Server,
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    );
    assert!(views(&talk.packets, Role::Client).is_empty());
    // The same connection becomes one later on.
    talk.send(3, Role::Client, REQUEST.as_bytes());
    talk.send(4, Role::Server, RESPONSE.as_bytes());
    assert_eq!(talk.view().opened_at, 4 * MILLISECOND);

    let mut talk = Talk::begin(0);
    talk.send(1, Role::Client, REQUEST.as_bytes());
    talk.send(
        2,
        Role::Server,
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n",
    );
    assert!(views(&talk.packets, Role::Client).is_empty());
    assert_eq!(connections(&talk.packets).len(), 1);
}

#[test]
fn frames_of_every_form() {
    let mut bytes = vec![0x01, 0x83, 1, 2, 3, 4, 0, 0, 0];
    bytes.extend([0x89, 0]);
    bytes.extend([0x80, 126, 0, 200]);
    bytes.extend([0; 200]);
    bytes.extend([0xc2, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    bytes.extend([0; 65536]);
    // A masked Close frame with code 4001.
    bytes.extend([0x88, 0x82, 0xff, 0xff, 1, 2, 0x0f ^ 0xff, 0xa1 ^ 0xff]);
    let whole = frames(&bytes, 0);
    assert_eq!(whole.headers.len(), 5);
    assert_eq!(whole.close, Some((bytes.len(), Some(4001))));
    let cut = frames(&bytes[..bytes.len() - 1], 0);
    assert_eq!((cut.headers.len(), cut.close), (5, None));

    for body in [&[0x88, 0][..], &[0x88, 1, 3]] {
        assert_eq!(frames(body, 0).close, Some((body.len(), None)));
    }
    for broken in [
        [0x83, 0],
        [0x8b, 0],
        [0x91, 0],
        [0xa1, 0],
        [0xc9, 0],
        [0x09, 0],
        [0x88, 126],
    ] {
        let mut bytes = broken.to_vec();
        bytes.extend([1; 300]);
        assert_eq!(
            frames(&bytes, 0),
            Frames {
                broken: true,
                ..Frames::default()
            }
        );
    }
}

fn record() -> Value {
    let at = |millisecond: u32| format!("1970-01-01T00:00:00.{millisecond:03}Z");
    json!({
        "schema": 1, "opened_at": at(2), "ended_at": at(31), "role": "client",
        "local": "127.0.0.1:40000", "remote": "127.0.0.1:80", "server": "127.0.0.1:80",
        "host": "h", "path": "/a", "subprotocol": null, "user_agent": null,
        "server_software": null, "tls": false, "adopted": false, "cgroup": "/c", "pid": 7, "process": "peer",
        "initiator": "client", "client_close": {"time": at(10), "code": 1000},
        "server_close": {"time": at(20), "code": 1000}, "client_fin": at(31),
        "server_fin": at(30), "client_rst": null, "server_rst": null,
        "close_handshake_seconds": 0.01, "close_to_fin_seconds": 0.01,
        "server_fin_delay_seconds": 0.01, "rtt_seconds": 0.00001, "frames_sent": 2,
        "frames_received": 1, "time_wait": "server", "outcome": "clean", "slow": false,
    })
}

fn errors(talk: &Talk, record: Value) -> Vec<String> {
    errors_of(talk, record, None)
}

fn errors_of(talk: &Talk, record: Value, adopted_at: Option<i64>) -> Vec<String> {
    let process = Process {
        name: "peer".to_owned(),
        plays: Plays::Client,
    };
    let processes = BTreeMap::from([(7, process)]);
    let expectation = Expectation {
        cgroup: "/c",
        processes: &processes,
        slow_after: SECOND,
        tolerance: TOLERANCE,
        may_be_lost: false,
        adopted_at,
    };
    compare(&[talk.view()], &[record], &expectation).errors
}

#[test]
fn the_comparison_finds_every_wrong_field() {
    let talk = by_the_book(0);
    assert_eq!(errors(&talk, record()), Vec::<String>::new());
    let time = "1970-01-01T00:00:00.013Z";
    let wrong = [
        ("schema", json!(2)),
        ("opened_at", json!(time)),
        ("opened_at", Value::Null),
        ("ended_at", json!("1970-01-01T00:00:00.005Z")),
        ("role", json!("server")),
        ("local", json!("127.0.0.1:1")),
        ("server", json!("127.0.0.1:40000")),
        ("host", Value::Null),
        ("path", json!("/a?b")),
        ("subprotocol", json!("x")),
        ("tls", json!(true)),
        ("adopted", json!(true)),
        ("cgroup", json!("/")),
        ("pid", json!(8)),
        ("process", json!("other")),
        ("initiator", json!("server")),
        ("client_close", Value::Null),
        ("client_close", json!({"time": time, "code": 1000})),
        (
            "server_close",
            json!({"time": "1970-01-01T00:00:00.020Z", "code": 1001}),
        ),
        ("client_fin", json!(time)),
        ("server_fin", Value::Null),
        ("client_rst", json!(time)),
        ("close_handshake_seconds", json!(0.02)),
        ("close_to_fin_seconds", Value::Null),
        ("server_fin_delay_seconds", json!(0.0)),
        ("rtt_seconds", json!(-1.0)),
        ("frames_sent", json!(1)),
        ("frames_received", Value::Null),
        ("time_wait", json!("client")),
        ("outcome", json!("slow_server")),
        ("slow", json!(true)),
    ];
    for (field, value) in wrong {
        let mut record = record();
        record[field] = value.clone();
        assert_ne!(
            errors(&talk, record),
            Vec::<String>::new(),
            "{field}: {value}"
        );
    }
    let mut short = record();
    short.as_object_mut().unwrap().remove("host");
    assert_ne!(errors(&talk, short), Vec::<String>::new());
}

#[test]
fn what_passed_after_the_sockets_end_may_be_unknown() {
    let mut talk = Talk::open(0);
    talk.send(5, Role::Client, &[0x81, 1, b'x']);
    talk.send(10, Role::Client, &CLOSE);
    talk.send(20, Role::Server, &CLOSE);
    talk.fin(25, Role::Client);
    talk.fin(500, Role::Server);
    let mut record = record();
    for (field, value) in [
        ("ended_at", json!("1970-01-01T00:00:00.026Z")),
        ("client_fin", json!("1970-01-01T00:00:00.025Z")),
        ("server_fin", Value::Null),
        ("server_fin_delay_seconds", Value::Null),
        ("close_to_fin_seconds", json!(0.005)),
        ("time_wait", json!("client")),
        ("outcome", json!("client_early")),
    ] {
        record[field] = value;
    }
    assert_eq!(errors(&talk, record.clone()), Vec::<String>::new());
    record["ended_at"] = json!("1970-01-01T00:00:00.501Z");
    assert_ne!(errors(&talk, record), Vec::<String>::new());
}

#[test]
fn what_passed_before_the_daemon_is_unknown() {
    let talk = by_the_book(0);
    let mut adopted = record();
    adopted["adopted"] = json!(true);
    for unknown in [
        "opened_at",
        "host",
        "path",
        "frames_sent",
        "frames_received",
    ] {
        assert_ne!(
            errors_of(&talk, adopted.clone(), Some(5 * MILLISECOND)),
            Vec::<String>::new()
        );
        adopted[unknown] = Value::Null;
    }
    let of = |record: &Value, at: i64| errors_of(&talk, record.clone(), Some(at * MILLISECOND));
    assert_eq!(of(&adopted, 5), Vec::<String>::new());
    // The client's Close frame, at 10 ms.
    for unknown in [
        "client_close",
        "initiator",
        "outcome",
        "slow",
        "close_handshake_seconds",
        "close_to_fin_seconds",
        "server_fin_delay_seconds",
    ] {
        assert_ne!(of(&adopted, 15), Vec::<String>::new(), "{unknown}");
        adopted[unknown] = Value::Null;
    }
    assert_eq!(of(&adopted, 15), Vec::<String>::new());
    assert_ne!(of(&adopted, 5), Vec::<String>::new());
}
