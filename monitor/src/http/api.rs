//! `/api/v1/`: parameters in, the loop's answers out as JSON.

use anyhow::Result;
use axum::{
    extract::{RawQuery, State},
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use monitor_ebpf::event::Role;
use serde::Serialize;

use super::{Loop, Query, ask, error::ApiError, off_the_loop, parameters::Parameters};
use crate::{
    api::{Connections, Cursor, Selection, Servers},
    outcome::role_name,
    tracker::Phase,
};

/// Entries in an answer at most, and when nothing is said.
const LIMIT_MAX: usize = 10_000;
const LIMIT: usize = 100;

pub(super) async fn servers(
    State(queries): State<Loop>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let mut parameters = Parameters::read(query.as_deref(), &["server", "role", "limit"])?;
    let server = parameters.take("server", SERVER, |text| {
        let other = text == "other";
        let address = text.parse::<std::net::SocketAddr>().ok();
        address
            .map(|address| address.to_string())
            .or(other.then(|| text.to_owned()))
    })?;
    let role = parameters.take("role", ROLE, role)?;
    let limit = parameters.take("limit", LIMITS, limit)?;

    let mut now = ask(&queries, Query::Servers).await?;
    let json = off_the_loop(move || {
        now.rows.retain(|row| {
            role.is_none_or(|role| role == row.label.role)
                && server
                    .as_ref()
                    .is_none_or(|server| *server == row.label.server)
        });
        encode(&Servers::new(&now, limit.unwrap_or(LIMIT_MAX)))
    });
    Ok(response(json.await?))
}

pub(super) async fn connections(
    State(queries): State<Loop>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let known = ["phase", "server", "role", "limit", "after"];
    let mut parameters = Parameters::read(query.as_deref(), &known)?;
    let mut selection = Selection {
        phase: parameters.take("phase", PHASE, phase)?,
        server: parameters.take("server", SERVER, |text| text.parse().ok())?,
        role: parameters.take("role", ROLE, role)?,
        limit: parameters.take("limit", LIMITS, limit)?.unwrap_or(LIMIT),
    };
    let after = parameters.take("after", "the next of an answer", |text| text.parse().ok())?;
    let mut behind = after.map(|Cursor(place)| place);

    // The loop looks at a bounded number of connections in one turn; events have theirs in between.
    let mut found = Vec::new();
    let mut page = loop {
        let mut page = ask(&queries, |reply| Query::Connections {
            selection,
            behind,
            reply,
        })
        .await?;
        behind = page.next;
        selection.limit -= page.found.len();
        found.append(&mut page.found);
        if selection.limit == 0 || behind.is_none() {
            break page;
        }
    };
    page.found = found;
    let json = off_the_loop(move || encode(&Connections::new(&page)));
    Ok(response(json.await?))
}

pub(super) async fn health(
    State(queries): State<Loop>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    Parameters::read(query.as_deref(), &[])?;
    let health = ask(&queries, Query::Health).await??;
    Ok(response(off_the_loop(move || encode(&health)).await?))
}

const PHASE: &str = "open, awaiting_close_frame, awaiting_fin or half_closed";
const SERVER: &str = "ip:port or [ip]:port";
const ROLE: &str = "client or server";
const LIMITS: &str = "a number from 1 to 10000";

fn phase(text: &str) -> Option<Phase> {
    Phase::ALL.into_iter().find(|phase| phase.name() == text)
}

fn role(text: &str) -> Option<Role> {
    [Role::Client, Role::Server]
        .into_iter()
        .find(|role| role_name(*role) == text)
}

fn limit(text: &str) -> Option<usize> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let limit = text.parse().ok().filter(|_| digits)?;
    (1..=LIMIT_MAX).contains(&limit).then_some(limit)
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>> {
    Ok(serde_json::to_vec(value)?)
}

fn response(json: Vec<u8>) -> Response {
    ([(CONTENT_TYPE, "application/json")], json).into_response()
}
