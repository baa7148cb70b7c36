//! What the kernel side and the daemon share, and all of the kernel side that can be pure.
//!
//! Everything here is safe, allocates nothing, does no I/O and does a bounded amount of work for a
//! packet. It is compiled twice: for the bpf target as the inside of the hooks (`main.rs`), and for
//! the host, where it is unit- and property-tested and where the daemon reads events with it.
#![cfg_attr(target_arch = "bpf", no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod asking;
pub mod counter;
pub mod early;
pub mod event;
pub mod frame;
#[cfg(any(test, feature = "model"))]
pub mod fuzz;
#[cfg(any(test, feature = "model"))]
pub mod model;
pub mod proxy;
pub mod session;
pub mod socket;
pub mod stream;
pub mod tls;
pub mod upgrade;
pub mod window;
