//! `closewatch top` in a terminal: Debian's tmux, a live daemon, real traffic.
//!
//! What the terminal shows is read off it and held against the API's words; nothing here looks at the
//! view's own code.

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
    "../page/traffic.rs" traffic
}

mod content;
mod ends;
mod plain;
mod tmux;
