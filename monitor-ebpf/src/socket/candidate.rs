//! Connections whose opening was not seen, until they show what they are.

use super::{ADOPTED, Identity, Phase, Socket};
use crate::{event::Role, socket::Direction, stream::Stream};

/// What a candidate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not known yet.
    Unknown,
    /// A WebSocket: both directions show its frames, and one of them masks.
    WebSocket,
    /// Nothing that is worth a further look.
    NoWebSocket,
}

impl Socket {
    /// A connection whose opening was not seen. Nothing is known yet of either direction.
    #[must_use]
    pub fn candidate() -> Self {
        Self {
            phase: Phase::Candidate as u8,
            ..Self::default()
        }
    }

    /// The first segment of a candidate: the local end has sent up to `sent`, and awaits `awaited`.
    #[inline(always)]
    pub fn begin_candidate(&mut self, sent: u32, awaited: u32) {
        self.phase = Phase::Candidate as u8;
        self.streams[0] = Stream::unseen_before(sent);
        self.streams[1] = Stream::unseen_before(awaited);
    }

    /// Whether no segment of this candidate was seen yet.
    #[inline(always)]
    #[must_use]
    pub fn is_new_candidate(&self) -> bool {
        self.is_candidate() && self.streams[0].cursor == 0
    }

    /// Whether this may be a WebSocket.
    #[inline(always)]
    #[must_use]
    pub fn is_candidate(&self) -> bool {
        self.phase == Phase::Candidate as u8
    }

    /// What a candidate has shown in `direction` so far.
    #[inline(always)]
    pub fn judge_candidate(&mut self, direction: Direction) -> Verdict {
        self.stream(direction).stay_unseen();
        let [sent, received] = &self.streams;
        if sent.is_hopeless() || received.is_hopeless() {
            return Verdict::NoWebSocket;
        }
        let one_masks = sent.is_masked() != received.is_masked();
        if one_masks && sent.shows_frames() && received.shows_frames() {
            return Verdict::WebSocket;
        }
        Verdict::Unknown
    }

    /// A candidate is a WebSocket, of which nothing was seen before.
    #[inline(always)]
    pub fn adopt(&mut self, identity: Identity) {
        self.identity = identity;
        self.role = if self.streams[0].is_masked() {
            Role::Client as u8
        } else {
            Role::Server as u8
        };
        self.phase = Phase::Open as u8;
        self.concluded = ADOPTED;
    }
}
