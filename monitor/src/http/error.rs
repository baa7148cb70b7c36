//! Every refusal in one shape: `{"error":{"code":"…","message":"…"}}`.

use axum::{
    Json,
    http::{HeaderName, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use serde_json::json;

/// Why a request is not answered. The code is a promise, the message is for people.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    header: Option<(HeaderName, HeaderValue)>,
}

impl ApiError {
    pub(super) fn bad_parameter(message: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_parameter", message)
    }

    pub(super) fn not_found() -> Self {
        let message = "there is nothing here; / shows the servers, README.md lists the paths";
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(super) fn method_not_allowed() -> Self {
        let message = "closewatch only watches: use GET";
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            message,
        )
    }

    pub(super) fn not_answering() -> Self {
        let message = "the daemon does not answer";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "not_answering", message)
    }

    pub(super) fn busy() -> Self {
        let message = "too many long answers are being read: try again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message)
    }

    pub(super) fn busy_passwords() -> Self {
        let message = "too many passwords are being looked at: try again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message)
    }

    pub(super) fn unauthorized() -> Self {
        let message = "a user and a password are needed, and these are not right";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    pub(super) fn rate_limit() -> Self {
        let message =
            "more is asked than rate_limit of the web configuration allows: wait a moment";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit", message)
    }

    pub(super) fn web_config() -> Self {
        let message = "the web configuration cannot be read, so nothing is answered: the daemon's log says what is wrong";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "web_config", message)
    }

    pub(super) fn other_protection() -> Self {
        let message = "the web configuration has changed: connect again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "web_config", message)
    }

    pub(super) fn foreign_host() -> Self {
        let message = "closewatch listens on loopback: ask it by address, or as localhost";
        Self::new(StatusCode::FORBIDDEN, "foreign_host", message)
    }

    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            header: None,
        }
    }

    /// With a header besides.
    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some((name, value));
        self
    }
}

impl From<anyhow::Error> for ApiError {
    fn from(error: anyhow::Error) -> Self {
        let message = format!("{error:#}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({"error": {"code": self.code, "message": self.message}});
        let mut response = (self.status, Json(body)).into_response();
        response.headers_mut().extend(self.header);
        response
    }
}
