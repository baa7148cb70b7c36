//! What a connection is doing, and how long it may.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// From the first byte of TLS, or none, to the end of the handshake.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(5);
/// For the head of a request, from its first byte on, and from the connection on for the first one.
pub(super) const HEAD: Duration = Duration::from_secs(5);
/// From one request to the next. Prometheus asks every minute at least.
pub(super) const IDLE: Duration = Duration::from_secs(90);
/// From the head of a request to the last byte of the answer.
pub(super) const REQUEST: Duration = Duration::from_secs(30);
/// Who takes nothing of an answer for so long is gone.
pub(in crate::http) const STALLED: Duration = Duration::from_secs(10);

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Stage {
    /// It does not speak TLS yet.
    Handshake,
    /// A request has begun, or should have.
    Head,
    /// It has been answered.
    Idle,
    /// A request waits for its turn: for its password to be looked at, or to be answered.
    Asking,
    /// A request is being answered.
    Served,
}

/// Why the daemon ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Dropped {
    Handshake,
    HandshakeTimeout,
    HeadTimeout,
    Idle,
    Stalled,
    RequestTimeout,
    MadeRoom,
    NoRoom,
}

impl Dropped {
    pub(in crate::http) const ALL: [Self; 8] = [
        Self::Handshake,
        Self::HandshakeTimeout,
        Self::HeadTimeout,
        Self::Idle,
        Self::Stalled,
        Self::RequestTimeout,
        Self::MadeRoom,
        Self::NoRoom,
    ];

    /// As the metrics call it.
    pub(in crate::http) fn name(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::HeadTimeout => "head_timeout",
            Self::Idle => "idle",
            Self::Stalled => "stalled",
            Self::RequestTimeout => "request_timeout",
            Self::MadeRoom => "made_room",
            Self::NoRoom => "no_room",
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    stage: Stage,
    /// Since when; with [`Stage::Asking`] and [`Stage::Served`], when the request's head was whole.
    pub(super) since: Instant,
    /// Since when something waits to be written, and nothing is taken.
    stalled: Option<Instant>,
    /// It has asked something that it may ask.
    known: bool,
}

impl Moment {
    /// Of a connection that has just come.
    pub(super) fn new(stage: Stage, now: Instant) -> Self {
        Self {
            stage,
            since: now,
            stalled: None,
            known: false,
        }
    }

    /// Why it is to end now.
    pub(super) fn overdue(&self, now: Instant) -> Option<Dropped> {
        let past = |since: Instant, within| now.saturating_duration_since(since) >= within;
        if self.stalled.is_some_and(|since| past(since, STALLED)) {
            return Some(Dropped::Stalled);
        }
        let (within, reason) = match self.stage {
            Stage::Handshake => (HANDSHAKE, Dropped::HandshakeTimeout),
            Stage::Head => (HEAD, Dropped::HeadTimeout),
            Stage::Idle => (IDLE, Dropped::Idle),
            Stage::Asking | Stage::Served => (REQUEST, Dropped::RequestTimeout),
        };
        past(self.since, within).then_some(reason)
    }

    /// How readily it gives its place up, the least first; none when it does not.
    pub(super) fn rank(&self) -> Option<u8> {
        match (self.stage, self.stalled, self.known) {
            (Stage::Served, None, _) => None,
            (Stage::Served, Some(_), _) => Some(2),
            (_, _, true) => Some(1),
            (_, _, false) => Some(0),
        }
    }
}

/// What a place's connection is doing: told by whoever notices.
#[derive(Clone)]
pub(in crate::http) struct Turn(pub(super) Arc<Mutex<Moment>>);

impl Turn {
    pub(in crate::http) fn stage(&self) -> Stage {
        lock(&self.0).stage
    }

    /// It is at another stage now.
    pub(in crate::http) fn enter(&self, stage: Stage) {
        let mut moment = lock(&self.0);
        moment.stage = stage;
        moment.since = Instant::now();
    }

    /// Its request waits for a turn, or has one; the time it may take goes on.
    pub(in crate::http) fn served(&self, served: bool) {
        let mut moment = lock(&self.0);
        moment.stage = if served { Stage::Served } else { Stage::Asking };
        moment.known |= served;
    }

    /// Whether what waits to be written is stuck.
    pub(in crate::http) fn stalled(&self, stalled: bool) {
        let mut moment = lock(&self.0);
        match (moment.stalled, stalled) {
            (None, true) => moment.stalled = Some(Instant::now()),
            (Some(_), false) => moment.stalled = None,
            (None, false) | (Some(_), true) => {}
        }
    }
}

/// Locks; what a thread that panicked left is good.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
