//! Timelines for tests: `"0ms upgrade; 40ms client close 1000; 41ms server close; 42ms server fin"`.
//!
//! In: steps `TIME WHAT`, separated by `;`. Out: the cumulative state of the socket after each step,
//! as the kernel side would tell it. WHAT is `upgrade`, `gone` (TCP_CLOSE), or `client`/`server` and
//! `close [CODE]`, `fin`, `crossing fin` (sent before the other end's FIN was seen), `rst`, `lost`
//! (its frames are not followed from there) or `invalid frame`.

use std::time::Duration;

use monitor_ebpf::event::{CloseFrame, Lost, Role, Side, Snapshot};

/// The state after each step, seen by an end with this role.
pub(crate) fn timeline(role: Role, script: &str) -> Vec<Snapshot> {
    let mut snapshot = unopened(role);
    script
        .split(';')
        .map(|step| {
            apply(&mut snapshot, step.trim());
            snapshot.clone()
        })
        .collect()
}

/// The state after the last step.
pub(crate) fn after(role: Role, script: &str) -> Snapshot {
    timeline(role, script).pop().unwrap()
}

/// A socket of which nothing is known but its ends.
pub(crate) fn unopened(role: Role) -> Snapshot {
    let (client, server) = (
        "192.0.2.7:43210".parse().unwrap(),
        "198.51.100.1:8765".parse().unwrap(),
    );
    let (local, remote) = match role {
        Role::Client => (client, server),
        Role::Server => (server, client),
    };
    Snapshot {
        cookie: 1,
        cgroup_id: 1,
        role,
        local,
        remote,
        taken: Duration::ZERO,
        opened: None,
        ended: None,
        sent: Side::default(),
        received: Side::default(),
        rtt: None,
        closer: None,
        tls: false,
    }
}

fn apply(snapshot: &mut Snapshot, step: &str) {
    let words: Vec<&str> = step.split_whitespace().collect();
    let at = humantime::parse_duration(words[0]).unwrap();
    snapshot.taken = at;
    let by = match words[1] {
        "upgrade" => return snapshot.opened = Some(at),
        "gone" => return snapshot.ended = Some(at),
        "client" => Role::Client,
        "server" => Role::Server,
        word => panic!("no such word in a timeline: {word}"),
    };
    let (side, other) = if by == snapshot.role {
        (&mut snapshot.sent, &snapshot.received)
    } else {
        (&mut snapshot.received, &snapshot.sent)
    };
    match words[2..] {
        ["close"] => side.close = Some(CloseFrame { at, code: None }),
        ["close", code] => {
            side.close = Some(CloseFrame {
                at,
                code: Some(code.parse().unwrap()),
            })
        }
        ["fin"] => (side.fin, side.fin_answers_fin) = (Some(at), other.fin.is_some()),
        ["crossing", "fin"] => side.fin = Some(at),
        ["rst"] => side.rst = Some(at),
        ["lost"] => side.lost = Some(Lost::Gap),
        ["invalid", "frame"] => side.lost = Some(Lost::InvalidFrame),
        ref words => panic!("no such words in a timeline: {words:?}"),
    }
}
