//! What became of connections and requests, counted. The loop gets the figures with each question for metrics.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use super::places::{Dropped, Places};
use crate::web_config::watch::{Protection, Trouble};

/// Why a request is not answered, apart from what is wrong in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// No HTTP that is understood, or too much of it.
    Malformed,
    /// None, or a wrong one.
    Password,
    /// Too much else is going on.
    Busy,
    RateLimit,
    /// The configuration is not known.
    WebConfig,
    ForeignHost,
}

impl Refused {
    const ALL: [Self; 6] = [
        Self::Malformed,
        Self::Password,
        Self::Busy,
        Self::RateLimit,
        Self::WebConfig,
        Self::ForeignHost,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Password => "password",
            Self::Busy => "busy",
            Self::RateLimit => "rate_limit",
            Self::WebConfig => "web_config",
            Self::ForeignHost => "foreign_host",
        }
    }
}

#[derive(Clone, Default)]
pub(super) struct Counts(Arc<Counted>);

#[derive(Default)]
struct Counted {
    dropped: [AtomicU64; Dropped::ALL.len()],
    refused: [AtomicU64; Refused::ALL.len()],
}

/// The endpoint's own figures, at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) connections: u64,
    /// By reason.
    pub(crate) dropped: Vec<(&'static str, u64)>,
    /// By reason.
    pub(crate) refused: Vec<(&'static str, u64)>,
    /// Whether the web configuration is that of its file; none without `--web-config`.
    pub(crate) web_config_valid: Option<bool>,
    /// In seconds since 1970; none without TLS.
    pub(crate) certificate_expires: Option<i64>,
}

impl Counts {
    pub(super) fn dropped(&self, reason: Dropped) {
        self.0.dropped[reason as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn refused(&self, reason: Refused) {
        self.0.refused[reason as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn figures(&self, places: &Places, protection: &Protection) -> Figures {
        let tls = protection.config.tls.as_ref();
        Figures {
            connections: places.taken() as u64,
            dropped: Dropped::ALL
                .map(|reason| (reason.name(), self.0.dropped[reason as usize].load(Relaxed)))
                .into(),
            refused: Refused::ALL
                .map(|reason| (reason.name(), self.0.refused[reason as usize].load(Relaxed)))
                .into(),
            web_config_valid: protection.from_file.then_some(match protection.trouble {
                None => true,
                Some(Trouble::Unknown(_) | Trouble::OldCertificate(_)) => false,
            }),
            certificate_expires: tls.map(|tls| tls.not_after().as_secs() as i64),
        }
    }
}
