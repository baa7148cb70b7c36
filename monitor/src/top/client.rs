//! Asks the daemon, on a thread of its own, so that the terminal never waits for the network.

use std::{
    fmt,
    str::FromStr,
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

use serde::de::DeserializeOwned;
use ureq::{
    Agent,
    http::{StatusCode, Uri},
};

use super::{
    answers::{Answers, Connections, Key, Refusal, Servers},
    hanging::{Hanging, PHASES},
    text::Text,
};

/// Between two times that the daemon is asked.
const EVERY: Duration = Duration::from_secs(2);
/// A daemon or a line that is slow is not asked more often than it can bear.
const REST: u32 = 5;
/// For one answer, from the name to its last byte.
const PATIENCE: Duration = Duration::from_secs(5);
/// Ten thousand servers fit; what is longer is no closewatch.
const ANSWER_MAX: u64 = 64 << 20;
/// Hanging connections that are asked for in each phase, the longest.
const HANGING_MAX: usize = 200;

/// Where the daemon serves. No `/` at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DaemonUrl(String);

impl FromStr for DaemonUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const LIKE: &str = "write it like http://127.0.0.1:16455";
        let uri: Uri = text.parse().map_err(|error| format!("{error}; {LIKE}"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(format!(
                    "the daemon serves http, and so does this ask; for one elsewhere: ssh -L 16455:127.0.0.1:16455 {}",
                    uri.host().unwrap_or("HOST")
                ));
            }
            _ => return Err(LIKE.to_owned()),
        }
        let bare = uri.query().is_none() && !text.contains(['#', '@']);
        if uri.host().is_none_or(str::is_empty) || !bare {
            return Err(LIKE.to_owned());
        }
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}

impl fmt::Display for DaemonUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why there is no answer, in one sentence that begins behind the URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble(pub(super) String);

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is to be asked from now on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wish {
    /// The server whose hanging connections are wanted.
    pub(super) detail: Option<Key>,
    pub(super) paused: bool,
}

pub(super) struct Client {
    agent: Agent,
    url: DaemonUrl,
}

impl Client {
    pub(super) fn new(url: DaemonUrl) -> Self {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            // A proxy of the environment is for the outside; this is an address of the operator's own.
            .proxy(None)
            .timeout_global(Some(PATIENCE))
            .user_agent(concat!("closewatch-top/", env!("CARGO_PKG_VERSION")))
            .build();
        Self {
            agent: agent.into(),
            url,
        }
    }

    /// Asks whenever it is time, and at once when the wish changes, until nobody listens.
    pub(super) fn keep_asking(
        &self,
        wishes: &Receiver<Wish>,
        mut tell: impl FnMut(Result<Answers, Trouble>) -> bool,
    ) {
        let mut wish = Wish::default();
        let mut wait = Duration::ZERO;
        loop {
            match wishes.recv_timeout(wait) {
                Ok(changed) => wish = changed,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if wish.paused {
                wait = Duration::MAX;
                continue;
            }
            let began = Instant::now();
            if !tell(self.ask(wish.detail.as_ref())) {
                return;
            }
            wait = EVERY.max(began.elapsed() * REST).min(EVERY * 15);
        }
    }

    /// Everything that is shown.
    pub(super) fn ask(&self, detail: Option<&Key>) -> Result<Answers, Trouble> {
        let servers: Servers = self.get("servers", &[])?;
        let slow_after = servers.slow_after_seconds;
        let hanging = self.hanging(slow_after, &[])?;
        let detail = match detail {
            // It stands for many, and no connection is asked for by it.
            Some(key) if key.server.as_str() != "other" => {
                let which = [("server", key.server.as_str()), ("role", key.role.name())];
                Some((key.clone(), self.hanging(slow_after, &which)?))
            }
            _ => None,
        };
        let health = self.get("health", &[])?;
        Ok(Answers {
            at: Instant::now(),
            servers,
            hanging,
            health,
            detail,
        })
    }

    fn hanging(&self, slow_after: f64, which: &[(&str, &str)]) -> Result<Hanging, Trouble> {
        let limit = HANGING_MAX.to_string();
        let mut answers = Vec::<Connections>::new();
        for phase in PHASES {
            let phase = [("phase", phase), ("limit", limit.as_str())];
            answers.push(self.get("connections", &[&phase, which].concat())?);
        }
        Ok(Hanging::new(answers, slow_after))
    }

    fn get<T: DeserializeOwned>(&self, what: &str, query: &[(&str, &str)]) -> Result<T, Trouble> {
        let mut url = format!("{}/api/v1/{what}", self.url);
        if !query.is_empty() {
            let pairs = form_urlencoded::Serializer::new(String::new())
                .extend_pairs(query)
                .finish();
            url = url + "?" + &pairs;
        }
        let mut response = self
            .agent
            .get(&url)
            .call()
            .map_err(|error| unanswered(&error))?;
        let status = response.status();
        let body = response
            .body_mut()
            .with_config()
            .limit(ANSWER_MAX)
            .read_to_vec()
            .map_err(|error| unanswered(&error))?;
        understand(what, status, &body)
    }
}

fn understand<T: DeserializeOwned>(
    what: &str,
    status: StatusCode,
    body: &[u8],
) -> Result<T, Trouble> {
    if status == StatusCode::OK {
        return serde_json::from_slice(body).map_err(|error| {
            let error = Text::clean(&error.to_string());
            Trouble(format!(
                "is no closewatch that this version understands: /api/v1/{what}: {error}"
            ))
        });
    }
    Err(Trouble(match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) => format!("says: {} ({})", refusal.error.message, status.as_u16()),
        Err(_) => format!(
            "is no closewatch: /api/v1/{what} has status {}",
            status.as_u16()
        ),
    }))
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever else goes wrong, it was no HTTP that this client understands"
)]
fn unanswered(error: &ureq::Error) -> Trouble {
    Trouble(match error {
        ureq::Error::Timeout(_) => format!("does not answer within {} s", PATIENCE.as_secs()),
        ureq::Error::HostNotFound => "does not answer: its host is not known".to_owned(),
        ureq::Error::Io(error) => format!("does not answer: {}", reason(error)),
        ureq::Error::BodyExceedsLimit(_) => "is no closewatch: its answer does not end".to_owned(),
        error => format!("is no closewatch: {}", Text::clean(&error.to_string())),
    })
}

/// What the system says, without its number.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    Text::clean(text).to_string().to_lowercase()
}

#[cfg(test)]
mod tests;
