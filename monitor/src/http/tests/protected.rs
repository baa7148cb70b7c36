//! The endpoint with a web configuration.

use std::{fs, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tempfile::TempDir;

use super::*;
use crate::web_config::watch::WebConfigFile;

/// `secret`, at the least cost.
const HASH: &str = "$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW";

async fn start(text: &str) -> (String, TempDir) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("web-config.yml");
    fs::write(&path, text).unwrap();
    let (queries, mut asked) = mpsc::channel(1);
    task::spawn(async move {
        while let Some(query) = asked.recv().await {
            answer(&Tracker::default(), query);
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let file = WebConfigFile::open(path).unwrap();
    task::spawn(server::serve(listener, queries, Some(file)));
    (address, folder)
}

fn authorization(user: &str, password: &str) -> String {
    let credentials = STANDARD.encode(format!("{user}:{password}"));
    format!("authorization: Basic {credentials}\r\n")
}

async fn ask(address: &str, path: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head =
        format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    response
}

fn path_of(folder: &TempDir) -> PathBuf {
    folder.path().join("web-config.yml")
}

#[tokio::test]
async fn everything_takes_a_password_where_one_is_asked_for() {
    let (address, _folder) = start(&format!("basic_auth_users: {{alice: '{HASH}'}}")).await;
    let right = authorization("alice", "secret");
    for path in [
        "/",
        "/metrics",
        "/livez",
        "/readyz",
        "/api/v1/health",
        "/nothing",
    ] {
        for headers in [
            String::new(),
            authorization("alice", "wrong"),
            authorization("bob", "secret"),
            authorization("", ""),
            "authorization: Basic !!!\r\n".to_owned(),
            "authorization: Bearer secret\r\n".to_owned(),
            right.replace("Basic ", "Basic"),
        ] {
            let refused = ask(&address, path, &headers).await;
            assert_eq!(error_of(&refused), (401, "unauthorized".to_owned()));
            assert!(
                refused.contains("\r\nwww-authenticate: Basic realm="),
                "{refused}"
            );
            assert!(refused.contains("content-security-policy"), "{refused}");
        }
        let answered = ask(&address, path, &right).await;
        assert!(!answered.starts_with("HTTP/1.1 401"), "{path}: {answered}");
    }
}

/// Changes the file, and waits until it counts.
async fn change(address: &str, folder: &TempDir, text: &str, headers: &str, status: &str) {
    fs::write(path_of(folder), text).unwrap();
    let began = time::Instant::now();
    loop {
        let response = ask(address, "/livez", headers).await;
        if response.starts_with(&format!("HTTP/1.1 {status}")) {
            break;
        }
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{text}: {response}"
        );
        time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn change_of_the_file_counts_within_seconds_and_what_is_broken_closes() {
    let (address, folder) = start("").await;
    assert!(
        ask(&address, "/livez", "")
            .await
            .starts_with("HTTP/1.1 200")
    );
    let mut new = TcpStream::connect(&address).await.unwrap();
    let mut idle = TcpStream::connect(&address).await.unwrap();
    let request = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n";
    idle.write_all(request).await.unwrap();
    let users = format!("basic_auth_users: {{alice: '{HASH}'}}");
    change(&address, &folder, &users, "", "401").await;
    // From before the change: one that is idle ends, one that has not asked yet is answered as is right now.
    let rest = async |stream: &mut TcpStream| {
        let mut text = String::new();
        let read = stream.read_to_string(&mut text);
        time::timeout(Duration::from_secs(2), read)
            .await
            .unwrap()
            .unwrap();
        text
    };
    assert!(rest(&mut idle).await.starts_with("HTTP/1.1 200"));
    new.write_all(request).await.unwrap();
    let response = rest(&mut new).await;
    assert!(response.starts_with("HTTP/1.1 401"), "{response}");
    assert!(response.contains("\r\nconnection: close\r\n"), "{response}");
    for (text, headers, status) in [
        (users.as_str(), authorization("alice", "secret"), "200"),
        (
            "basic_auth_users: {",
            authorization("alice", "secret"),
            "500",
        ),
        (
            "http_server_config: {headers: {X-Frame-Options: deny}}",
            String::new(),
            "200",
        ),
    ] {
        change(&address, &folder, text, &headers, status).await;
    }
    let response = ask(&address, "/livez", "").await;
    assert!(
        response.contains("\r\nx-frame-options: deny\r\n"),
        "{response}"
    );
}

#[tokio::test]
async fn more_than_the_rate_is_refused() {
    let (address, _folder) = start("rate_limit: {interval: 1h, burst: 3}").await;
    for _ in 0..3 {
        assert!(
            ask(&address, "/livez", "")
                .await
                .starts_with("HTTP/1.1 200")
        );
    }
    let refused = ask(&address, "/livez", "").await;
    assert_eq!(error_of(&refused), (429, "rate_limit".to_owned()));
}

/// Wrong passwords of one network fill its own part of the queue, and nobody else's.
#[tokio::test]
async fn flood_of_wrong_passwords_leaves_the_known_one_alone() {
    let dear = bcrypt::hash("secret", 8).unwrap();
    let (address, _folder) = start(&format!("basic_auth_users: {{alice: '{dear}'}}")).await;
    let right = authorization("alice", "secret");
    assert!(
        ask(&address, "/livez", &right)
            .await
            .starts_with("HTTP/1.1 200")
    );
    let flood: Vec<_> = (0..40)
        .map(|n| {
            let address = address.clone();
            task::spawn(async move {
                ask(&address, "/livez", &authorization("alice", &n.to_string())).await
            })
        })
        .collect();
    time::sleep(Duration::from_millis(20)).await;
    let began = time::Instant::now();
    assert!(
        ask(&address, "/livez", &right)
            .await
            .starts_with("HTTP/1.1 200")
    );
    let took = began.elapsed();
    let mut statuses = Vec::new();
    for refused in flood {
        statuses.push(error_of(&refused.await.unwrap()).0);
    }
    assert!(
        statuses.iter().all(|status| matches!(status, 401 | 503)),
        "{statuses:?}"
    );
    assert!(
        statuses.contains(&503),
        "the queue has no end: {statuses:?}"
    );
    assert!(took < Duration::from_secs(2), "{took:?}");
}
