//! When and how often the log says that there is no room for TLS sessions.

use std::time::Duration;

use tracing::warn;

/// Between two lines at least, as long as there is none.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

pub(super) struct Room {
    complained: Option<Duration>,
    /// Calls of the library in sessions that found no room, when that was last told.
    told: u64,
}

impl Room {
    /// What a daemon before this one has seen, it has told.
    pub(super) fn since(calls: u64) -> Self {
        Self {
            complained: None,
            told: calls,
        }
    }

    pub(super) fn tell(&mut self, calls: u64, now: Duration) {
        if let Some(calls) = self.news(calls, now) {
            warn!(
                calls,
                "there is no room for more TLS sessions: WebSockets in those that are left out have no record (--tls with the names of cgroups or programs, and not auto, leaves room to those that matter)"
            );
        }
    }

    /// Calls since it was last told, if it is to be told now.
    fn news(&mut self, calls: u64, now: Duration) -> Option<u64> {
        let told = self.complained;
        if calls == self.told || told.is_some_and(|at| now.saturating_sub(at) < COMPLAIN_EVERY) {
            return None;
        }
        let new = calls.saturating_sub(self.told);
        self.complained = Some(now);
        self.told = calls;
        Some(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn want_of_room_is_told_once_a_minute_while_it_lasts() {
        const SECOND: Duration = Duration::from_secs(1);
        let mut room = Room::since(7);
        assert_eq!(room.news(7, SECOND), None, "told by the daemon before");
        assert_eq!(room.news(9, 11 * SECOND), Some(2));
        assert_eq!(room.news(500, 21 * SECOND), None);
        assert_eq!(room.news(900, 71 * SECOND), Some(891));
        assert_eq!(room.news(900, 200 * SECOND), None, "there is room again");
    }
}
