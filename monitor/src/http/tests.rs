use std::net::SocketAddr;

use monitor_ebpf::event::{Role, Snapshot};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::{
    api::{Row, ServerCount, look},
    clock::UtcOffset,
    heads::Opening,
    history::Histories,
    metrics::Metrics,
    servers::Label,
    timeline::after,
    tracker::{Live, Tracker},
};

const NOW: Duration = Duration::from_secs(100);

#[tokio::test]
async fn answers_come_from_the_loop() {
    let address = start(Tracker::default()).await;
    for (line, media_type, says) in [
        ("GET /", "text/html; charset=utf-8", "<!doctype html>"),
        ("GET /api/v1/servers", "application/json", "\"servers\":"),
        (
            "GET /api/v1/connections",
            "application/json",
            "\"next\":null",
        ),
        (
            "GET /api/v1/health",
            "application/json",
            "closewatch_events_lost_total",
        ),
        (
            "GET /metrics",
            "text/plain; version=0.0.4",
            "closewatch_build_info",
        ),
        (
            "GET /page/main.js",
            "text/javascript; charset=utf-8",
            "api/v1/",
        ),
        ("GET /page/page.css", "text/css; charset=utf-8", "--ink"),
        ("GET /page/icon.svg", "image/svg+xml", "<svg"),
        ("GET /livez", "text/plain; charset=utf-8", "alive\n"),
        ("GET /readyz", "text/plain; charset=utf-8", "alive\n"),
    ] {
        let response = request(&address, line).await;
        assert!(response.starts_with("HTTP/1.1 200 "), "{line}: {response}");
        let header = format!("\r\ncontent-type: {media_type}\r\n");
        assert!(response.contains(&header), "{line}: {response}");
        assert!(response.contains(says), "{line}: {response}");
    }
}

#[tokio::test]
async fn length_of_the_metrics_is_known_before_them() {
    let address = start(Tracker::default()).await;
    let length = |response: &str| {
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(!head.contains("transfer-encoding"), "{head}");
        let said = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        (said.unwrap().parse::<usize>().unwrap(), body.len())
    };
    let (said, read) = length(&request(&address, "GET /metrics").await);
    assert_eq!(said, read);
    let (said, read) = length(&request(&address, "HEAD /metrics").await);
    assert!(said > 1000);
    assert_eq!(read, 0);
    let mut stream = TcpStream::connect(&address).await.unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.0\r\n\r\n")
        .await
        .unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    let (said, read) = length(&response);
    assert_eq!(said, read);
}

#[tokio::test]
async fn refusals_have_one_shape() {
    let address = start(Tracker::default()).await;
    for (line, status, code) in [
        ("GET /other", 404, "not_found"),
        ("GET /api", 404, "not_found"),
        ("GET /api/v1/servers/", 404, "not_found"),
        ("POST /other", 404, "not_found"),
        ("POST /", 405, "method_not_allowed"),
        ("POST /metrics", 405, "method_not_allowed"),
        ("DELETE /api/v1/servers", 405, "method_not_allowed"),
        ("PUT /livez", 405, "method_not_allowed"),
        ("GET /api/v1/servers?phase=open", 400, "bad_parameter"),
        ("GET /api/v1/servers?server=chat", 400, "bad_parameter"),
        ("GET /api/v1/servers?limit=0", 400, "bad_parameter"),
        ("GET /api/v1/health?verbose", 400, "bad_parameter"),
        ("GET /api/v1/connections?phase=closed", 400, "bad_parameter"),
        ("GET /api/v1/connections?phase=", 400, "bad_parameter"),
        (
            "GET /api/v1/connections?server=192.0.2.1",
            400,
            "bad_parameter",
        ),
        ("GET /api/v1/connections?role=Client", 400, "bad_parameter"),
        ("GET /api/v1/connections?limit=+5", 400, "bad_parameter"),
        ("GET /api/v1/connections?limit=10001", 400, "bad_parameter"),
        (
            "GET /api/v1/connections?limit=1&limit=2",
            400,
            "bad_parameter",
        ),
        ("GET /api/v1/connections?after=0-0", 400, "bad_parameter"),
        (
            "GET /api/v1/connections?%3Cscript%3E=%ff",
            400,
            "bad_parameter",
        ),
    ] {
        let response = request(&address, line).await;
        assert_eq!(error_of(&response), (status, code.to_owned()), "{line}");
    }
    let refused = request(&address, "POST /metrics").await;
    assert!(refused.contains("\r\nallow: GET,HEAD\r\n"), "{refused}");
}

