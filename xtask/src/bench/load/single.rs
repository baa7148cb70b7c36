//! One connection, both ends in one thread, which never waits: what is measured is the packet's way and no scheduler.

use std::{
    io::Error,
    net::{Ipv4Addr, TcpStream},
    os::fd::AsRawFd as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use serde_json::{Value, json};

use super::ends::{Ends, Opcode, PORT, frame, listen, pass};

/// What passes.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Traffic {
    Acks,
    Plain,
    Bulk,
    Http,
    Small,
    Large,
    Huge,
    Tiny,
}

const MESSAGE: usize = 100;
/// Payload of a tiny frame, so that 16 bytes are one in both directions.
const TINY: [usize; 2] = [10, 14];
const TINY_FRAMES: usize = 4096;
const MIB: usize = 1 << 20;
/// Turns between two looks at the clock.
const BATCH: u32 = 16;

impl Traffic {
    pub(in super::super) const ALL: [Self; 8] = [
        Self::Acks,
        Self::Plain,
        Self::Bulk,
        Self::Http,
        Self::Small,
        Self::Large,
        Self::Huge,
        Self::Tiny,
    ];

    /// For the table.
    pub(in super::super) fn name(self) -> &'static str {
        match self {
            Self::Acks => "pure ACKs",
            Self::Plain => "plain TCP, 100 B there and back",
            Self::Bulk => "plain TCP, bulk",
            Self::Http => "HTTP keep-alive, 100 B answers",
            Self::Small => "WebSocket, 100 B frames",
            Self::Large => "WebSocket, 64 KiB frames",
            Self::Huge => "WebSocket, 1 MiB frames",
            Self::Tiny => "WebSocket, packets full of 16 B frames",
        }
    }

    /// For the command line.
    pub(in super::super) fn word(self) -> String {
        let word = self
            .to_possible_value()
            .map(|value| value.get_name().to_owned());
        word.unwrap_or_default()
    }

    fn is_websocket(self) -> bool {
        matches!(self, Self::Small | Self::Large | Self::Huge | Self::Tiny)
    }

    /// What the client sends in a turn, what the server answers, and how many frames these are.
    fn bytes(self) -> ([Vec<u8>; 2], usize) {
        let echo = |payload: usize| {
            [true, false].map(|masked| frame(Opcode::Binary, masked, &vec![b'x'; payload]))
        };
        match self {
            Self::Acks => ([vec![], vec![]], 0),
            Self::Plain => ([vec![b'x'; MESSAGE], vec![b'x'; MESSAGE]], 0),
            Self::Bulk => ([vec![b'x'; MIB], vec![]], 0),
            Self::Http => {
                let request = "GET /bench HTTP/1.1\r\nHost: bench.test\r\nAccept: */*\r\n\r\n";
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {MESSAGE}\r\n\r\n{}",
                    "x".repeat(MESSAGE)
                );
                ([request.into(), answer.into()], 0)
            }
            Self::Small => (echo(MESSAGE), 2),
            Self::Large => (echo(64 << 10), 2),
            Self::Huge => (echo(MIB), 2),
            Self::Tiny => {
                let [client, server] = TINY.map(|payload| vec![b'x'; payload]);
                let client = frame(Opcode::Binary, true, &client).repeat(TINY_FRAMES);
                let server = frame(Opcode::Binary, false, &server).repeat(TINY_FRAMES);
                ([client, server], 2 * TINY_FRAMES)
            }
        }
    }
}

pub(super) fn run(traffic: Traffic, duration: Duration) -> Result<Value> {
    let listener = listen(PORT)?;
    let mut ends = Ends::connect(&listener, Ipv4Addr::LOCALHOST, true)?;
    let mut buffer = vec![0; 2 * MIB];
    if traffic.is_websocket() {
        ends.open_websocket(&mut buffer)?;
    }
    let Ends { client, server } = &ends;
    for end in [client, server] {
        end.set_nonblocking(true)?;
    }
    let ([request, answer], frames) = traffic.bytes();
    let (began, mut turns) = (Instant::now(), 0u64);
    while began.elapsed() < duration {
        for _ in 0..BATCH {
            if let Traffic::Acks = traffic {
                send_ack(client)?;
                send_ack(server)?;
            } else {
                pass(client, server, &request, &mut buffer)?;
                pass(server, client, &answer, &mut buffer)?;
            }
        }
        turns += u64::from(BATCH);
    }
    Ok(json!({
        "turns": turns,
        "frames": turns * frames as u64,
        "seconds": began.elapsed().as_secs_f64(),
    }))
}

/// Makes the kernel send an ACK and nothing else: it does when a socket leaves the repair mode of checkpoints, to
/// probe the other end's window. That end does not answer more than twice a second.
fn send_ack(end: &TcpStream) -> Result<()> {
    for on in [1, 0] {
        let on: libc::c_int = on;
        // SAFETY: `on` outlives the call, which reads as many bytes of it as it is told.
        let result = unsafe {
            libc::setsockopt(
                end.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_REPAIR,
                (&raw const on).cast(),
                size_of_val(&on) as libc::socklen_t,
            )
        };
        if result != 0 {
            return Err(Error::last_os_error()).context("have a socket send an ACK (TCP_REPAIR)");
        }
    }
    Ok(())
}
