//! Real WebSocket implementations, against themselves and each other.

use crate::{
    sandbox::Plays,
    stage::{RAW_PORT, Stage, record_of},
    tungstenite,
};

/// Who closes, with which code, with how many bytes of reason.
const PLANS: [&str; 10] = [
    "client/1000/0",
    "client/1001/0",
    "client/3000/7",
    "client/4001/123",
    "client/none/0",
    "server/1000/0",
    "server/1001/0",
    "server/3000/7",
    "server/4001/123",
    "server/none/0",
];
/// aiohttp has no way to close without a code.
const PLANS_WITH_CODE: [&str; 8] = [
    "client/1000/0",
    "client/1001/0",
    "client/3000/7",
    "client/4001/123",
    "server/1000/0",
    "server/1001/0",
    "server/3000/7",
    "server/4001/123",
];

fn websockets_server(stage: &Stage, kind: &str, port: &str) -> crate::peers::Peer {
    let arguments = ["server", kind, "127.0.0.1", port];
    stage.python(Plays::Server, "websockets_peer.py", &arguments)
}

fn websockets_client(
    stage: &Stage,
    kind: &str,
    close_timeout: &str,
    url: &str,
    plans: &[&str],
) -> crate::peers::Peer {
    let arguments = [&["client", kind, close_timeout, url], plans].concat();
    stage.python(Plays::Client, "websockets_peer.py", &arguments)
}

#[test]
#[ignore = "needs root"]
fn python_websockets() {
    let stage = Stage::loopback("python_websockets");
    let servers = [
        websockets_server(&stage, "asyncio", "9000"),
        websockets_server(&stage, "sync", "9001"),
    ];
    for kind in ["asyncio", "sync"] {
        for url in ["ws://127.0.0.1:9000", "ws://127.0.0.1:9001"] {
            websockets_client(&stage, kind, "default", url, &PLANS).finish();
        }
    }
    servers.into_iter().for_each(crate::peers::Peer::stop);
    let records = stage.finish(4 * PLANS.len());
    let clean = records
        .iter()
        .filter(|record| record["outcome"] == "clean")
        .count();
    assert_eq!(clean, records.len(), "websockets closes by the book");
}

/// What this project exists for: the server answers the Close frame and leaves TCP open.
#[test]
#[ignore = "needs root"]
fn the_complaint() {
    const NEVER: &str = "accept; echo:3; await-close; close; await-eof; pause:0.5; end";
    const LATE: &str = "accept; echo:3; await-close; close; pause:1.5; end";
    let stage = Stage::loopback("the_complaint");
    let runs = [
        (NEVER, "asyncio", "2"),
        (NEVER, "sync", "2"),
        (NEVER, "asyncio", "default"),
        (LATE, "asyncio", "default"),
        (LATE, "sync", "default"),
    ];
    let mut specs = vec!["server".to_owned(), "127.0.0.1".to_owned()];
    specs.extend(
        (RAW_PORT..)
            .zip(runs)
            .map(|(port, (script, ..))| format!("{port}={script}")),
    );
    let specs: Vec<&str> = specs.iter().map(String::as_str).collect();
    let server = stage.python(Plays::Server, "raw.py", &specs);
    let clients: Vec<_> = (RAW_PORT..)
        .zip(runs)
        .map(|(port, (_, kind, timeout))| {
            let url = format!("ws://127.0.0.1:{port}");
            websockets_client(&stage, kind, timeout, &url, &["client/1000/0"])
        })
        .collect();
    for client in clients {
        client.finish();
    }
    server.finish();
    let records = stage.finish(runs.len());
    for (pair, (outcome, seconds)) in [
        ("client_gave_up", 2.0),
        ("client_gave_up", 2.0),
        ("client_gave_up", 10.0),
        ("slow_server", 1.5),
        ("slow_server", 1.5),
    ]
    .into_iter()
    .enumerate()
    {
        for role in ["client", "server"] {
            let record = record_of(&records, pair, role);
            assert_eq!(record["outcome"], outcome, "{record}");
            assert_eq!(record["slow"], true, "{record}");
            let waited = record["close_to_fin_seconds"].as_f64().unwrap();
            assert!(
                (seconds - 0.05..seconds + 0.5).contains(&waited),
                "{record}"
            );
        }
    }
}

