//! What the peers say that they sent.

use std::{cmp::Ordering, collections::HashMap, fs, path::Path};

use serde_json::Value;

use crate::{
    judge::{Role, Side},
    witness::View,
};

/// What one end of a connection sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) kind: String,
    pub(crate) frames: u64,
    /// The code of its Close frame, when it sent one.
    pub(crate) close: Option<Option<u16>>,
    /// Who sent the first Close frame; none when nobody did, or when they crossed.
    pub(crate) initiator: Option<String>,
}

/// By the client's port.
pub(crate) fn read(path: &Path) -> HashMap<u16, Sent> {
    let text = fs::read_to_string(path).unwrap();
    let mut ends = HashMap::new();
    for line in text.lines() {
        let end: Value = serde_json::from_str(line).unwrap();
        assert!(end["problem"].is_null(), "a peer had a problem: {line}");
        let code = || end["code"].as_u64().map(|code| code as u16);
        let sent = Sent {
            kind: end["kind"].as_str().unwrap().to_owned(),
            frames: end["frames"].as_u64().unwrap(),
            close: end["close"].as_bool().unwrap().then(code),
            initiator: end["initiator"].as_str().map(str::to_owned),
        };
        let port = end["port"].as_u64().unwrap() as u16;
        assert!(ends.insert(port, sent).is_none(), "a port was used twice");
    }
    ends
}

/// Whether the packets at this end say what the peer says that it sent.
pub(crate) fn check(view: &View, by: Role, sent: &Sent) {
    let side = match by {
        Role::Client => view.client,
        Role::Server => view.server,
    };
    let seen = (
        view.frames(by, i64::MAX),
        side.close.map(|(_, code)| code),
        initiator(view),
    );
    let initiator = sent.initiator.as_deref().or(seen.2);
    assert_eq!(
        seen,
        (Some(sent.frames), sent.close, initiator),
        "what the {} of {} sent, as the {} saw it",
        by.name(),
        view.client_address,
        view.role.name(),
    );
}

fn initiator(view: &View) -> Option<&'static str> {
    let at = |side: Side| side.close.map_or(i64::MAX, |(moment, _)| moment.at);
    match at(view.client).cmp(&at(view.server)) {
        Ordering::Less => Some("client"),
        Ordering::Greater => Some("server"),
        Ordering::Equal => None,
    }
}
