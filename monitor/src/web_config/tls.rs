//! What is asked of TLS, in rustls' terms. The words are Go's, since the format is that of a Go library.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use rustls::{
    ServerConfig, SupportedCipherSuite, SupportedProtocolVersion,
    crypto::{
        CryptoProvider, SupportedKxGroup,
        ring::{self, cipher_suite, kx_group},
    },
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::NoServerSessionStorage,
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};
use x509_cert::{Certificate as Parsed, der::Decode as _};

use super::{clients, read, shape::TlsShape};

/// How to serve with TLS.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    pub(crate) config: Arc<ServerConfig>,
    /// Clients are asked for certificates that are verified.
    pub(crate) asks_clients: bool,
    pub(crate) terms: Terms,
    pub(super) certificate: Certificate,
}

/// All that a connection had to fulfil to come in: the same after the server's own certificate was renewed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Terms(Arc<(TlsShape, Option<Vec<CertificateDer<'static>>>)>);

/// A certificate with those that lead to its authority, and its key.
#[derive(Clone, Debug)]
pub(super) struct Certificate {
    key: Arc<CertifiedKey>,
    /// Since 1970.
    not_after: Duration,
}

impl Certificate {
    pub(super) fn read(asked: &TlsShape, folder: &Path) -> Result<Self> {
        let pem = text("cert", &asked.cert, &asked.cert_file, folder)?;
        let chain = certificates("cert", &pem)?;
        let pem = text("key", &asked.key, &asked.key_file, folder)?;
        let key = PrivateKeyDer::from_pem_slice(&pem).ok().context(
            "tls_server_config: the key is no private key in PEM without a passphrase: `openssl pkey -in FILE` makes one",
        )?;
        let leaf = chain.first().context("tls_server_config: cert is empty")?;
        let leaf =
            Parsed::from_der(leaf).context("tls_server_config: cert is no X.509 certificate")?;
        let validity = leaf.tbs_certificate().validity();
        let not_after = validity.not_after.to_unix_duration();
        let key =
            CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| {
                anyhow::anyhow!(
                    "tls_server_config: the certificate and the key do not go together: {error}"
                )
            })?;
        Ok(Self {
            key: Arc::new(key),
            not_after,
        })
    }
}

impl Tls {
    pub(super) fn new(asked: &TlsShape, folder: &Path, certificate: Certificate) -> Result<Self> {
        let versions = versions(asked)?;
        let provider = CryptoProvider {
            cipher_suites: cipher_suites(asked, &versions)?,
            kx_groups: groups(asked)?,
            ..ring::default_provider()
        };
        let provider = Arc::new(provider);
        let authorities = match text("client_ca", &asked.client_ca, &asked.client_ca_file, folder) {
            Ok(pem) => Some(certificates("client_ca", &pem)?),
            Err(error) if asked.names_client_ca() => return Err(error),
            Err(_) => None,
        };
        let terms = Terms(Arc::new((asked.rules(), authorities.clone())));
        let clients = clients::verifier(asked, authorities, &provider)?;
        let resumes = !clients.offer_client_auth();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .context("tls_server_config: no cipher suite is left for these versions")?
            .with_client_cert_verifier(clients)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(
                &certificate.key,
            ))));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.ignore_client_order = asked.prefer_server_cipher_suites.unwrap_or(true);
        if !resumes {
            // A resumed session would not look at the client's certificate again.
            config.session_storage = Arc::new(NoServerSessionStorage {});
        }
        Ok(Self {
            config: Arc::new(config),
            asks_clients: asked.client_auth_type.as_deref() == Some("RequireAndVerifyClientCert"),
            terms,
            certificate,
        })
    }

    /// When the certificate expires, since 1970.
    pub(crate) fn not_after(&self) -> Duration {
        self.certificate.not_after
    }
}

impl TlsShape {
    fn names_client_ca(&self) -> bool {
        let given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        given(&self.client_ca) || given(&self.client_ca_file)
    }
}

