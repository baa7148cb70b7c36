//! What a capture says about every WebSocket connection: the record that each local end must have.

use std::net::SocketAddr;

use crate::{
    judge::{Role, Side, side},
    tcp::{Connection, Packet, Stream, connections},
    websocket::{Frames, Upgrade, frames, upgrade},
};

/// How much of a head the product promises to look at.
const REQUEST_HEAD_MAX: usize = 2048;
const RESPONSE_HEAD_MAX: usize = 1024;

/// A text field of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) value: Option<String>,
    /// The head was too long or came in too many packets for a promise: null will do, too.
    pub(crate) may_be_unknown: bool,
}

/// One connection as one of its ends saw it.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) role: Role,
    pub(crate) client_address: SocketAddr,
    pub(crate) server_address: SocketAddr,
    pub(crate) tls: bool,
    pub(crate) opened_at: i64,
    pub(crate) host: Text,
    pub(crate) path: Text,
    pub(crate) user_agent: Text,
    pub(crate) subprotocol: Text,
    pub(crate) server_software: Text,
    pub(crate) client: Side,
    pub(crate) server: Side,
    /// Packets passed in another order than they were sent in.
    pub(crate) disordered: bool,
    client_frames: Option<Vec<i64>>,
    server_frames: Option<Vec<i64>>,
}

impl View {
    /// Frames that the end sent until then; none when its framing broke.
    pub(crate) fn frames(&self, by: Role, limit: i64) -> Option<u64> {
        let times = match by {
            Role::Client => &self.client_frames,
            Role::Server => &self.server_frames,
        };
        times
            .as_ref()
            .map(|times| times.iter().filter(|&&at| at <= limit).count() as u64)
    }

    pub(crate) fn local(&self) -> SocketAddr {
        match self.role {
            Role::Client => self.client_address,
            Role::Server => self.server_address,
        }
    }

    pub(crate) fn remote(&self) -> SocketAddr {
        match self.role {
            Role::Client => self.server_address,
            Role::Server => self.client_address,
        }
    }
}

/// The records that connections seen by this capture must have in the role. On loopback one capture
/// serves both ends; between two namespaces each end has its own.
pub(crate) fn views(packets: &[Packet], role: Role) -> Vec<View> {
    views_of(&connections(packets), role)
}

/// The same of connections whose bytes are known.
pub(crate) fn views_of(connections: &[Connection], role: Role) -> Vec<View> {
    connections
        .iter()
        .filter_map(|connection| Some(view(connection, &upgrade(connection)?, role)))
        .collect()
}

fn view(connection: &Connection, upgrade: &Upgrade<'_>, role: Role) -> View {
    let Connection {
        sent_by_client,
        sent_by_server,
        ..
    } = connection;
    let from_client = frames(&sent_by_client.bytes, upgrade.request.end);
    let from_server = frames(&sent_by_server.bytes, upgrade.response.end);
    let of_request = |name: &str| {
        let known = upgrade.request.reaches_to(name) <= REQUEST_HEAD_MAX
            && upgrade.request.packets(sent_by_client) == 1;
        text(upgrade.request.get(name), known)
    };
    let of_response = |name: &str| {
        let known = upgrade.response.reaches_to(name) <= RESPONSE_HEAD_MAX
            && upgrade.response.packets(sent_by_server) == 1;
        text(upgrade.response.get(name), known)
    };
    let target = upgrade
        .request
        .first_line
        .split(' ')
        .nth(1)
        .unwrap_or_default();
    let path = target.split('?').next().map(without_authority);
    View {
        role,
        client_address: connection.client,
        server_address: connection.server,
        tls: sent_by_client.is_decrypted(),
        opened_at: sent_by_server.passed(upgrade.response.end).at,
        host: of_request("Host"),
        path: text(path, upgrade.request.packets(sent_by_client) == 1),
        user_agent: of_request("User-Agent"),
        subprotocol: of_response("Sec-WebSocket-Protocol"),
        server_software: of_response("Server"),
        client: side(&from_client, sent_by_client),
        server: side(&from_server, sent_by_server),
        disordered: sent_by_client.disordered || sent_by_server.disordered,
        client_frames: frame_times(&from_client, sent_by_client),
        server_frames: frame_times(&from_server, sent_by_server),
    }
}

/// The path of a request target, be it in absolute form.
fn without_authority(target: &str) -> &str {
    match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => {
            rest.find('/').map_or("/", |at| &rest[at..])
        }
        _ => target,
    }
}

fn text(value: Option<&str>, known: bool) -> Text {
    Text {
        value: value.map(str::to_owned),
        may_be_unknown: !known,
    }
}

fn frame_times(frames: &Frames, stream: &Stream) -> Option<Vec<i64>> {
    if frames.broken {
        return None;
    }
    Some(
        frames
            .headers
            .iter()
            .map(|&end| stream.passed(end).at)
            .collect(),
    )
}
