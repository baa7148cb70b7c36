//! What the daemon serves: the page, the API behind it, metrics, liveness, readiness.
//!
//! In: HTTP requests. Out: [`Query`]s to the loop that owns all state, and its answers as responses.
//! Holds no state and no lock; never waits for the loop longer than [`ANSWER_WITHIN`]. This file and
//! its folder are the only ones that name the HTTP framework.

mod api;
mod error;
mod host;
mod limits;
mod page;
mod parameters;

use std::time::Duration;

use anyhow::{Context, Result};
use axum::{
    Router,
    extract::State,
    http::{
        HeaderName, HeaderValue,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
            X_CONTENT_TYPE_OPTIONS,
        },
    },
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task, time,
};

use self::{error::ApiError, limits::Guests};
use crate::{
    api::{Health, Page, Selection, ServersNow},
    metrics::{self, Exposition},
    tracker::Place,
};

/// A loop that takes longer than this to answer is stuck.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// On every response. The page needs nothing but what is served here, so nothing else may be loaded
/// should foreign text ever get into it as markup; and what is served is true for a moment only.
const HEADERS: [(HeaderName, &str); 4] = [
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-store"),
];

/// A question to the loop, with the way back.
#[derive(Debug)]
pub(crate) enum Query {
    /// Are you there?
    Alive(oneshot::Sender<()>),
    /// The metrics.
    Metrics(oneshot::Sender<Result<Exposition>>),
    /// What each server does.
    Servers(oneshot::Sender<ServersNow>),
    /// Live connections, from behind a place on; as many as one turn allows.
    Connections {
        selection: Selection,
        behind: Option<Place>,
        reply: oneshot::Sender<Page>,
    },
    /// The daemon itself.
    Health(oneshot::Sender<Result<Health>>),
}

type Loop = mpsc::Sender<Query>;

/// Answers requests for as long as it is polled.
pub(crate) async fn serve(listener: TcpListener, queries: Loop) -> Result<()> {
    let loopback = listener.local_addr().is_ok_and(|at| at.ip().is_loopback());
    let long = Router::new()
        .route("/api/v1/servers", get(api::servers))
        .route("/api/v1/connections", get(api::connections))
        .route("/metrics", get(metrics))
        .layer(middleware::from_fn_with_state(
            limits::places(),
            limits::one_of_few,
        ));
    let router = page::routes()
        .merge(long)
        .route("/api/v1/health", get(api::health))
        .route("/livez", get(livez))
        // Serving begins when all probes are attached.
        .route("/readyz", get(livez))
        .fallback(async || ApiError::not_found())
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .layer(middleware::from_fn_with_state(loopback, host::of_this_host))
        .layer(middleware::map_response(with_headers))
        .with_state(queries);
    axum::serve(Guests::of(listener), router)
        .await
        .context("serve HTTP")
}

async fn with_headers(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

async fn metrics(State(queries): State<Loop>) -> Result<Response, ApiError> {
    let exposition = ask(&queries, Query::Metrics).await??;
    let text = off_the_loop(move || exposition.encode()).await?;
    Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

async fn livez(State(queries): State<Loop>) -> Result<&'static str, ApiError> {
    ask(&queries, Query::Alive).await?;
    Ok("alive\n")
}

async fn ask<T>(
    queries: &Loop,
    query: impl FnOnce(oneshot::Sender<T>) -> Query,
) -> Result<T, ApiError> {
    let (reply, answer) = oneshot::channel();
    let asked = async {
        queries.send(query(reply)).await.ok()?;
        answer.await.ok()
    };
    let answered = time::timeout(ANSWER_WITHIN, asked).await.ok().flatten();
    answered.ok_or_else(ApiError::not_answering)
}

/// Encodes elsewhere: the loop shares its thread with HTTP, and has better to do.
async fn off_the_loop<T: Send + 'static>(
    encode: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T, ApiError> {
    let encoded = task::spawn_blocking(encode).await;
    Ok(encoded.context("encode the answer").flatten()?)
}

#[cfg(test)]
mod tests;
