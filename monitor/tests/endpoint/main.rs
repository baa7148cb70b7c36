//! The endpoint: TLS, passwords and their changes, and what those who connect can do to it.
//!
//! The clients are real: curl, openssl, Prometheus, promtool, schemathesis, `closewatch top`; crowds and floods
//! come from here. What must hold whatever they do: nothing is answered that is protected, others get their
//! answers, the loop takes in the kernel's events in time, and the figures are those of a quiet run.

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

mod authority;
mod changes;
mod crowd;
mod description;
mod flood;
mod malformed;
mod prometheus;
mod stop;
mod tls;
mod traffic;
mod world;
