//! Prometheus reads a protected daemon, and promtool reads its file.

use std::{
    fs,
    net::TcpListener,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    daemon::{BINARY, http_get},
    peers::Peer,
    world::{HASH, TLS, World},
};

#[test]
#[ignore = "needs root"]
fn prometheus_scrapes_with_certificate_and_password() {
    let world = World::protected(&format!(
        "{TLS}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: authority.crt\n  \
         client_allowed_sans: [prometheus.example]\n  min_version: TLS13\n\
         basic_auth_users: {{prometheus: '{HASH}'}}\n"
    ));
    let folder = world.folder();
    world
        .authority
        .issue(&folder, "prometheus", &["prometheus.example"]);
    fs::write(folder.join("password"), "secret").unwrap();
    let text = format!(
        "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\n\
         scrape_configs:\n- job_name: closewatch\n  scheme: https\n  \
         tls_config: {{ca_file: authority.crt, cert_file: prometheus.crt, key_file: prometheus.key}}\n  \
         basic_auth: {{username: prometheus, password_file: password}}\n  \
         static_configs:\n  - targets: ['{}']\n",
        world.daemon.listen
    );
    fs::write(folder.join("prometheus.yml"), text).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap();
    drop(port);
    let mut command = Command::new("prometheus");
    command
        .arg("--config.file=prometheus.yml")
        .arg("--storage.tsdb.path=tsdb")
        .arg(format!("--web.listen-address={address}"))
        .current_dir(&folder);
    let prometheus = Peer::spawn(&world.sandbox, &mut command);
    let deadline = Instant::now() + Duration::from_secs(20);
    // By the names that deploy/prometheus/alerts.yml has.
    for query in [
        "closewatch_web_config_valid",
        "closewatch_web_certificate_expiry_timestamp_seconds%20>bool%20time()",
    ] {
        loop {
            let response = http_get(address, &format!("/api/v1/query?query={query}"));
            let body = response.split_once("\r\n\r\n").map_or("", |(_, body)| body);
            let answer: Value = serde_json::from_str(body).unwrap_or_default();
            if answer["data"]["result"][0]["value"][1] == "1" {
                break;
            }
            assert!(Instant::now() < deadline, "{response}");
            thread::sleep(Duration::from_millis(50));
        }
    }
    prometheus.stop();
}

/// Whether promtool and the daemon take a file: they agree, but where closewatch says in the README that it
/// is stricter.
#[test]
#[ignore = "needs root"]
fn promtool_and_the_daemon_take_the_same_files() {
    const AGREE: bool = true;
    const STRICTER: bool = false;
    let world = World::open();
    let folder = world.folder();
    let example = include_str!("../../../deploy/web-config.yml");
    let uncommented: String = example
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if !setting.starts_with(' ') || setting.starts_with("  ") => setting,
            _ => line,
        })
        // What came after this promtool, and a hash that is none.
        .take_while(|line| !line.starts_with("# No more than"))
        .map(|line| line.replace("clients-ca.crt", "authority.crt") + "\n")
        .filter(|line| !line.contains("client_allowed_sans"))
        .collect::<String>()
        .replace("$2y$10$...", HASH);
    let tls = |more: &str| format!("{TLS}  {more}\n");
    for (text, good, relation) in [
        ("", true, AGREE),
        (example, true, AGREE),
        (&uncommented, true, AGREE),
        (TLS, true, AGREE),
        (&tls("client_auth_type: RequireAnyClientCert"), true, AGREE),
        (
            &tls("client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: authority.crt"),
            true,
            AGREE,
        ),
        (
            &tls("cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]"),
            true,
            AGREE,
        ),
        (&tls("curve_preferences: [X25519, CurveP256]"), true, AGREE),
        (
            &format!("basic_auth_users: {{alice: '{HASH}'}}"),
            true,
            AGREE,
        ),
        (
            "http_server_config: {http2: false, headers: {X-Frame-Options: deny}}",
            true,
            AGREE,
        ),
        ("web: {}", false, AGREE),
        (&tls("cert_files: x"), false, AGREE),
        ("tls_server_config: {cert_file: server.crt}", false, AGREE),
        (
            "tls_server_config: {cert_file: none.crt, key_file: server.key}",
            false,
            AGREE,
        ),
        (&tls("client_auth_type: Always"), false, AGREE),
        (&tls("client_ca_file: authority.crt"), false, AGREE),
        (&tls("min_version: SSL3"), false, AGREE),
        (&tls("cipher_suites: [TLS_MADE_UP]"), false, AGREE),
        (&tls("curve_preferences: [Curve41417]"), false, AGREE),
        ("basic_auth_users: {alice: secret}", false, AGREE),
        ("http_server_config: {headers: {Server: x}}", false, AGREE),
        (
            "http_server_config: {headers: {X-Frame-Options: allow}}",
            false,
            AGREE,
        ),
        (&tls("min_version: TLS10"), false, STRICTER),
        (&tls("curve_preferences: [CurveP521]"), false, STRICTER),
        (
            &tls("client_auth_type: RequireAndVerifyClientCert"),
            false,
            STRICTER,
        ),
        ("tls_server_config: {min_version: TLS13}", false, STRICTER),
    ] {
        let path = folder.join("web-config.yml");
        fs::write(&path, text).unwrap();
        let promtool = Command::new("promtool")
            .args(["check", "web-config"])
            .arg(&path)
            .output()
            .expect("promtool is missing: `cargo xtask test` installs prometheus");
        // It ends before it attaches anything: on the file, or else on the records.
        let closewatch = Command::new(BINARY)
            .args(["run", "--listen", "127.0.0.1:0", "--web-config"])
            .arg(&path)
            .arg("--records")
            .arg(folder.join("none/records.jsonl"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&closewatch.stderr);
        let taken = !said.contains("web-config.yml");
        assert_eq!(taken, said.contains("none/records.jsonl"), "{said}");
        assert_eq!(taken, good, "{text}: {said}");
        let expected = if relation == AGREE { good } else { !good };
        assert_eq!(promtool.status.success(), expected, "{text}: {promtool:?}");
    }
}
