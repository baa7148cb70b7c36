//! tshark's own WebSocket dissector, on the packets that left the sender.

use std::{collections::HashMap, path::Path, process::Command};

use crate::crowd::PORT;

/// What a direction holds, up to the first Close frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dissected {
    pub(crate) frames: u64,
    pub(crate) close: Option<Option<u16>>,
}

/// What the end that the capture was taken at sent, by the client's port.
pub(crate) fn dissect(capture: &Path, from_server: bool) -> HashMap<u16, Dissected> {
    let here = if from_server { "src" } else { "dst" };
    let output = Command::new("tshark")
        .arg("-r")
        .arg(capture)
        .args(["-n", "-d", &format!("tcp.port=={PORT},http")])
        .args(["-Y", &format!("websocket && tcp.{here}port == {PORT}")])
        .args(["-o", "tcp.reassemble_out_of_order:TRUE"])
        .args(["-T", "fields", "-E", "occurrence=a", "-E", "separator=;"])
        .args(["-e", "tcp.srcport", "-e", "tcp.dstport"])
        .args(["-e", "websocket.opcode"])
        .args(["-e", "websocket.payload.close.status_code"])
        .output()
        .expect("tshark is missing: `cargo xtask test` installs it");
    assert!(
        output.status.success(),
        "tshark: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut directions: HashMap<u16, Dissected> = HashMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let fields: Vec<&str> = line.split(';').collect();
        let port = fields[usize::from(from_server)].parse().unwrap();
        let direction = directions.entry(port).or_default();
        for opcode in fields[2].split(',') {
            if direction.close.is_none() {
                direction.frames += 1;
                if opcode == "8" {
                    direction.close = Some(fields[3].split(',').next().unwrap().parse().ok());
                }
            }
        }
    }
    directions
}
