//! Removes from the kernel's memory the TLS sessions that nobody needs any more.
//!
//! In: which sessions' connections have ended, and the time. What is told after an end is told within a moment; then the
//! session goes. Sessions whose process died without freeing them, and that belong to no connection, are looked for
//! once a minute.

use std::{collections::VecDeque, io, time::Duration};

use monitor_ebpf::session::Session;
use tracing::debug;

use crate::{probes::Probes, tracker::GRACE};

/// How often what processes left behind is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct Leftovers {
    /// By when they may be removed.
    ended: VecDeque<(Duration, u64)>,
    looked: Duration,
}

impl Leftovers {
    /// The connection of a session has ended.
    pub(super) fn ended(&mut self, number: u64, now: Duration) {
        self.ended.push_back((now + 2 * GRACE, number));
    }

    /// Removes what is due. Returns how many WebSockets were among it whose connection was never known.
    pub(super) fn forget(&mut self, probes: &mut Probes, now: Duration) -> usize {
        let due = self.ended.partition_point(|(until, _)| *until <= now);
        for (_, number) in self.ended.drain(..due) {
            probes.remove_session(number);
        }
        if now.saturating_sub(self.looked) < LOOK_EVERY {
            return 0;
        }
        self.looked = now;
        let left: Vec<(u64, Session)> = probes
            .sessions()
            .filter_map(|(number, bytes)| Some((number, Session::read(&bytes)?)))
            .filter(|(_, session)| is_left(session, now))
            .collect();
        if !left.is_empty() {
            debug!(
                sessions = left.len(),
                "TLS sessions of dead processes removed"
            );
        }
        for (number, _) in &left {
            probes.remove_session(*number);
        }
        let unbound = left
            .iter()
            .filter(|(_, session)| session.is_unbound_websocket());
        unbound.count()
    }
}

/// Whether nothing will be told of a session any more, and nobody said so.
fn is_left(session: &Session, now: Duration) -> bool {
    if session.is_bound() {
        return session
            .ended()
            .is_some_and(|ended| now.saturating_sub(ended) > LOOK_EVERY);
    }
    // SAFETY: sends nothing; asks whether there is such a process.
    let answer = unsafe { libc::kill(session.process.cast_signed(), 0) };
    answer != 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH)
}
