//! What another daemon has followed: its facts are known here, and no news.

use std::time::Duration;

use monitor_ebpf::event::{Role, Snapshot};

use super::{Key, Standing, Tracked, Tracker, key};
use crate::heads::Opening;

impl Tracker {
    /// Takes up a connection, of which this is a state, from a daemon that has followed it `since`. That has
    /// told its opening, and the first Close frames of the client or the server or both: they are no news.
    pub(crate) fn resume(
        &mut self,
        snapshot: &Snapshot,
        opening: Option<Opening>,
        since: Duration,
        close_frames: [bool; 2],
    ) {
        let key = key(snapshot);
        if self.recently_ended.contains(key) || self.connections.contains(key) {
            return;
        }
        let mut tracked = Tracked::unknown(snapshot);
        tracked.first_seen = since;
        let known = &mut tracked.connection;
        known.opening = opening.map(|opening| self.openings.share(opening));
        known.snapshot.opened = snapshot.opened;
        let [of_client, of_server] = close_frames;
        let [sent, received] = match snapshot.role {
            Role::Client => [of_client, of_server],
            Role::Server => [of_server, of_client],
        };
        known.snapshot.sent.close = snapshot.sent.close.filter(|_| sent);
        known.snapshot.received.close = snapshot.received.close.filter(|_| received);
        self.live.moved(key, None, Standing::of(&known.snapshot));
        self.order.moved(None, tracked.place(key));
        self.connections.put(key, tracked);
    }

    /// Remembers a connection that another daemon has given out.
    pub(crate) fn remember_ended(&mut self, key: Key) {
        self.recently_ended.insert(key);
    }

    /// Whether a connection is known and not given out.
    pub(crate) fn is_followed(&self, key: Key) -> bool {
        self.connections.contains(key)
    }
}
