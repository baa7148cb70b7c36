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
    time,
};

use crate::metrics;

/// A loop that takes longer than this to answer is stuck.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A question to the loop, with the way back.
#[derive(Debug)]
pub(crate) enum Query {
    /// Are you there?
    Alive(oneshot::Sender<()>),
    /// Are all probes attached?
    Ready(oneshot::Sender<bool>),
    /// The exposition.
    Metrics(oneshot::Sender<Result<String>>),
}

type Loop = mpsc::Sender<Query>;

/// Answers requests for as long as it is polled.
pub(crate) async fn serve(listener: TcpListener, queries: Loop) -> Result<()> {
    let router = Router::new()
        .route("/", get(Html(LANDING_PAGE)))
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .fallback((StatusCode::NOT_FOUND, "not found; / lists what there is\n"))
        .with_state(queries);
    axum::serve(listener, router).await.context("serve HTTP")
}

async fn metrics(State(queries): State<Loop>) -> Response {
    match ask(&queries, Query::Metrics).await {
        Some(Ok(text)) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Some(Err(error)) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n")).into_response()
        }
        None => stuck(),
    }
}

async fn livez(State(queries): State<Loop>) -> Response {
    match ask(&queries, Query::Alive).await {
        Some(()) => "alive\n".into_response(),
        None => stuck(),
    }
}

async fn readyz(State(queries): State<Loop>) -> Response {
    match ask(&queries, Query::Ready).await {
        Some(true) => "ready\n".into_response(),
        Some(false) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "not all probes are attached\n",
        )
            .into_response(),
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
<li><a href="/readyz">/readyz</a>: 200 while all probes are attached</li>
</ul>
</body>
</html>
"#;
