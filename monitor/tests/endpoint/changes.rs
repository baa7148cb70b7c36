//! The files change while the daemon runs.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::Command,
    sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use crate::{
    daemon::BINARY,
    stop::StopWhenDropped,
    world::{HASH, TLS, World, openssl, shake_hands, start_protected, trusting},
};

#[test]
#[ignore = "needs root"]
fn certificate_is_renewed_without_a_request_that_fails() {
    let mut world = World::protected(TLS);
    let serial = |world: &World| {
        let (agreed, text) = openssl(world, &[]);
        assert!(agreed, "{text}");
        let begin = text.find("-----BEGIN").unwrap();
        let end = text.find("-----END").unwrap();
        text[begin..end].to_owned()
    };
    let first = serial(&world);
    let (stop, answered) = (AtomicBool::new(false), AtomicU32::new(0));
    thread::scope(|scope| {
        let _stop = StopWhenDropped(&stop);
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                let answer = world.curl("https", "/livez", &[]);
                assert_eq!(answer.status, 200, "{answer:?}");
                answered.fetch_add(1, Relaxed);
            }
        });
        let folder = world.folder();
        world
            .authority
            .issue(&folder, "new", &["localhost", "127.0.0.1"]);
        // The key comes seconds after the certificate.
        fs::copy(folder.join("new.crt"), folder.join("server.crt")).unwrap();
        let valid = |value: &str| {
            let began = Instant::now();
            let line = format!("closewatch_web_config_valid {value}\n");
            while !world.curl("https", "/metrics", &[]).text.contains(&line) {
                assert!(began.elapsed() < Duration::from_secs(8), "never {value}");
                thread::sleep(Duration::from_millis(50));
            }
        };
        valid("0");
        assert_eq!(serial(&world), first);
        // It has the old certificate, and asks after the renewal: answered, once.
        let mut waiting = shake_hands(world.daemon.listen, &trusting(&world)).unwrap();
        fs::copy(folder.join("new.key"), folder.join("server.key")).unwrap();
        valid("1");
        let request = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
        waiting.write_all(request).unwrap();
        let mut answer = String::new();
        waiting.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
        assert_ne!(serial(&world), first);
    });
    let answered = answered.into_inner();
    assert!(answered >= 5, "{answered}");
    let line = world
        .daemon
        .await_log("serving on with the certificate and key from before");
    assert!(line.to_string().contains("do not go together"), "{line}");
    let told = |text: &str| {
        let log = world.daemon.log();
        log.iter().filter(|line| line.contains(text)).count()
    };
    assert_eq!(told("from before"), 1, "it is told once");
}

#[test]
#[ignore = "needs root"]
fn password_changes_for_those_who_are_connected_too() {
    let world = World::protected(&format!("basic_auth_users: {{alice: '{HASH}'}}\n"));
    let old = ["--user", "alice:secret"];
    assert_eq!(world.curl("http", "/metrics", &old).status, 200);
    // Connected before the change, and asks on with what it had.
    let mut kept = TcpStream::connect(world.daemon.listen).unwrap();
    kept.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let request = format!(
        "GET /livez HTTP/1.1\r\nHost: {}\r\nAuthorization: Basic YWxpY2U6c2VjcmV0\r\n\r\n",
        world.daemon.listen
    );
    let mut ask = || {
        if kept.write_all(request.as_bytes()).is_err() {
            return String::new();
        }
        let mut bytes = [0; 4096];
        let read = kept.read(&mut bytes).unwrap_or(0);
        String::from_utf8_lossy(&bytes[..read]).into_owned()
    };
    assert!(ask().starts_with("HTTP/1.1 200"));
    // The hash of `newer`.
    let hash = Command::new("python3")
        .args(["-W", "ignore", "-c"])
        .arg("import crypt; print(crypt.crypt('newer', '$2y$04$' + 'abcdefghijklmnopqrstuu'))")
        .output()
        .unwrap();
    let hash = String::from_utf8(hash.stdout).unwrap();
    world.write(&format!("basic_auth_users: {{alice: '{}'}}\n", hash.trim()));
    let took = world.await_status("http", &["--user", "alice:newer"], 200);
    assert!(took < Duration::from_secs(4), "{took:?}");
    assert_eq!(world.curl("http", "/metrics", &old).status, 401);
    assert!(!ask().starts_with("HTTP/1.1 200"));
    // And away with them all.
    world.write("");
    world.await_status("http", &[], 200);
}

#[test]
#[ignore = "needs root"]
fn broken_file_closes_until_it_is_mended() {
    let mut world = World::protected(&format!("{TLS}basic_auth_users: {{alice: '{HASH}'}}\n"));
    let right = ["--user", "alice:secret"];
    assert_eq!(world.curl("https", "/metrics", &right).status, 200);
    world.write("basic_auth_users: {alice: secret}\n");
    world.await_status("https", &right, 500);
    for path in ["/", "/livez", "/api/v1/servers", "/metrics"] {
        let refused = world.curl("https", path, &right);
        assert_eq!(refused.status, 500);
        assert!(refused.text.contains("\"web_config\""), "{refused:?}");
    }
    fs::remove_file(world.sandbox.path("web-config.yml")).unwrap();
    thread::sleep(Duration::from_millis(1500));
    assert_eq!(world.curl("https", "/livez", &right).status, 500);
    world.daemon.await_log("nothing is answered over HTTP");
    // From TLS to none and back.
    world.write("");
    world.await_status("http", &[], 200);
    assert_eq!(world.curl("https", "/metrics", &[]).status, 0);
    world.write(TLS);
    world.await_status("https", &[], 200);
    assert_eq!(world.curl("http", "/metrics", &[]).status, 0);
}

#[test]
#[ignore = "needs root"]
fn what_is_wrong_at_the_start_ends_it_in_a_sentence() {
    let world = World::open();
    let folder = world.folder();
    for (text, sentence) in [
        (
            "tls_server_config: {cert_file: none.crt, key_file: server.key}\n",
            "none.crt",
        ),
        ("auth_excluded_paths: [/livez]\n", "auth_excluded_paths"),
        ("basic_auth_users: {alice: secret}\n", "is no bcrypt hash"),
    ] {
        let path = folder.join("wrong.yml");
        fs::write(&path, text).unwrap();
        let output = Command::new(BINARY)
            .args(["run", "--listen", "127.0.0.1:0", "--web-config"])
            .arg(&path)
            .arg("--cgroup")
            .arg(world.sandbox.cgroup_directory())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(sentence), "{said}");
        assert!(!said.contains("probes attached"), "too late: {said}");
    }
}

/// Others can reach it: the log names the remedy, unless it is protected.
#[test]
#[ignore = "needs root"]
fn warning_where_others_can_reach_it() {
    let world = World::open();
    let folder = world.folder();
    let users = format!("basic_auth_users: {{alice: '{HASH}'}}\n");
    for (text, warning) in [
        ("", Some("--web-config adds TLS and passwords")),
        (&users, Some("in clear text")),
        (TLS, Some("asks who it is")),
        (&format!("{TLS}{users}"), None),
    ] {
        let path = folder.join("wide.yml");
        fs::write(&path, text).unwrap();
        let records = folder.join("wide.jsonl");
        let everywhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut daemon = start_protected(&world.sandbox, &records, everywhere, &path);
        if let Some(warning) = warning {
            daemon.await_log(warning);
        }
        let log = daemon.stop();
        let warnings = log.iter().filter(|line| line.contains("\"WARN\""));
        assert_eq!(warnings.count(), usize::from(warning.is_some()), "{log:#?}");
    }
}
