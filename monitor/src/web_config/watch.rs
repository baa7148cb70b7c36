//! Reads the files again while the daemon runs.
//!
//! A configuration that cannot be understood says nothing of what it asks for: until it can be, nothing is
//! answered. Only a certificate or key that cannot be used is replaced by the one before.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use ring::digest::{self, SHA256};
use tokio::{
    sync::watch,
    task,
    time::{self, MissedTickBehavior},
};
use tracing::{error, info, warn};

use super::{WebConfig, read};

/// A change counts this much later at most.
const EVERY: Duration = Duration::from_secs(1);

/// What is served with now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Protection {
    pub(crate) config: Arc<WebConfig>,
    pub(crate) trouble: Option<Trouble>,
    /// There is a file at all.
    pub(crate) from_file: bool,
}

/// Why the configuration is not that of the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It cannot be read or understood: nothing may be answered.
    Unknown(String),
    /// It can, but for the certificate and its key, which are those from before.
    OldCertificate(String),
}

/// The file of `--web-config`, which has been read.
#[derive(Debug)]
pub(crate) struct WebConfigFile {
    path: PathBuf,
    files: Vec<PathBuf>,
    seen: Fingerprint,
    now: Protection,
}

impl WebConfigFile {
    /// Reads it for the first time: then everything must be in order.
    pub(crate) fn open(path: PathBuf) -> Result<Self> {
        let files = WebConfig::read(&path, None)?.files;
        // In this order, so that a change in between is seen at the next look.
        let seen = Fingerprint::of(&files);
        let config = Arc::new(WebConfig::read(&path, None)?.config);
        Ok(Self {
            now: Protection {
                config,
                trouble: None,
                from_file: true,
            },
            files,
            seen,
            path,
        })
    }

    /// Reads it once more, perhaps with fewer privileges than before.
    pub(crate) fn again(self) -> Result<Self> {
        Self::open(self.path).context("without the privileges of the start")
    }

    pub(crate) fn protection(&self) -> Protection {
        self.now.clone()
    }

    /// Looks at the files for as long as it is polled, and tells what changed.
    pub(crate) async fn keep(mut self, tell: watch::Sender<Protection>) {
        let mut tick = time::interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            // A disk may take its time; those who are served do not wait for it.
            let looked = task::spawn_blocking(move || {
                let changed = self.look();
                (self, changed)
            });
            let Ok((back, changed)) = looked.await else {
                return;
            };
            self = back;
            if changed {
                tell.send_replace(self.now.clone());
            }
        }
    }

    /// Reads the files again if they changed. Returns whether there is something to tell.
    pub(super) fn look(&mut self) -> bool {
        let seen = Fingerprint::of(&self.files);
        if seen == self.seen {
            return false;
        }
        self.seen = seen;
        let path = self.path.display();
        let trouble = match WebConfig::read(&self.path, Some(&self.now.config)) {
            Ok(reading) => {
                if reading.files != self.files {
                    // The others are looked at from now on; the next look reads them again.
                    self.files = reading.files;
                }
                self.now.config = Arc::new(reading.config);
                reading.certificate_kept.map(Trouble::OldCertificate)
            }
            Err(error) => Some(Trouble::Unknown(format!("{error:#}"))),
        };
        let told = self.now.trouble == trouble;
        self.now.trouble = trouble;
        match &self.now.trouble {
            None => info!(%path, "the web configuration changed and is in force"),
            Some(_) if told => {}
            Some(Trouble::Unknown(why)) => error!(
                "nothing is answered over HTTP until the web configuration is in order again: {why}"
            ),
            Some(Trouble::OldCertificate(why)) => warn!(
                "serving on with the certificate and key from before, because the new ones cannot be used: {why}"
            ),
        }
        true
    }
}

/// Tells whether files changed, without keeping their secrets.
#[derive(Debug, PartialEq, Eq)]
struct Fingerprint([u8; 32]);

impl Fingerprint {
    fn of(files: &[impl AsRef<Path>]) -> Self {
        let mut all = digest::Context::new(&SHA256);
        for file in files {
            let bytes = read(file.as_ref());
            let (mark, bytes) = match bytes {
                Ok(bytes) => (1, bytes),
                Err(error) => (0, format!("{error:#}").into_bytes()),
            };
            all.update(&[mark]);
            all.update(&(bytes.len() as u64).to_be_bytes());
            all.update(&bytes);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(all.finish().as_ref());
        Self(digest)
    }
}
