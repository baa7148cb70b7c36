use std::{fs, sync::Arc};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;

use super::{
    watch::{Trouble, WebConfigFile},
    *,
};

/// `secret`, at the least cost.
const HASH: &str = "$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW";

/// A folder with a certificate in `server.crt` and its key in `server.key`.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    renew(&folder, "server");
    renew(&folder, "other");
    fs::write(folder.path().join("empty.pem"), "").unwrap();
    folder
}

fn renew(folder: &TempDir, name: &str) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let path = |ending| folder.path().join(format!("{name}.{ending}"));
    fs::write(path("crt"), cert.pem()).unwrap();
    fs::write(path("key"), signing_key.serialize_pem()).unwrap();
}

fn web_config(folder: &TempDir, text: &str) -> PathBuf {
    let path = folder.path().join("web-config.yml");
    fs::write(&path, text).unwrap();
    path
}

fn reading(folder: &TempDir, text: &str) -> Result<WebConfig> {
    WebConfig::read(&web_config(folder, text), None).map(|reading| reading.config)
}

const TLS: &str = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n";

#[test]
fn nothing_is_asked_by_nothing() {
    let folder = folder();
    for text in [
        "",
        "# only a remark\n",
        "{}",
        "tls_server_config:\n",
        "tls_server_config: {}\nhttp_server_config: {}\n",
        "basic_auth_users:\n",
        "basic_auth_users: {}\nrate_limit: {interval: 0}\n",
    ] {
        let config = reading(&folder, text).unwrap_or_else(|error| panic!("{text:?}: {error:#}"));
        assert!(config.tls.is_none() && config.users.is_none(), "{text:?}");
        assert!(config.rate.is_none() && config.headers.is_empty());
    }
}

#[test]
fn everything_that_can_be_asked_is_done() {
    let folder = folder();
    let text = format!(
        "{TLS}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: other.crt\n  \
         client_allowed_sans: [scraper.example, 192.0.2.1]\n  min_version: TLS12\n  max_version: TLS13\n  \
         cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256]\n  \
         prefer_server_cipher_suites: false\n  curve_preferences: [X25519, CurveP256, CurveP384]\n\
         http_server_config:\n  http2: false\n  headers:\n    X-Frame-Options: deny\n    \
         Strict-Transport-Security: max-age=31536000\n    Content-Security-Policy: ''\n\
         basic_auth_users:\n  alice: {HASH}\n  1234: {HASH}\n\
         rate_limit: {{interval: 1m30s, burst: 20}}\n"
    );
    let config = reading(&folder, &text).unwrap();
    let tls = config.tls.unwrap();
    assert!(tls.asks_clients);
    assert!(!tls.config.ignore_client_order);
    assert_eq!(tls.config.alpn_protocols, [b"http/1.1"]);
    let provider = tls.config.crypto_provider();
    assert_eq!(provider.cipher_suites.len(), 3 + 1);
    assert_eq!(provider.kx_groups.len(), 3);
    // A blank value leaves the daemon's own header.
    assert_eq!(config.headers.len(), 2);
    let users = config.users.unwrap();
    assert!(users.hash("alice").1 && users.hash("1234").1 && !users.hash("bob").1);
    let rate = Rate {
        interval: Duration::from_secs(90),
        burst: 20,
    };
    assert_eq!(config.rate, Some(rate));
}

#[test]
fn certificates_may_be_in_the_file() {
    let folder = folder();
    let inline = |name: &str| {
        let text = fs::read_to_string(folder.path().join(name)).unwrap();
        text.lines()
            .map(|line| format!("    {line}\n"))
            .collect::<String>()
    };
    let text = format!(
        "tls_server_config:\n  cert: |\n{}  key: |\n{}",
        inline("server.crt"),
        inline("server.key")
    );
    assert!(reading(&folder, &text).unwrap().tls.is_some());
}

