//! `/api/v1/connections`: what is live, page by page.

use std::{fmt, net::SocketAddr, str::FromStr, time::Duration};

use monitor_ebpf::event::Role;
use serde::Serialize;

use crate::{
    clock::{Utc, UtcOffset, seconds},
    outcome::role_name,
    tracker::{self, Phase, Place, Server, Tracker},
};

/// Which connections are asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Selection {
    pub(crate) phase: Option<Phase>,
    pub(crate) server: Option<SocketAddr>,
    pub(crate) role: Option<Role>,
    pub(crate) limit: usize,
}

impl Selection {
    fn wants(&self, server: Server) -> bool {
        self.server.is_none_or(|address| address == server.address)
            && self.role.is_none_or(|role| role == server.role)
    }
}

/// Connections at one moment, out of the loop.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) now: Duration,
    pub(crate) offset: UtcOffset,
    pub(crate) found: Vec<Found>,
    /// The last connection that was looked at, if there are more behind it.
    pub(crate) next: Option<Place>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) place: Place,
    pub(crate) connection: tracker::Connection,
    /// Below the cgroup v2 mount.
    pub(crate) cgroup: Option<String>,
}

/// Connections that are looked at in one turn of the loop at most; who wants more asks again.
const LOOKED_AT_MAX: usize = 1000;

/// Takes the connections that are asked for out of the tracker, from behind a place on: as many as one
/// turn allows. Returns them and, if there are more behind it, the last place looked at.
pub(crate) fn look(
    tracker: &Tracker,
    selection: &Selection,
    behind: Option<Place>,
    mut cgroup: impl FnMut(u64) -> Option<String>,
) -> (Vec<Found>, Option<Place>) {
    let mut listed = tracker.list(selection.phase, behind).peekable();
    let mut found = Vec::new();
    let mut last = None;
    for (place, connection) in listed.by_ref().take(LOOKED_AT_MAX) {
        last = Some(place);
        if !selection.wants(Server::of(&connection.snapshot)) {
            continue;
        }
        found.push(Found {
            place,
            cgroup: cgroup(connection.snapshot.cgroup_id),
            connection,
        });
        if found.len() >= selection.limit {
            break;
        }
    }
    (found, last.filter(|_| listed.peek().is_some()))
}

#[derive(Serialize)]
pub(crate) struct Connections<'a> {
    time: Utc,
    connections: Vec<Connection<'a>>,
    /// What `after` takes to go on; null when there is no more.
    next: Option<String>,
}

#[derive(Serialize)]
struct Connection<'a> {
    server: SocketAddr,
    role: &'static str,
    local: SocketAddr,
    remote: SocketAddr,
    phase: &'static str,
    since: Utc,
    age_seconds: f64,
    opened_at: Option<Utc>,
    host: Option<&'a str>,
    path: Option<&'a str>,
    cgroup: Option<&'a str>,
}

impl<'a> Connections<'a> {
    pub(crate) fn new(page: &'a Page) -> Self {
        Self {
            time: page.offset.utc(page.now),
            connections: page
                .found
                .iter()
                .map(|found| Connection::new(found, page))
                .collect(),
            next: page.next.map(|place| Cursor(place).to_string()),
        }
    }
}

impl<'a> Connection<'a> {
    fn new(found: &'a Found, page: &Page) -> Self {
        let Found {
            place,
            connection,
            cgroup,
        } = found;
        let snapshot = &connection.snapshot;
        let opening = connection.opening.as_ref();
        Self {
            server: Server::of(snapshot).address,
            role: role_name(snapshot.role),
            local: snapshot.local,
            remote: snapshot.remote,
            phase: place.phase.name(),
            since: page.offset.utc(place.since),
            age_seconds: seconds(page.now.saturating_sub(place.since)),
            opened_at: snapshot.opened.map(|at| page.offset.utc(at)),
            host: opening.and_then(|heads| heads.host.as_deref()),
            path: opening.and_then(|heads| heads.path.as_deref()),
            cgroup: cgroup.as_deref(),
        }
    }
}

/// A place as text. What it consists of is nobody's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor(pub(crate) Place);

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { phase, since, key } = self.0;
        let (cookie, opened) = key;
        write!(f, "{}-{:x}-{cookie:x}", phase as usize, since.as_nanos())?;
        match opened {
            Some(opened) => write!(f, "-{:x}", opened.as_nanos()),
            None => Ok(()),
        }
    }
}

impl FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let hex = |text: &str| u64::from_str_radix(text, 16).map_err(|_| ());
        let mut parts = text.split('-');
        let mut part = || parts.next().ok_or(());
        let phase = part()?.parse::<usize>().map_err(|_| ())?;
        let place = Place {
            phase: *Phase::ALL.get(phase).ok_or(())?,
            since: Duration::from_nanos(hex(part()?)?),
            key: (
                hex(part()?)?,
                part().ok().map(hex).transpose()?.map(Duration::from_nanos),
            ),
        };
        parts.next().is_none().then_some(Self(place)).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};
    use serde_json::json;

    use super::*;
    use crate::{heads::Opening, timeline::after};

    #[test]
    fn hanging_connection_in_full() {
        let mut tracker = Tracker::default();
        let script = "1s upgrade; 2s client close; 2500ms server close";
        let opening = Opening {
            host: Some("chat".to_owned()),
            path: Some("/<script>\u{2028}".to_owned()),
            user_agent: Some("said nowhere".to_owned()),
            ..Opening::default()
        };
        tracker.observe(after(Role::Server, script), Some(opening), Duration::ZERO);
        let all = Selection {
            phase: None,
            server: None,
            role: None,
            limit: 9,
        };
        let (found, next) = look(&tracker, &all, None, |id| (id == 1).then(|| "/chat".into()));
        let page = Page {
            now: Duration::from_secs(4),
            offset: UtcOffset::between(Duration::ZERO, Duration::ZERO),
            found,
            next,
        };
        let expected = json!({
            "time": "1970-01-01T00:00:04.000000000Z",
            "connections": [{
                "server": "198.51.100.1:8765",
                "role": "server",
                "local": "198.51.100.1:8765",
                "remote": "192.0.2.7:43210",
                "phase": "awaiting_fin",
                "since": "1970-01-01T00:00:02.500000000Z",
                "age_seconds": 1.5,
                "opened_at": "1970-01-01T00:00:01.000000000Z",
                "host": "chat",
                "path": "/<script>\u{2028}",
                "cgroup": "/chat",
            }],
            "next": null,
        });
        let encoded = serde_json::to_value(Connections::new(&page)).unwrap();
        assert_eq!(encoded, expected);
    }

    #[test]
    fn cursor_is_one_or_nothing() {
        for text in [
            "",
            "0",
            "4-0-0-0",
            "0-0",
            "0-0-0-0-0",
            "0-x-0-0",
            "-1-0-0-0",
        ] {
            assert_eq!(text.parse::<Cursor>(), Err(()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn cursor_finds_its_place_again(
            phase in 0..Phase::ALL.len(), since: u64, cookie: u64, opened in any::<Option<u64>>()
        ) {
            let cursor = Cursor(Place {
                phase: Phase::ALL[phase],
                since: Duration::from_nanos(since),
                key: (cookie, opened.map(Duration::from_nanos)),
            });
            prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }

        #[test]
        fn any_text_is_survived(text: String) {
            let _ = text.parse::<Cursor>();
        }
    }
}
