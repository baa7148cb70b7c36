//! What a request must pass before it is answered: a configuration that is known, the rate limit, the password,
//! and, where this host alone is listened to, its own name.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use anyhow::Result;
use axum::{
    extract::{Extension, Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue,
        header::{
            AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, REFERRER_POLICY,
            WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
        },
    },
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use tokio::sync::watch;

use super::{
    counts::{Counts, Refused},
    error::ApiError,
    host,
    passwords::{Passwords, Verdict},
    places::Turn,
};
use crate::web_config::{
    Rate, Terms,
    watch::{Protection, Trouble},
};

/// On every response. The page needs nothing but what is served here, so nothing else may be loaded
/// should foreign text ever get into it as markup; and what is served is true for a moment only.
const HEADERS: [(HeaderName, &str); 4] = [
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-store"),
];

/// Who asks, over what.
#[derive(Clone)]
pub(super) struct Visitor {
    pub(super) from: SocketAddr,
    /// What its connection had to fulfil; none without TLS.
    pub(super) terms: Option<Terms>,
    pub(super) turn: Turn,
}

#[derive(Clone)]
pub(super) struct Guard(Arc<Inner>);

struct Inner {
    protection: watch::Receiver<Protection>,
    passwords: Passwords,
    bucket: Mutex<Bucket>,
    counts: Counts,
    /// Only this host can connect.
    loopback: bool,
}

impl Guard {
    pub(super) fn new(
        protection: watch::Receiver<Protection>,
        counts: Counts,
        loopback: bool,
    ) -> Result<Self> {
        Ok(Self(Arc::new(Inner {
            protection,
            passwords: Passwords::new()?,
            bucket: Mutex::new(Bucket::new(Instant::now())),
            counts,
            loopback,
        })))
    }

    async fn look(&self, headers: &HeaderMap, visitor: &Visitor) -> Result<(), ApiError> {
        let inner = &self.0;
        let refuse = |why, error| {
            inner.counts.refused(why);
            Err(error)
        };
        let protection = inner.protection.borrow().clone();
        if matches!(protection.trouble, Some(Trouble::Unknown(_))) {
            return refuse(Refused::WebConfig, ApiError::web_config());
        }
        let tls = protection.config.tls.as_ref();
        if tls.map(|tls| &tls.terms) != visitor.terms.as_ref() {
            return refuse(Refused::WebConfig, ApiError::other_protection());
        }
        if let Some(rate) = protection.config.rate {
            let mut bucket = inner.bucket.lock().unwrap_or_else(PoisonError::into_inner);
            if !bucket.take(rate, Instant::now()) {
                drop(bucket);
                return refuse(Refused::RateLimit, ApiError::rate_limit());
            }
        }
        let authorization = headers.get(AUTHORIZATION);
        let verdict = inner.passwords.check(
            &protection.config,
            visitor.from.ip(),
            authorization.map(HeaderValue::as_bytes),
        );
        match verdict.await {
            Verdict::Right => {}
            Verdict::Wrong => return refuse(Refused::Password, ApiError::password()),
            Verdict::Busy => return refuse(Refused::Busy, ApiError::busy_passwords()),
        }
        // A page of a stranger has neither our certificate nor a password.
        let open = tls.is_none() && protection.config.users.is_none();
        let host = headers.get(HOST);
        let ours = host.is_none_or(|host| host.to_str().is_ok_and(host::names_this_host));
        if inner.loopback && open && !ours {
            return refuse(Refused::ForeignHost, ApiError::foreign_host());
        }
        visitor.turn.served(true);
        Ok(())
    }
}

/// Lets a request pass, or answers why not; and puts on every response what belongs on it.
pub(super) async fn guard(
    State(guard): State<Guard>,
    Extension(visitor): Extension<Visitor>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = match guard.look(request.headers(), &visitor).await {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    for (name, value) in &guard.0.protection.borrow().config.headers {
        headers.insert(name, value.clone());
    }
    response
}

/// Answers that may be given at once, refilled with time.
struct Bucket {
    rate: Option<Rate>,
    filled: f64,
    at: Instant,
}

impl Bucket {
    fn new(now: Instant) -> Self {
        Self {
            rate: None,
            filled: 0.0,
            at: now,
        }
    }

    fn take(&mut self, rate: Rate, now: Instant) -> bool {
        let burst = f64::from(rate.burst);
        if self.rate != Some(rate) {
            self.rate = Some(rate);
            self.filled = burst;
        } else {
            let passed = now.saturating_duration_since(self.at).as_secs_f64();
            self.filled = burst.min(self.filled + passed / rate.interval.as_secs_f64());
        }
        self.at = now;
        let taken = self.filled >= 1.0;
        if taken {
            self.filled -= 1.0;
        }
        taken
    }
}

impl ApiError {
    fn password() -> Self {
        let realm = HeaderValue::from_static("Basic realm=\"closewatch\", charset=\"UTF-8\"");
        Self::unauthorized().with(WWW_AUTHENTICATE, realm)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn bucket_gives_its_burst_and_then_one_each_interval() {
        let rate = Rate {
            interval: Duration::from_millis(100),
            burst: 3,
        };
        let began = Instant::now();
        let mut bucket = Bucket::new(began);
        let mut taken = |after: u64| bucket.take(rate, began + Duration::from_millis(after));
        assert_eq!([0, 0, 0, 0].map(&mut taken), [true, true, true, false]);
        assert_eq!([99, 101, 102].map(&mut taken), [false, true, false]);
        let long = [100_000, 100_000, 100_000, 100_000].map(&mut taken);
        assert_eq!(long, [true, true, true, false]);
    }
}