#[test]
fn what_cannot_be_done_is_refused_in_a_sentence() {
    let folder = folder();
    let tls = |more: &str| format!("{TLS}  {more}\n");
    let http = |more: &str| format!("http_server_config:\n  headers:\n    {more}\n");
    let dear = HASH.replace("$04$", "$16$");
    for (text, sentence) in [
        ("- a list".to_owned(), "web-config.yml: "),
        ("web_server_config: {}".to_owned(), "web_server_config"),
        ("tls_server_config: {certfile: a}".to_owned(), "certfile"),
        (tls("ciphers: []"), "ciphers"),
        (tls("key_file: other.key"), "key_file"),
        (
            "auth_excluded_paths: [/livez]".to_owned(),
            "auth_excluded_paths",
        ),
        (
            "http_server_config: {http2: perhaps}".to_owned(),
            "web-config.yml: ",
        ),
        (
            "tls_server_config: {cert_file: server.crt}".to_owned(),
            "neither key nor key_file is given",
        ),
        (
            "tls_server_config: {min_version: TLS13}".to_owned(),
            "neither cert nor cert_file is given",
        ),
        (tls("cert: x"), "cert and cert_file are both given"),
        (
            TLS.replace("server.crt", "none.crt"),
            "none.crt: No such file",
        ),
        (
            TLS.replace("server.crt", "empty.pem"),
            "cert has no certificate in PEM",
        ),
        (
            TLS.replace("server.key", "empty.pem"),
            "the key is no private key in PEM",
        ),
        (TLS.replace("server.key", "other.key"), "do not go together"),
        (
            tls("min_version: TLS11"),
            "which closewatch does not have: use TLS12 or TLS13",
        ),
        (tls("min_version: SSL3"), "it must be TLS12 or TLS13"),
        (
            tls("min_version: TLS13\n  max_version: TLS12"),
            "min_version is above max_version",
        ),
        (
            tls("cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA]"),
            "it has TLS_AES_128_GCM_SHA256",
        ),
        (
            tls("max_version: TLS12\n  cipher_suites: [TLS_AES_128_GCM_SHA256]"),
            "none for TLS 1.2",
        ),
        (tls("curve_preferences: [CurveP521]"), "it has CurveP256"),
        (tls("client_auth_type: Always"), "it must be NoClientCert"),
        (
            tls("client_auth_type: RequireAndVerifyClientCert"),
            "needs client_ca_file",
        ),
        (tls("client_ca_file: other.crt"), "set client_auth_type"),
        (
            tls("client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: empty.pem"),
            "client_ca has no certificate",
        ),
        (
            tls("client_auth_type: RequireAnyClientCert\n  client_allowed_sans: [a]"),
            "client_allowed_sans protects nothing",
        ),
        (http("Server: nginx"), "the header \"Server\" cannot be set"),
        (
            http("X-Frame-Options: allow"),
            "it must be deny or sameorigin",
        ),
        (http("X-XSS-Protection: \"a\\nb\""), "one line"),
        (
            "basic_auth_users: {alice: secret}".to_owned(),
            "htpasswd -nBC 10",
        ),
        (
            format!("basic_auth_users: {{alice: {dear}}}"),
            "use 15 at most",
        ),
        (
            format!("basic_auth_users: {{'a:b': {HASH}}}"),
            "has a colon",
        ),
        (
            format!("basic_auth_users:\n  alice: {HASH}\n  alice: {HASH}\n"),
            "web-config.yml: ",
        ),
        (
            "rate_limit: {interval: 1s}".to_owned(),
            "burst must be 1 or more",
        ),
        (
            "rate_limit: {interval: 5, burst: 1}".to_owned(),
            "write it like 1s",
        ),
        (
            "basic_auth_users: {alice: *none}".to_owned(),
            "web-config.yml: ",
        ),
    ] {
        let error = reading(&folder, &text).expect_err(&text);
        let error = format!("{error:#}");
        assert!(error.contains("web-config.yml: "), "{error}");
        assert!(error.contains(sentence), "{text}: {error}");
        assert!(!error.contains('\n'), "{error}");
        assert!(!error.contains("2r9OfJnf"), "it tells a secret: {error}");
    }
}

#[test]
fn change_is_in_force_a_certificate_between_two_is_kept_and_what_is_not_understood_closes() {
    let folder = folder();
    let path = web_config(&folder, TLS);
    let mut file = WebConfigFile::open(path.clone()).unwrap();
    assert!(!file.look(), "nothing has changed");
    let first = file.protection().config;

    // The certificate comes before its key.
    renew(&folder, "new");
    fs::copy(
        folder.path().join("new.crt"),
        folder.path().join("server.crt"),
    )
    .unwrap();
    assert!(file.look());
    let between = file.protection();
    assert!(matches!(between.trouble, Some(Trouble::OldCertificate(_))));
    fs::copy(
        folder.path().join("new.key"),
        folder.path().join("server.key"),
    )
    .unwrap();
    assert!(file.look());
    let renewed = file.protection();
    assert_eq!(renewed.trouble, None);
    assert!(!Arc::ptr_eq(&first, &renewed.config));

    for broken in [
        "tls_server_config: {",
        &format!(
            "{TLS}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: none.pem\n"
        ),
        "basic_auth_users: {alice: secret}",
    ] {
        web_config(&folder, broken);
        assert!(file.look(), "{broken}");
        let trouble = file.protection().trouble;
        assert!(matches!(trouble, Some(Trouble::Unknown(_))), "{broken}");
    }
    fs::remove_file(&path).unwrap();
    assert!(file.look());
    assert!(matches!(
        file.protection().trouble,
        Some(Trouble::Unknown(_))
    ));

    web_config(&folder, &format!("basic_auth_users: {{alice: {HASH}}}"));
    assert!(file.look());
    let mended = file.protection();
    assert_eq!(mended.trouble, None);
    assert!(mended.config.tls.is_none() && mended.config.users.is_some());
}

#[test]
fn nobody_has_a_password() {
    let folder = folder();
    let config = reading(&folder, &format!("basic_auth_users: {{alice: {HASH}}}")).unwrap();
    let users = config.users.unwrap();
    assert!(bcrypt::verify("secret", users.hash("alice").0).unwrap());
    let (of_nobody, exists) = users.hash("bob");
    assert!(!exists);
    // As dear as a user's, and it fits nothing.
    assert!(of_nobody.starts_with("$2b$04$"));
    for password in ["", "secret", "fakepassword"] {
        assert!(!bcrypt::verify(password, of_nobody).unwrap());
    }
}
