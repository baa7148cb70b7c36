//! What clients get over TLS, with and without passwords and certificates of their own.

use std::process::Command;

use crate::{
    authority::Authority,
    daemon::BINARY,
    world::{HASH, TLS, World, openssl},
};

#[test]
#[ignore = "needs root"]
fn nothing_is_answered_without_tls_and_password() {
    let world = World::protected(&format!("{TLS}basic_auth_users: {{alice: '{HASH}'}}\n"));
    for path in [
        "/",
        "/metrics",
        "/livez",
        "/readyz",
        "/api/v1/health",
        "/page/main.js",
    ] {
        assert_eq!(world.curl("http", path, &[]).status, 0, "{path}");
        let refused = world.curl("https", path, &[]);
        assert_eq!(refused.status, 401, "{path}: {refused:?}");
        assert!(refused.text.contains("www-authenticate: Basic realm="));
        let wrong = world.curl("https", path, &["--user", "alice:wrong"]);
        assert_eq!(wrong.status, 401, "{path}: {wrong:?}");
        let right = world.curl("https", path, &["--user", "alice:secret"]);
        assert_eq!(right.status, 200, "{path}: {right:?}");
    }
    // HTTP/2 is not spoken, and nobody is in trouble for asking.
    let right = world.curl("https", "/metrics", &["--http2", "--user", "alice:secret"]);
    assert!(right.text.starts_with("HTTP/1.1 200"), "{right:?}");
    assert!(right.text.contains("closewatch_web_config_valid 1\n"));
    let expiry = "closewatch_web_certificate_expiry_timestamp_seconds ";
    assert!(right.text.contains(expiry));
    assert!(
        right
            .text
            .contains("closewatch_http_requests_refused_total{reason=\"password\"} 12\n")
    );
}

#[test]
#[ignore = "needs root"]
fn clients_must_be_who_the_type_asks_for() {
    let world = World::protected(TLS);
    let folder = world.folder();
    let clients = Authority::new(&folder, "clients");
    clients.issue(&folder, "good", &["scraper.example"]);
    clients.issue(&folder, "named", &["192.0.2.1"]);
    clients.issue(&folder, "other", &["other.example"]);
    Authority::new(&folder, "strangers").issue(&folder, "stranger", &["scraper.example"]);
    let shows = ["none", "good", "named", "other", "stranger"];
    for (more, may) in [
        ("client_auth_type: NoClientCert", [true; 5]),
        ("client_auth_type: RequestClientCert", [true; 5]),
        (
            "client_auth_type: RequireAnyClientCert",
            [false, true, true, true, true],
        ),
        (
            "client_auth_type: VerifyClientCertIfGiven\n  client_ca_file: clients.crt",
            [true, true, true, true, false],
        ),
        (
            "client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: clients.crt",
            [false, true, true, true, false],
        ),
        (
            "client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: clients.crt\n  \
             client_allowed_sans: [scraper.example, 192.0.2.1]",
            [false, true, true, false, false],
        ),
    ] {
        // A header tells which configuration answers.
        let mark = more.len();
        world.write(&format!(
            "{TLS}  {more}\nhttp_server_config: {{headers: {{X-XSS-Protection: 'n{mark}'}}}}\n"
        ));
        let good = ["--cert", "good.crt", "--key", "good.key"];
        let began = std::time::Instant::now();
        while !world
            .curl("https", "/livez", &good)
            .text
            .contains(&format!("n{mark}"))
        {
            assert!(began.elapsed().as_secs() < 8, "{more} is never in force");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        for (show, may) in shows.iter().zip(may) {
            let files = [format!("{show}.crt"), format!("{show}.key")];
            let arguments = ["--cert", &files[0], "--key", &files[1]];
            let arguments = if *show == "none" { &[][..] } else { &arguments };
            let answer = world.curl("https", "/livez", arguments);
            assert_eq!(answer.status == 200, may, "{more}, {show}: {answer:?}");
        }
    }
}

#[test]
#[ignore = "needs root"]
fn versions_suites_and_curves_are_those_of_the_file() {
    let world = World::protected(&format!(
        "{TLS}  min_version: TLS12\n  max_version: TLS12\n  \
         cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]\n  curve_preferences: [CurveP384]\n"
    ));
    for (arguments, agrees) in [
        (&["-tls1_2"][..], true),
        (&["-tls1_3"], false),
        (&["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], false),
        (
            &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384"],
            true,
        ),
        (
            &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"],
            false,
        ),
        (&["-tls1_2", "-curves", "P-256:P-384"], true),
        (&["-tls1_2", "-curves", "X25519"], false),
    ] {
        let (agreed, text) = openssl(&world, arguments);
        assert_eq!(agreed, agrees, "{arguments:?}: {text}");
        let key = text.lines().find(|line| line.contains("Server Temp Key"));
        assert!(!agrees || key.unwrap().contains("secp384r1"), "{text}");
    }
}

/// Made by openssl, as most certificates are.
#[test]
#[ignore = "needs root"]
fn certificate_with_an_rsa_key_is_served() {
    let world = World::protected(TLS);
    let made = Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        ])
        .args([
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
        ])
        .args(["-keyout", "server.key", "-out", "server.crt"])
        .current_dir(world.folder())
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    world.await_status("https", &["--cacert", "server.crt"], 200);
}

#[test]
#[ignore = "needs root"]
fn top_asks_over_tls_with_a_password_and_a_certificate() {
    let world = World::protected(&format!(
        "{TLS}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: authority.crt\n\
         basic_auth_users: {{alice: '{HASH}'}}\n"
    ));
    let folder = world.folder();
    world.authority.issue(&folder, "good", &["top.example"]);
    std::fs::write(folder.join("password"), "secret\n").unwrap();
    let url = format!("https://{}", world.daemon.listen);
    let top = |arguments: &[&str]| {
        let output = Command::new(BINARY)
            .args(["top", "--once", "--url", &url])
            .args(arguments)
            .env("CLOSEWATCH_PASSWORD", "wrong")
            .current_dir(&folder)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    };
    let ca = ["--ca", "authority.crt"];
    let shown = ["--cert", "good.crt", "--key", "good.key"];
    let user = ["--user", "alice"];
    let password = ["--password-file", "password"];
    let (code, said) = top(&[&ca[..], &shown, &user, &password].concat());
    assert_eq!((code, said.as_str()), (Some(0), ""));
    for (arguments, sentence) in [
        (
            [&shown[..], &user, &password].concat(),
            "an authority that is not known here (--ca names it)",
        ),
        ([&ca[..], &user, &password].concat(), "--cert and --key"),
        (
            [&ca[..], &shown].concat(),
            "a user and a password are needed",
        ),
        ([&ca[..], &shown, &user].concat(), "(401)"),
        (
            [&ca[..], &shown, &["--password-file", "password"]].concat(),
            "--user",
        ),
        (
            vec!["--ca", "password"],
            "password has no certificate in PEM",
        ),
    ] {
        let (code, said) = top(&arguments);
        assert!(matches!(code, Some(1 | 2)), "{arguments:?}: {said}");
        assert!(said.contains(sentence), "{arguments:?}: {said}");
    }
}
