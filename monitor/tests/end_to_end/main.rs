//! The real binary against real sockets.
//!
//! Every scenario runs `closewatch`, real peers and a packet capture, each test in a cgroup and
//! network namespaces of its own, and then compares the records, field by field, with what the
//! captured packets say. What the packets say is worked out here (`capture` → `tcp` → `websocket` →
//! `witness`) without a line of the product's code.
//!
//! The scenarios need root and are ignored by a plain `cargo test`; `cargo xtask test` runs them.

#![expect(
    clippy::unwrap_used,
    reason = "what goes wrong in a helper fails its test"
)]

#[path = "../endpoint/authority.rs"]
mod authority;
mod capture;
mod compare;
mod daemon;
mod figures;
mod judge;
mod peers;
mod sandbox;
mod stage;
mod tcp;
mod websocket;
mod witness;
mod witness_tests;

mod answers;
mod cables;
mod clock;
mod endings;
mod forged;
mod frames;
mod hostile;
mod hosts;
mod implementations;
mod middleboxes;
mod openings;
mod operations;
mod outcomes;
mod overlaps;
mod privileges;
mod service_manager;
mod sockets;
mod time_wait;
mod tls;
mod tungstenite;
