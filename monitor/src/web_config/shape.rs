//! The file as it is written: every field of exporter-toolkit's format, and none besides.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow, ensure};
use serde::Deserialize;
use serde_saphyr::{
    DuplicateKeyPolicy, Options, SnippetMode, UserMessageFormatter, render_options,
};

/// The whole file. A section that is there and empty is as good as none.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Shape {
    pub(super) tls_server_config: Option<TlsShape>,
    pub(super) http_server_config: Option<HttpShape>,
    pub(super) basic_auth_users: Option<BTreeMap<String, String>>,
    pub(super) rate_limit: Option<RateShape>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TlsShape {
    pub(super) cert: Option<String>,
    pub(super) key: Option<String>,
    pub(super) client_ca: Option<String>,
    pub(super) cert_file: Option<String>,
    pub(super) key_file: Option<String>,
    pub(super) client_ca_file: Option<String>,
    pub(super) client_auth_type: Option<String>,
    pub(super) client_allowed_sans: Option<Vec<String>>,
    pub(super) min_version: Option<String>,
    pub(super) max_version: Option<String>,
    pub(super) cipher_suites: Option<Vec<String>>,
    pub(super) prefer_server_cipher_suites: Option<bool>,
    pub(super) curve_preferences: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct HttpShape {
    pub(super) http2: Option<bool>,
    pub(super) headers: Option<BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RateShape {
    pub(super) interval: Option<String>,
    pub(super) burst: Option<u32>,
}

impl Shape {
    /// Reads YAML. What it says of an error quotes no value: one may be a secret.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut options = Options::default();
        options.duplicate_keys = DuplicateKeyPolicy::Error;
        options.with_snippet = false;
        let shape: Option<Self> = serde_saphyr::from_str_with_options(text, options)
            .map_err(|error| anyhow!("{}", one_sentence(&error)))?;
        Ok(shape.unwrap_or_default())
    }

    pub(super) fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        let http = self.http_server_config.as_ref();
        let headers = http.and_then(|http| http.headers.as_ref());
        let headers = headers.into_iter().flatten();
        headers.map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl TlsShape {
    /// Whether nothing at all is asked for.
    pub(super) fn is_empty(&self) -> bool {
        let Self {
            cert,
            key,
            client_ca,
            cert_file,
            key_file,
            client_ca_file,
            client_auth_type,
            client_allowed_sans,
            min_version,
            max_version,
            cipher_suites,
            prefer_server_cipher_suites,
            curve_preferences,
        } = self;
        let texts = [
            cert,
            key,
            client_ca,
            cert_file,
            key_file,
            client_ca_file,
            client_auth_type,
            min_version,
            max_version,
        ];
        let lists = [client_allowed_sans, cipher_suites, curve_preferences];
        texts.iter().all(|text| text.is_none())
            && lists.iter().all(|list| list.is_none())
            && prefer_server_cipher_suites.is_none()
    }

    /// Whether each thing is said, and once.
    pub(super) fn check(&self) -> Result<()> {
        for (what, inline, file) in [
            ("cert", &self.cert, &self.cert_file),
            ("key", &self.key, &self.key_file),
            ("client_ca", &self.client_ca, &self.client_ca_file),
        ] {
            let given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
            let (inline, file) = (given(inline), given(file));
            ensure!(
                !(inline && file),
                "tls_server_config: {what} and {what}_file are both given: keep one of them"
            );
            ensure!(
                inline || file || what == "client_ca",
                "tls_server_config: neither {what} nor {what}_file is given, and TLS takes one of them"
            );
        }
        Ok(())
    }

    /// What it asks of clients and of the protocol, without where certificates and keys are.
    pub(super) fn rules(&self) -> Self {
        Self {
            cert: None,
            key: None,
            client_ca: None,
            cert_file: None,
            key_file: None,
            client_ca_file: None,
            ..self.clone()
        }
    }

    /// The files that it names.
    pub(super) fn files(&self) -> impl Iterator<Item = &str> {
        let files = [&self.cert_file, &self.key_file, &self.client_ca_file];
        files
            .into_iter()
            .filter_map(|file| file.as_deref())
            .filter(|file| !file.is_empty())
    }
}

fn one_sentence(error: &serde_saphyr::Error) -> String {
    let rendered = error.render_with_options(render_options! {
        formatter: &UserMessageFormatter,
        snippets: SnippetMode::Off,
    });
    rendered.split_whitespace().collect::<Vec<_>>().join(" ")
}