#[tokio::test]
async fn page_of_a_stranger_is_told_nothing() {
    let address = start(Tracker::default()).await;
    let ask = async |host: &str| {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let head = format!("GET /livez HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        response
    };
    let refused = ask("rebound.example:16455").await;
    assert_eq!(error_of(&refused), (403, "foreign_host".to_owned()));
    for host in ["localhost:16455", "127.0.0.1", "[::1]:8080"] {
        assert!(ask(host).await.starts_with("HTTP/1.1 200 "), "{host}");
    }
}

#[tokio::test]
async fn bad_values_are_told_with_what_is_good() {
    let address = start(Tracker::default()).await;
    for (query, message) in [
        (
            "phase=x",
            r#"phase must be open, awaiting_close_frame, awaiting_fin or half_closed, not "x""#,
        ),
        (
            "a=b",
            r#"no parameter is called "a": there are phase, server, role, limit, after"#,
        ),
        ("role=client&role=client", "role is given twice"),
        (
            "limit=%22%0a",
            r#"limit must be a number from 1 to 10000, not "\"\n""#,
        ),
    ] {
        let response = request(&address, &format!("GET /api/v1/connections?{query}")).await;
        assert_eq!(json(&response)["error"]["message"], message);
    }
    let long = format!("GET /api/v1/connections?after={}", "x".repeat(5000));
    assert!(request(&address, &long).await.len() < 1000);
}

#[tokio::test]
async fn loop_that_is_gone_is_not_alive() {
    let (queries, asked) = mpsc::channel(1);
    let address = listen(queries).await;
    drop(asked);
    for line in [
        "GET /livez",
        "GET /readyz",
        "GET /metrics",
        "GET /api/v1/servers",
        "GET /api/v1/connections",
        "GET /api/v1/health",
    ] {
        let response = request(&address, line).await;
        let expected = (503, "not_answering".to_owned());
        assert_eq!(error_of(&response), expected, "{line}");
    }
    assert!(
        request(&address, "GET /")
            .await
            .starts_with("HTTP/1.1 200 ")
    );
}

#[tokio::test]
async fn nothing_may_be_loaded_from_elsewhere_or_kept() {
    let address = start(Tracker::default()).await;
    for line in ["GET /", "GET /api/v1/servers", "GET /nothing", "POST /"] {
        let response = request(&address, line).await;
        for header in [
            "content-security-policy: default-src 'none'; script-src 'self';",
            "x-content-type-options: nosniff",
            "cache-control: no-store",
        ] {
            assert!(response.contains(header), "{line}: {response}");
        }
    }
}

#[tokio::test]
async fn pages_add_up_to_every_connection_once() {
    let mut tracker = Tracker::default();
    // More than the loop looks at in one turn, and those asked for at the end of the order.
    for cookie in 0..2500 {
        observe(&mut tracker, cookie, "1s upgrade");
    }
    for cookie in 2500..2510 {
        let script = format!(
            "1s upgrade; 2s client close; {}s server close",
            3020 - cookie
        );
        observe(&mut tracker, cookie, &script);
    }
    let address = start(tracker).await;

    let hanging = connections(&address, "phase=awaiting_fin&limit=4").await;
    let ports: Vec<_> = hanging.iter().map(port).collect();
    let longest_first: Vec<_> = (2500..2510).rev().collect();
    assert_eq!(ports, longest_first);

    let of_one = connections(&address, "server=198.51.100.1:8765&role=server&limit=7").await;
    assert_eq!(of_one.len(), 2510);
    let mut ports: Vec<_> = of_one.iter().map(port).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 2510);

    assert_eq!(connections(&address, "role=client").await, [] as [Value; 0]);
    assert_eq!(
        connections(&address, "phase=half_closed").await,
        [] as [Value; 0]
    );
}