#[test]
#[ignore = "needs root"]
fn aiohttp() {
    let stage = Stage::loopback("aiohttp");
    let servers = [
        stage.python(Plays::Server, "aiohttp_peer.py", &["server", "9000"]),
        websockets_server(&stage, "asyncio", "9001"),
    ];
    let client = |url| {
        let arguments = [&["client", url], &PLANS_WITH_CODE[..]].concat();
        stage.python(Plays::Client, "aiohttp_peer.py", &arguments)
    };
    client("http://127.0.0.1:9000").finish();
    let url = "ws://127.0.0.1:9000";
    websockets_client(&stage, "asyncio", "default", url, &PLANS_WITH_CODE).finish();
    servers.into_iter().for_each(crate::peers::Peer::stop);
    stage.finish(2 * PLANS_WITH_CODE.len());
}

#[test]
#[ignore = "needs root"]
fn node_ws() {
    let stage = Stage::loopback("node_ws");
    let servers = [
        stage.node(Plays::Server, "ws_peer.js", &["server", "9000"]),
        websockets_server(&stage, "sync", "9001"),
    ];
    for url in ["ws://127.0.0.1:9000", "ws://127.0.0.1:9001"] {
        let arguments = [&["client", url], &PLANS[..]].concat();
        stage.node(Plays::Client, "ws_peer.js", &arguments).finish();
    }
    let url = "ws://127.0.0.1:9000";
    websockets_client(&stage, "sync", "default", url, &PLANS).finish();
    servers.into_iter().for_each(crate::peers::Peer::stop);
    stage.finish(3 * PLANS.len());
}

#[test]
#[ignore = "needs root"]
fn tokio_tungstenite() {
    let stage = Stage::loopback("tokio_tungstenite");
    let servers = [
        tungstenite::server(&stage, 9000),
        websockets_server(&stage, "asyncio", "9001"),
    ];
    for url in ["ws://127.0.0.1:9000", "ws://127.0.0.1:9001"] {
        tungstenite::client(&stage, url, &PLANS).finish();
    }
    let url = "ws://127.0.0.1:9000";
    websockets_client(&stage, "asyncio", "default", url, &PLANS).finish();
    servers.into_iter().for_each(crate::peers::Peer::stop);
    stage.finish(3 * PLANS.len());
}

/// Both legs of every connection are WebSockets of their own.
#[test]
#[ignore = "needs root"]
fn nginx_in_front() {
    const CONFIGURATION: &str = "
        daemon off; master_process off; error_log stderr; pid nginx.pid;
        events { worker_connections 512; }
        http {
            access_log off;
            client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
            uwsgi_temp_path uwsgi; scgi_temp_path scgi;
            server {
                listen 127.0.0.1:9100;
                location / {
                    proxy_pass http://127.0.0.1:9000;
                    proxy_http_version 1.1;
                    proxy_set_header Upgrade $http_upgrade;
                    proxy_set_header Connection upgrade;
                    proxy_set_header Host $host;
                }
            }
        }";
    let stage = Stage::loopback("nginx_in_front");
    let configuration = stage.sandbox.path("nginx.conf");
    std::fs::write(&configuration, CONFIGURATION).unwrap();
    let prefix = stage.sandbox.directory.path().to_str().unwrap().to_owned();
    let arguments = [
        "-p",
        &prefix,
        "-c",
        configuration.to_str().unwrap(),
        "-e",
        "stderr",
    ];
    let backend = websockets_server(&stage, "asyncio", "9000");
    let nginx = stage.listener("/usr/sbin/nginx", &arguments, 9100);
    for kind in ["asyncio", "sync"] {
        websockets_client(&stage, kind, "default", "ws://127.0.0.1:9100", &PLANS).finish();
    }
    nginx.stop();
    backend.stop();
    let records = stage.finish(2 * 2 * PLANS.len());
    let nginx = records
        .iter()
        .filter(|record| record["process"] == "nginx")
        .count();
    let unknown = records
        .iter()
        .filter(|record| record["process"].is_null())
        .count();
    assert!(nginx + unknown >= 40, "nginx holds an end of both legs");
}
