//! `cargo xtask load`: what makes the traffic that is measured, as a process of its own, in whose cgroup nothing else
//! is. Both ends of every connection are in it, on loopback; of those with TLS, only the client.
//!
//! Prints one line of JSON when it is done; a load that holds connections open prints one for each line that it reads.

mod closings;
mod ends;
mod hold;
mod pairs;
mod secure;
mod single;

use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};

pub(super) use self::single::Traffic;

#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    load: Load,
}

#[derive(Subcommand)]
enum Load {
    /// One connection, both ends in one thread: as many packets as possible, and no waiting
    Single { traffic: Traffic, milliseconds: u64 },
    /// An echo on every CPU
    Pairs {
        /// Of WebSocket frames, and not of plain TCP
        #[arg(long)]
        websocket: bool,
        milliseconds: u64,
    },
    /// WebSockets that open and close
    Closings { milliseconds: u64 },
    /// An echo over TLS, with a server that runs already
    Secure(secure::Secure),
    /// WebSockets that stay open until stdin ends
    Hold { number: u8, connections: u32 },
}

pub(crate) fn load(options: &Options) -> Result<()> {
    let time = Duration::from_millis;
    let counted = match &options.load {
        Load::Single {
            traffic,
            milliseconds,
        } => single::run(*traffic, time(*milliseconds))?,
        Load::Pairs {
            websocket,
            milliseconds,
        } => pairs::run(*websocket, time(*milliseconds))?,
        Load::Closings { milliseconds } => closings::run(time(*milliseconds))?,
        Load::Secure(of) => secure::run(of)?,
        Load::Hold {
            number,
            connections,
        } => return hold::run(*number, *connections, |counted| println!("{counted}")),
    };
    println!("{counted}");
    Ok(())
}
