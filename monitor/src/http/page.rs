//! The page at `/`: its files are part of this program, and need nothing from elsewhere.

use axum::{Router, http::header::CONTENT_TYPE, routing::get};

use super::Loop;

const FILES: [(&str, &str, &str); 1] = [(
    "/",
    "text/html; charset=utf-8",
    include_str!("page/index.html"),
)];

pub(super) fn routes() -> Router<Loop> {
    FILES.into_iter().fold(Router::new(), |routes, file| {
        let (path, media_type, text) = file;
        routes.route(path, get(([(CONTENT_TYPE, media_type)], text)))
    })
}