#[tokio::test]
async fn foreign_text_is_only_ever_text() {
    let mut tracker = Tracker::default();
    let evil = "<img src=x onerror=alert(1)>\"\\\u{2028}";
    let opening = Opening {
        host: Some(evil.to_owned()),
        path: Some(evil.to_owned()),
        ..Opening::default()
    };
    tracker.observe(after(Role::Server, "1s upgrade"), Some(opening), NOW);
    let address = start(tracker).await;
    let connections = connections(&address, "").await;
    assert_eq!(connections[0]["host"], evil);
    assert_eq!(connections[0]["path"], evil);
}

/// Follows the pages to the end.
async fn connections(address: &str, query: &str) -> Vec<Value> {
    let mut all = Vec::new();
    let mut after = String::new();
    loop {
        let line = format!("GET /api/v1/connections?{query}{after}");
        let page = json(&request(address, &line).await);
        all.extend_from_slice(page["connections"].as_array().unwrap());
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return all,
        }
    }
}

fn port(connection: &Value) -> u64 {
    let remote: SocketAddr = connection["remote"].as_str().unwrap().parse().unwrap();
    remote.port().into()
}

fn observe(tracker: &mut Tracker, cookie: u16, script: &str) {
    let snapshot = after(Role::Server, script);
    let remote = SocketAddr::new(snapshot.remote.ip(), cookie);
    let snapshot = Snapshot {
        cookie: cookie.into(),
        remote,
        ..snapshot
    };
    tracker.observe(snapshot, None, NOW);
}

/// Serves what a loop with these connections says.
async fn start(tracker: Tracker) -> String {
    let (queries, mut asked) = mpsc::channel(1);
    task::spawn(async move {
        while let Some(query) = asked.recv().await {
            answer(&tracker, query);
        }
    });
    listen(queries).await
}

fn answer(tracker: &Tracker, query: Query) {
    let metrics = Metrics::new(Duration::from_secs(1), "0.0.0").unwrap();
    let offset = UtcOffset::between(Duration::ZERO, Duration::ZERO);
    match query {
        Query::Alive(reply) => reply.send(()).unwrap(),
        Query::Metrics(_, reply) => reply.send(Ok(metrics.exposition())).unwrap(),
        Query::Servers(reply) => {
            let mut histories = Histories::new(vec![1.0]);
            histories.seen(&Label::other(Role::Server), None);
            let rows = histories.iter().map(|(label, history)| Row {
                label: label.clone(),
                history: history.clone(),
                live: Live::default(),
                evidence: None,
                time_wait: None,
            });
            let servers = ServersNow {
                now: NOW,
                offset,
                slow_after: Duration::from_secs(1),
                edges: vec![1.0],
                rows: rows.collect(),
            };
            reply.send(servers).unwrap();
        }
        Query::Connections {
            selection,
            behind,
            reply,
        } => {
            let (found, next) = look(tracker, &selection, behind, |_| None);
            let page = Page {
                now: NOW,
                offset,
                found,
                next,
            };
            reply.send(page).unwrap();
        }
        Query::Health(reply) => {
            metrics.sight.kernel_losses(&[], 0);
            let health = Health {
                time: offset.utc(NOW),
                version: "0.0.0",
                started_at: offset.utc(NOW),
                uptime_seconds: 0.0,
                slow_after_seconds: 1.0,
                probes: Vec::new(),
                connections: tracker.len() as u64,
                servers: ServerCount { known: 0, max: 1 },
                records: None,
                unseen: metrics.unseen(),
            };
            reply.send(Ok(health)).unwrap();
        }
    }
}

async fn listen(queries: Loop) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    task::spawn(server::serve(listener, queries, None));
    address
}

async fn request(address: &str, line: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("{line} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    response
}

fn json(response: &str) -> Value {
    let (_, body) = response.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {response}"))
}

fn error_of(response: &str) -> (u16, String) {
    let status = response.split(' ').nth(1).unwrap().parse().unwrap();
    let error = &json(response)["error"];
    assert!(error["message"].is_string(), "{response}");
    (status, error["code"].as_str().unwrap().to_owned())
}

mod protected;
