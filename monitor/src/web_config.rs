//! The file of `--web-config`: TLS, passwords, headers and a rate limit, in the format of Prometheus'
//! exporter-toolkit (its `docs/web-configuration.md`).
//!
//! In: the file and those that it names. Out: what to serve with, or one sentence that says what is wrong.
//! What cannot be done as asked is refused, never left out: a field that is ignored would be a lock that
//! is not there. [`watch`] reads the files again while the daemon runs.

mod clients;
mod shape;
mod tls;
mod users;
pub(crate) mod watch;

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use axum::http::{HeaderName, HeaderValue};

use self::{
    shape::{RateShape, Shape},
    tls::Certificate,
};
pub(crate) use self::{
    tls::{Terms, Tls},
    users::Users,
};

/// Longer than any of these files is; a device or a log that was named by mistake ends here.
const FILE_MAX: u64 = 1 << 20;

/// The headers that may be set, and their values where only some have a meaning.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Content-Security-Policy", &[]),
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
];

/// What to serve with. The default is what no file asks for: plain HTTP for everyone.
#[derive(Debug, Default)]
pub(crate) struct WebConfig {
    pub(crate) tls: Option<Tls>,
    /// Set on every response, in place of the daemon's own of that name.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// None: no password is asked for.
    pub(crate) users: Option<Users>,
    pub(crate) rate: Option<Rate>,
    /// It asks for HTTP/2 by name.
    pub(crate) http2: bool,
}

/// How often requests are answered: `burst` at once, and one more each `interval`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) interval: Duration,
    pub(crate) burst: u32,
}

/// What was read, and whether a part of it is older than the files.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) config: WebConfig,
    /// Why the certificate and key are those that were read before.
    pub(crate) certificate_kept: Option<String>,
    /// All files that were read.
    pub(crate) files: Vec<PathBuf>,
}

impl WebConfig {
    /// Reads the file and those that it names; relative paths are relative to its folder.
    ///
    /// A certificate or key that cannot be used is replaced by those of `before`: they are being renewed,
    /// and the protection is the same. Everything else that is wrong is an error.
    pub(crate) fn read(path: &Path, before: Option<&WebConfig>) -> Result<Reading> {
        let told = || path.display().to_string();
        let text = read(path)?;
        let text = String::from_utf8(text)
            .ok()
            .with_context(|| format!("{} is not UTF-8: write it as a text file", path.display()))?;
        let shape = Shape::parse(&text).with_context(told)?;
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let mut files = vec![path.to_owned()];
        let mut config = Self {
            tls: None,
            headers: headers(shape.headers()).with_context(told)?,
            users: Users::new(shape.basic_auth_users.unwrap_or_default()).with_context(told)?,
            rate: shape
                .rate_limit
                .map(Rate::new)
                .transpose()
                .with_context(told)?
                .flatten(),
            http2: shape
                .http_server_config
                .is_some_and(|http| http.http2 == Some(true)),
        };
        let mut certificate_kept = None;
        if let Some(asked) = shape.tls_server_config.filter(|tls| !tls.is_empty()) {
            asked.check().with_context(told)?;
            files.extend(asked.files().map(|file| folder.join(file)));
            let certificate = match Certificate::read(&asked, &folder).with_context(told) {
                Ok(certificate) => certificate,
                Err(error) => {
                    let before = before.and_then(|before| before.tls.as_ref());
                    let kept = before.map(|tls| tls.certificate.clone());
                    certificate_kept = Some(format!("{error:#}"));
                    kept.ok_or(error)?
                }
            };
            config.tls = Some(Tls::new(&asked, &folder, certificate).with_context(told)?);
        }
        Ok(Reading {
            config,
            certificate_kept,
            files,
        })
    }
}

impl Rate {
    fn new(shape: RateShape) -> Result<Option<Self>> {
        let interval = match shape.interval.as_deref().unwrap_or("0") {
            "0" => Duration::ZERO,
            text => humantime::parse_duration(text).ok().with_context(|| {
                format!(
                    "rate_limit: interval is {text:?}: write it like 1s or 100ms, or 0 for no limit"
                )
            })?,
        };
        if interval.is_zero() {
            return Ok(None);
        }
        let burst = shape.burst.unwrap_or(0);
        ensure!(
            burst > 0,
            "rate_limit: burst must be 1 or more, or nothing is ever answered"
        );
        Ok(Some(Self { interval, burst }))
    }
}

fn headers<'a>(
    asked: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<Vec<(HeaderName, HeaderValue)>> {
    let mut headers = Vec::new();
    for (name, value) in asked {
        let Some((_, values)) = HEADERS.iter().find(|(known, _)| *known == name) else {
            let known = HEADERS.map(|(name, _)| name).join(", ");
            bail!(
                "http_server_config: the header {name:?} cannot be set: those that can are {known}"
            );
        };
        ensure!(
            values.is_empty() || values.contains(&value),
            "http_server_config: {name} is {value:?}: it must be {}",
            values.join(" or ")
        );
        // Blank is not set, so the daemon's own stays.
        if value.is_empty() {
            continue;
        }
        let value = HeaderValue::from_str(value).ok().with_context(|| {
            format!("http_server_config: {name} is {value:?}: a header is one line of visible characters")
        })?;
        headers.push((name.parse().context("read a header's name")?, value));
    }
    Ok(headers)
}

/// The bytes of a file of a sensible length.
fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    file.take(FILE_MAX + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(
        bytes.len() as u64 <= FILE_MAX,
        "{} is longer than 1 MiB: it is not such a file",
        path.display()
    );
    Ok(bytes)
}

#[cfg(test)]
mod tests;
