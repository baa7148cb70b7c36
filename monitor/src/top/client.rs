//! Asks the daemon, on a thread of its own, so that the terminal never waits for the network.

use std::{
    env, fmt, fs,
    path::Path,
    str::FromStr,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::{CertificateError, crypto::ring};
use serde::de::DeserializeOwned;
use ureq::{
    Agent,
    http::{StatusCode, Uri, header::AUTHORIZATION},
    tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem},
};

use super::{
    answers::{Answers, Connections, Key, Refusal, Servers},
    hanging::{Hanging, PHASES},
    text::Text,
};
use crate::config::Top;

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
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(LIKE.to_owned());
        }
        if text.contains('@') {
            return Err(
                "leave the user out of it, where others see it: --user and --password-file"
                    .to_owned(),
            );
        }
        // A port that is none is dropped without a word.
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if uri.port().is_none() && uri.host() != Some(authority) {
            return Err(LIKE.to_owned());
        }
        let bare = uri.query().is_none() && !text.contains('#');
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
    /// The value of `Authorization`.
    credentials: Option<String>,
}

impl Client {
    /// # Errors
    ///
    /// When a file of certificates, the key or the password cannot be used.
    pub(super) fn new(top: &Top) -> Result<Self> {
        let url = top.url.clone();
        let tls = url.0.starts_with("https:");
        let agent = Agent::config_builder()
            .tls_config(if tls {
                trust(top)?
            } else {
                TlsConfig::default()
            })
            .http_status_as_error(false)
            .max_redirects(0)
            // A proxy of the environment is for the outside; this is an address of the operator's own.
            .proxy(None)
            .timeout_global(Some(PATIENCE))
            .user_agent(concat!("closewatch-top/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self {
            agent: agent.into(),
            url,
            credentials: credentials(top)?,
        })
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
        let mut request = self.agent.get(&url);
        if let Some(credentials) = &self.credentials {
            request = request.header(AUTHORIZATION, credentials);
        }
        let mut response = request.call().map_err(|error| unanswered(&error))?;
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

/// Whom to believe that it is the daemon, and what to show to it.
fn trust(top: &Top) -> Result<TlsConfig> {
    let roots = match &top.ca {
        Some(file) => certificates(file)?,
        None => {
            let system = rustls_native_certs::load_native_certs().certs;
            system
                .iter()
                .map(|der| Certificate::from_der(der).to_owned())
                .collect()
        }
    };
    let shown = match (&top.cert, &top.key) {
        (Some(cert), Some(key)) => {
            let pem = read(key)?;
            let key = PrivateKey::from_pem(&pem)
                .with_context(|| format!("{} has no private key in PEM", key.display()))?;
            Some(ClientCert::new_with_certs(&certificates(cert)?, key))
        }
        _ => None,
    };
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::from(roots))
        .client_cert(shown)
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
        .build())
}

fn certificates(file: &Path) -> Result<Vec<Certificate<'static>>> {
    let pem = read(file)?;
    let certificates: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            Ok(_) | Err(_) => None,
        })
        .collect();
    ensure!(
        !certificates.is_empty(),
        "{} has no certificate in PEM",
        file.display()
    );
    Ok(certificates)
}

fn credentials(top: &Top) -> Result<Option<String>> {
    let Some(user) = &top.user else {
        return Ok(None);
    };
    let password = match &top.password_file {
        Some(file) => String::from_utf8(read(file)?)
            .ok()
            .with_context(|| format!("{} is not UTF-8", file.display()))?,
        None => env::var("CLOSEWATCH_PASSWORD").ok().with_context(|| {
            format!("the password of {user:?} is missing: --password-file FILE or CLOSEWATCH_PASSWORD has it")
        })?,
    };
    // An editor ends the last line.
    let password = password.strip_suffix('\n').unwrap_or(&password);
    Ok(Some(format!(
        "Basic {}",
        STANDARD.encode(format!("{user}:{password}"))
    )))
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
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
        ureq::Error::Rustls(error) => distrust(error),
        ureq::Error::Io(error) => match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(error) => distrust(error),
            None => format!("does not answer: {}", reason(error)),
        },
        ureq::Error::BodyExceedsLimit(_) => "is no closewatch: its answer does not end".to_owned(),
        error => format!("is no closewatch: {}", Text::clean(&error.to_string())),
    })
}

/// Why TLS did not come about.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever else goes wrong with TLS has no remedy that this client knows"
)]
fn distrust(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(why) => {
            format!("cannot be trusted: its certificate {}", unsuited(why))
        }
        rustls::Error::AlertReceived(alert) => {
            format!(
                "refuses the connection: {alert:?} (does it ask for a certificate? --cert and --key)"
            )
        }
        rustls::Error::InvalidMessage(_) => "does not speak TLS: try http://".to_owned(),
        error => format!("cannot be trusted: {}", Text::clean(&error.to_string())),
    }
}

/// What is wrong with a certificate.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever else is wrong is rare, and said in the words of rustls"
)]
fn unsuited(why: &CertificateError) -> String {
    match why {
        CertificateError::UnknownIssuer => {
            "is of an authority that is not known here (--ca names it)".to_owned()
        }
        CertificateError::BadSignature => {
            "is of another authority than the one of that name that is known here (--ca names it)"
                .to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "is not valid yet: do both clocks go right?".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "is for another name (its subjectAltName must have the host of --url)".to_owned()
        }
        // Of webpki, which rustls does not take apart further.
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            "may make others (CA:TRUE), which a server's must not: make it with basicConstraints=CA:FALSE"
                .to_owned()
        }
        why => format!("is refused: {}", Text::clean(&why.to_string())),
    }
}

/// What the system says, without its number.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    Text::clean(text).to_string().to_lowercase()
}

#[cfg(test)]
mod tests;
