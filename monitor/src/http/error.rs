//! Every refusal in one shape: `{"error":{"code":"…","message":"…"}}`.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

/// Why a request is not answered. The code is a promise, the message is for people.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
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

    pub(super) fn foreign_host() -> Self {
        let message = "closewatch listens on loopback: ask it by address, or as localhost";
        Self::new(StatusCode::FORBIDDEN, "foreign_host", message)
    }

    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
        }
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
        (self.status, Json(body)).into_response()
    }
}
