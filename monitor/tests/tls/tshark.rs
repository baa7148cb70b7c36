//! tshark's dissectors of TLS and WebSocket on the same capture and key log.

use std::{collections::BTreeMap, process::Command};

use crate::{programs::Server, scene::Observed};

/// When the first Close frame was complete, in nanoseconds since 1970, and its code.
pub(crate) type Close = (i64, Option<u16>);

/// Of each TLS connection, by the client's and the server's port, each end's Close frame.
pub(crate) fn closes(observed: &Observed) -> BTreeMap<(u16, u16, &'static str), Close> {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(&observed.capture).arg("-n");
    let keys = observed.sandbox.path("keys");
    command.args(["-o", &format!("tls.keylog_file:{}", keys.display())]);
    for server in Server::ALL {
        let port = server.port();
        command.args(["-d", &format!("tcp.port=={port},tls")]);
        command.args(["-d", &format!("tls.port=={port},http")]);
    }
    command
        .args(["-Y", "tls && websocket.opcode == 8"])
        .args(["-T", "fields", "-E", "separator=;", "-E", "occurrence=l"])
        .args([
            "-e",
            "tcp.srcport",
            "-e",
            "tcp.dstport",
            "-e",
            "frame.time_epoch",
        ])
        .args(["-e", "websocket.payload.close.status_code"]);
    let output = command
        .output()
        .expect("tshark is missing: `cargo xtask test` installs it");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "tshark: {complaint}");
    let mut closes = BTreeMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let fields: Vec<&str> = line.split(';').collect();
        let [source, destination] = [0, 1].map(|index: usize| fields[index].parse().unwrap());
        let end = match Server::of_port(source) {
            Some(_) => (destination, source, "server"),
            None => (source, destination, "client"),
        };
        let (seconds, rest) = fields[2].split_once('.').unwrap();
        let time = seconds.parse::<i64>().unwrap() * 1_000_000_000 + rest.parse::<i64>().unwrap();
        closes.entry(end).or_insert((time, fields[3].parse().ok()));
    }
    closes
}