/// What is written in the file itself, or in the one that it names.
fn text(
    what: &str,
    inline: &Option<String>,
    file: &Option<String>,
    folder: &Path,
) -> Result<Vec<u8>> {
    match (inline, file) {
        (_, Some(file)) if !file.is_empty() => read(&folder.join(file))
            .with_context(|| format!("tls_server_config: {what}_file cannot be used")),
        (Some(inline), _) if !inline.is_empty() => Ok(inline.as_bytes().to_vec()),
        _ => bail!("tls_server_config: there is no {what}"),
    }
}

fn certificates(what: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.ok().filter(|found| !found.is_empty());
    found.with_context(|| format!("tls_server_config: {what} has no certificate in PEM"))
}

fn versions(asked: &TlsShape) -> Result<Vec<&'static SupportedProtocolVersion>> {
    let number = |field: &str, name: &Option<String>, default: u8| match name.as_deref() {
        None => Ok(default),
        Some("TLS12") => Ok(2),
        Some("TLS13") => Ok(3),
        Some(old @ ("TLS10" | "TLS11")) => bail!(
            "tls_server_config: {field} is {old}, which closewatch does not have: use TLS12 or TLS13"
        ),
        Some(other) => {
            bail!("tls_server_config: {field} is {other:?}: it must be TLS12 or TLS13")
        }
    };
    let (min, max) = (
        number("min_version", &asked.min_version, 2)?,
        number("max_version", &asked.max_version, 3)?,
    );
    ensure!(
        min <= max,
        "tls_server_config: min_version is above max_version, so nobody could connect"
    );
    let all = [(2, &TLS12), (3, &TLS13)];
    let within = all.into_iter().filter(|(n, _)| (min..=max).contains(n));
    Ok(within.map(|(_, version)| version).collect())
}

/// Suites of TLS 1.3 are not chosen by the file, as in Go.
fn cipher_suites(
    asked: &TlsShape,
    versions: &[&SupportedProtocolVersion],
) -> Result<Vec<SupportedCipherSuite>> {
    let all = ring::ALL_CIPHER_SUITES;
    let asked = asked.cipher_suites.as_deref().unwrap_or_default();
    if asked.is_empty() {
        return Ok(all.to_vec());
    }
    let mut suites: Vec<_> = all
        .iter()
        .filter(|suite| suite.tls13().is_some())
        .copied()
        .collect();
    let mut of_tls12 = 0;
    for name in asked {
        let Some(suite) = SUITES.iter().find(|(known, _)| known == name) else {
            let known = SUITES.map(|(name, _)| name).join(", ");
            bail!(
                "tls_server_config: cipher_suites has {name:?}, which closewatch does not have: it has {known}"
            );
        };
        let suite = suite.1;
        if suite.tls13().is_none() && !suites.contains(&suite) {
            suites.push(suite);
            of_tls12 += 1;
        }
    }
    ensure!(
        of_tls12 > 0 || versions.contains(&&TLS13),
        "tls_server_config: cipher_suites has none for TLS 1.2, the only version that is allowed"
    );
    Ok(suites)
}

/// Go's names.
const SUITES: [(&str, SupportedCipherSuite); 9] = [
    (
        "TLS_AES_128_GCM_SHA256",
        cipher_suite::TLS13_AES_128_GCM_SHA256,
    ),
    (
        "TLS_AES_256_GCM_SHA384",
        cipher_suite::TLS13_AES_256_GCM_SHA384,
    ),
    (
        "TLS_CHACHA20_POLY1305_SHA256",
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
];

fn groups(asked: &TlsShape) -> Result<Vec<&'static dyn SupportedKxGroup>> {
    let asked = asked.curve_preferences.as_deref().unwrap_or_default();
    if asked.is_empty() {
        return Ok(kx_groups());
    }
    let group = |name: &String| match name.as_str() {
        "CurveP256" => Ok(kx_group::SECP256R1),
        "CurveP384" => Ok(kx_group::SECP384R1),
        "X25519" => Ok(kx_group::X25519),
        other => bail!(
            "tls_server_config: curve_preferences has {other:?}, which closewatch does not have: it has CurveP256, CurveP384 and X25519"
        ),
    };
    asked.iter().map(group).collect()
}

fn kx_groups() -> Vec<&'static dyn SupportedKxGroup> {
    ring::ALL_KX_GROUPS.to_vec()
}
