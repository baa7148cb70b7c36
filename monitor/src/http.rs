//! What the daemon serves: the page, the API behind it, metrics, liveness, readiness.
//!
//! In: connections. Out: [`Query`]s to the loop that owns all state, and its answers as responses. On a
//! thread of its own, so that neither TLS nor passwords nor a flood of requests hold up the loop, and it
//! never waits for the loop longer than [`ANSWER_WITHIN`]. This file and its folder are the only ones that
//! name the HTTP framework, but for the headers of `web_config`.

mod answers;
mod api;
mod connection;
mod counts;
mod error;
mod guard;
mod host;
mod metrics;
mod page;
mod parameters;
mod passwords;
mod places;
mod server;

use std::time::Duration;

use anyhow::{Context, Result};
use axum::{
    Router,
    extract::{FromRef, State},
    middleware,
    routing::get,
};
use tokio::{
    sync::{mpsc, oneshot},
    task, time,
};

use self::{answers::Answers, counts::Counts, error::ApiError, guard::Guard, server::Endpoint};
pub(crate) use self::{counts::Figures, server::Server};
use crate::{
    api::{Health, Page, Selection, ServersNow},
    metrics::Exposition,
    tracker::Place,
};

/// A loop that takes longer than this to answer is stuck.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A question to the loop, with the way back.
#[derive(Debug)]
pub(crate) enum Query {
    /// Are you there?
    Alive(oneshot::Sender<()>),
    /// The metrics; those of the endpoint itself come with the question.
    Metrics(Figures, oneshot::Sender<Result<Exposition>>),
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

pub(crate) type Loop = mpsc::Sender<Query>;

/// What answers are made of.
#[derive(Clone)]
struct Sources {
    queries: Loop,
    endpoint: Endpoint,
}

/// Everything that is served, behind its guard.
fn router(sources: Sources, guard: Guard, counts: Counts) -> Router {
    let long = Router::new()
        .route("/api/v1/servers", get(api::servers))
        .route("/api/v1/connections", get(api::connections))
        .route("/metrics", get(metrics::metrics))
        .layer(middleware::from_fn_with_state(
            Answers::new(counts),
            answers::one_of_few,
        ));
    page::routes()
        .merge(long)
        .route("/api/v1/health", get(api::health))
        .route("/livez", get(livez))
        // Serving begins when all probes are attached.
        .route("/readyz", get(livez))
        .fallback(async || ApiError::not_found())
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .layer(middleware::from_fn_with_state(guard, guard::guard))
        .with_state(sources)
}

impl FromRef<Sources> for Loop {
    fn from_ref(sources: &Sources) -> Self {
        sources.queries.clone()
    }
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

/// Encodes elsewhere: short answers need not wait for a long one.
async fn off_the_loop<T: Send + 'static>(
    encode: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T, ApiError> {
    let encoded = task::spawn_blocking(encode).await;
    Ok(encoded.context("encode the answer").flatten()?)
}

#[cfg(test)]
mod tests;
