//! What the daemon serves: metrics, liveness, readiness and a page that links them.
//!
//! In: HTTP requests. Out: [`Query`]s to the loop that owns all state, and its answers as responses.
//! Holds no state and no lock; never waits for the loop longer than [`ANSWER_WITHIN`].

use std::time::Duration;

use anyhow::{Context, Result};
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task, time,
};

use crate::metrics::{self, Exposition};

/// A loop that takes longer than this to answer is stuck.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A question to the loop, with the way back.
#[derive(Debug)]
pub(crate) enum Query {
    /// Are you there?
    Alive(oneshot::Sender<()>),
    /// The metrics.
    Metrics(oneshot::Sender<Result<Exposition>>),
}

type Loop = mpsc::Sender<Query>;

/// Answers requests for as long as it is polled.
pub(crate) async fn serve(listener: TcpListener, queries: Loop) -> Result<()> {
    let router = Router::new()
        .route("/", get(Html(LANDING_PAGE)))
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        // Serving begins when all probes are attached, and they stay so.
        .route("/readyz", get(livez))
        .fallback((StatusCode::NOT_FOUND, "not found; / lists what there is\n"))
        .with_state(queries);
    axum::serve(listener, router).await.context("serve HTTP")
}

async fn metrics(State(queries): State<Loop>) -> Response {
    let Some(answer) = ask(&queries, Query::Metrics).await else {
        return stuck();
    };
    let encoded = match answer {
        Ok(exposition) => task::spawn_blocking(move || exposition.encode()).await,
        Err(error) => Ok(Err(error)),
    };
    match encoded.context("encode the metrics").flatten() {
        Ok(text) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n")).into_response(),
    }
}

async fn livez(State(queries): State<Loop>) -> Response {
    match ask(&queries, Query::Alive).await {
        Some(()) => "alive\n".into_response(),
        None => stuck(),
    }
}

async fn ask<T>(queries: &Loop, query: impl FnOnce(oneshot::Sender<T>) -> Query) -> Option<T> {
    let (reply, answer) = oneshot::channel();
    let asked = async {
        queries.send(query(reply)).await.ok()?;
        answer.await.ok()
    };
    time::timeout(ANSWER_WITHIN, asked).await.ok().flatten()
}

fn stuck() -> Response {
    (
        StatusCode::SERVICE_UNAVAILABLE,
        "the daemon does not answer\n",
    )
        .into_response()
}

const LANDING_PAGE: &str = r#"<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>closewatch</title></head>
<body>
<h1>closewatch</h1>
<p>Which WebSocket servers delay closing TCP?</p>
<ul>
<li><a href="/metrics">/metrics</a>: for Prometheus</li>
<li><a href="/livez">/livez</a>: 200 while the daemon answers</li>
<li><a href="/readyz">/readyz</a>: 200 once the probes are attached</li>
</ul>
</body>
</html>
"#;

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;
    use crate::metrics::Metrics;

    #[tokio::test]
    async fn answers_come_from_the_loop() {
        let (queries, mut asked) = mpsc::channel(1);
        let address = start(queries).await;
        task::spawn(async move {
            while let Some(query) = asked.recv().await {
                match query {
                    Query::Alive(reply) => reply.send(()).unwrap(),
                    Query::Metrics(reply) => {
                        let metrics = Metrics::new(Duration::from_secs(1), "0.0.0").unwrap();
                        reply.send(Ok(metrics.exposition())).unwrap();
                    }
                }
            }
        });
        let metrics = request(&address, "GET /metrics").await;
        assert!(metrics.starts_with("HTTP/1.1 200 "), "{metrics}");
        assert!(
            metrics.contains("content-type: text/plain; version=0.0.4"),
            "{metrics}"
        );
        assert!(metrics.contains("closewatch_build_info"), "{metrics}");
        for (line, status) in [
            ("GET /", "200"),
            ("GET /livez", "200"),
            ("GET /readyz", "200"),
            ("GET /other", "404"),
            ("POST /metrics", "405"),
        ] {
            let response = request(&address, line).await;
            assert!(
                response.starts_with(&format!("HTTP/1.1 {status} ")),
                "{line}: {response}"
            );
        }
    }

    #[tokio::test]
    async fn loop_that_is_gone_is_not_alive() {
        let (queries, asked) = mpsc::channel(1);
        let address = start(queries).await;
        drop(asked);
        for line in ["GET /livez", "GET /readyz", "GET /metrics"] {
            let response = request(&address, line).await;
            assert!(response.starts_with("HTTP/1.1 503 "), "{line}: {response}");
        }
    }

    async fn start(queries: Loop) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        task::spawn(serve(listener, queries));
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
}
