use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    thread,
};

use super::*;

#[test]
fn what_is_no_closewatch_is_told_in_a_sentence() {
    for (response, sentence) in [
        (
            answer("404 Not Found", "<html>"),
            "is no closewatch: /api/v1/servers has status 404",
        ),
        (
            answer("302 Found", ""),
            "is no closewatch: /api/v1/servers has status 302",
        ),
        (
            answer("200 OK", "<html>"),
            "/api/v1/servers: expected value at line 1 column 1",
        ),
        (
            answer("200 OK", "{\"time\":\"2026-11-22T21:29:40Z\"}"),
            "/api/v1/servers: missing field `slow_after_seconds`",
        ),
        (
            answer(
                "503 Service Unavailable",
                r#"{"error":{"code":"not_answering","message":"the daemon \u001b[31m does not answer"}}"#,
            ),
            "says: the daemon \u{fffd}[31m does not answer (503)",
        ),
        ("SSH-2.0-OpenSSH_9.2p1\r\n".to_owned(), "is no closewatch: "),
        (String::new(), "does not answer: "),
    ] {
        let trouble = client(serve(response.clone())).ask(None).unwrap_err();
        assert!(trouble.0.contains(sentence), "{response:?}: {trouble}");
        assert!(!trouble.0.contains(char::is_control), "{trouble}");
    }
}

#[test]
fn daemon_that_is_not_there_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let client = client(format!("http://{address}").parse().unwrap());
    let trouble = client.ask(None).unwrap_err();
    assert_eq!(trouble.0, "does not answer: connection refused");
}

fn answer(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn client(url: DaemonUrl) -> Client {
    let top = Top {
        url,
        once: true,
        ca: None,
        user: None,
        password_file: None,
        cert: None,
        key: None,
    };
    Client::new(&top).unwrap()
}

/// Says the same to whoever asks.
fn serve(response: String) -> DaemonUrl {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(response.as_bytes());
        }
    });
    url.parse().unwrap()
}
