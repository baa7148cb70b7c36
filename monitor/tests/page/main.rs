//! The page at `/` in a browser: Debian's headless Chromium, a live daemon, real traffic.
//!
//! What the page shows is read out of its document and held against the API's words; nothing here
//! looks at the page's own code.

#![expect(
    clippy::unwrap_used,
    reason = "what goes wrong in a helper fails its test"
)]

#[macro_use]
#[path = "../end_to_end/shared.rs"]
mod macros;

shared! {
    "../end_to_end/daemon.rs" daemon
    "../end_to_end/peers.rs" peers
    "../end_to_end/sandbox.rs" sandbox
}

mod access;
mod browser;
mod content;
mod traffic;
