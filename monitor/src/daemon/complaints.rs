//! When and how often the log says which WebSockets over TLS have no record, and why.

use std::time::Duration;

use anyhow::Result;
use monitor_ebpf::counter::Counter;
use tracing::warn;

use crate::probes::Probes;

/// Between two lines of one kind at least, as long as there is more of it.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

pub(super) struct Complaints {
    /// Calls of the library in sessions that found no room.
    without_room: Seldom,
    /// Records that show that their session may be another connection's.
    contradicted: Seldom,
}

impl Complaints {
    /// What a daemon before this one has seen, it has told.
    ///
    /// # Errors
    ///
    /// When the kernel does not let its counters be read.
    pub(super) fn since(probes: &Probes) -> Result<Self> {
        let [without_room, contradicted] = counted(probes)?;
        Ok(Self {
            without_room: Seldom::since(without_room),
            contradicted: Seldom::since(contradicted),
        })
    }

    /// Says what is new, if it is time. That counters cannot be read is told by who compares them.
    pub(super) fn tell(&mut self, probes: &Probes, now: Duration) {
        let Ok([without_room, contradicted]) = counted(probes) else {
            return;
        };
        if let Some(calls) = self.without_room.news(without_room, now) {
            warn!(
                calls,
                "there is no room for more TLS sessions: WebSockets in those that are left out have no record (--tls with the names of cgroups or programs, and not auto, leaves room to those that matter)"
            );
        }
        if let Some(contradictions) = self.contradicted.news(contradicted, now) {
            warn!(
                contradictions,
                "TLS records went out by another connection than their session's: WebSockets of which this leaves a doubt have no record (so it is where a process goes on with a session after fork; the runbook of ClosewatchTlsSessionsLost tells more)"
            );
        }
    }
}

fn counted(probes: &Probes) -> Result<[u64; 2]> {
    probes.counted([Counter::TlsNoRoom, Counter::TlsContradicted])
}

/// Of something that is counted.
struct Seldom {
    told_at: Option<Duration>,
    told: u64,
}

impl Seldom {
    fn since(count: u64) -> Self {
        Self {
            told_at: None,
            told: count,
        }
    }

    /// How many more there are than were told, if they are to be told now.
    fn news(&mut self, count: u64, now: Duration) -> Option<u64> {
        let waits = |at: Duration| now.saturating_sub(at) < COMPLAIN_EVERY;
        if count == self.told || self.told_at.is_some_and(waits) {
            return None;
        }
        let new = count.saturating_sub(self.told);
        self.told_at = Some(now);
        self.told = count;
        Some(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_is_told_once_a_minute() {
        const SECOND: Duration = Duration::from_secs(1);
        let mut seldom = Seldom::since(7);
        assert_eq!(seldom.news(7, SECOND), None, "told by the daemon before");
        assert_eq!(seldom.news(9, 11 * SECOND), Some(2));
        assert_eq!(seldom.news(500, 21 * SECOND), None);
        assert_eq!(seldom.news(900, 71 * SECOND), Some(891));
        assert_eq!(seldom.news(900, 200 * SECOND), None, "it is over");
    }
}
