//! The page at `/`: its files are part of this program, and need nothing from elsewhere.

use axum::{Router, http::header::CONTENT_TYPE, routing::get};

use super::Sources;

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Path, media type, text. The page names them without a leading `/`, so that it also works behind a
/// proxy that serves it from a folder.
const FILES: [(&str, &str, &str); 9] = [
    (
        "/",
        "text/html; charset=utf-8",
        include_str!("page/index.html"),
    ),
    (
        "/page/page.css",
        "text/css; charset=utf-8",
        include_str!("page/page.css"),
    ),
    (
        "/page/icon.svg",
        "image/svg+xml",
        include_str!("page/icon.svg"),
    ),
    ("/page/main.js", SCRIPT, include_str!("page/main.js")),
    ("/page/dom.js", SCRIPT, include_str!("page/dom.js")),
    ("/page/charts.js", SCRIPT, include_str!("page/charts.js")),
    ("/page/servers.js", SCRIPT, include_str!("page/servers.js")),
    ("/page/hanging.js", SCRIPT, include_str!("page/hanging.js")),
    ("/page/health.js", SCRIPT, include_str!("page/health.js")),
];

pub(super) fn routes() -> Router<Sources> {
    FILES.into_iter().fold(Router::new(), |routes, file| {
        let (path, media_type, text) = file;
        routes.route(path, get(([(CONTENT_TYPE, media_type)], text)))
    })
}
