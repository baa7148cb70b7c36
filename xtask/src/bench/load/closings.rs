//! WebSockets that open, say one thing each way and close, as many as this machine makes: on every CPU one thread
//! that plays both ends.

use std::{
    io::{Error, Read as _, Write as _},
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{
    ends::{Ends, Opcode, PORT, frame, listen},
    pairs::stay_on,
};

/// What passes in each direction after the handshake: a message and a Close frame.
struct Frames {
    client: [Vec<u8>; 2],
    server: [Vec<u8>; 2],
}

pub(super) fn run(duration: Duration) -> Result<Value> {
    let both = |masked| {
        [
            frame(Opcode::Binary, masked, &[b'x'; 100]),
            frame(Opcode::Close, masked, &1000u16.to_be_bytes()),
        ]
    };
    let frames = Frames {
        client: both(true),
        server: both(false),
    };
    let cpus = thread::available_parallelism()?.get();
    let began = Instant::now();
    let until = began + duration;
    let connections: Result<u64> = thread::scope(|scope| {
        let frames = &frames;
        let threads: Vec<_> = (0..cpus)
            .map(|cpu| scope.spawn(move || on_one_cpu(cpu, frames, until)))
            .collect();
        let connections = threads.into_iter().map(|thread| {
            let connections = thread.join();
            connections.unwrap_or_else(|_| Err(Error::other("a thread panicked").into()))
        });
        connections.sum()
    });
    Ok(json!({ "connections": connections?, "seconds": began.elapsed().as_secs_f64() }))
}

fn on_one_cpu(cpu: usize, frames: &Frames, until: Instant) -> Result<u64> {
    stay_on(cpu)?;
    let listener = listen(PORT + cpu as u16)?;
    // Each from an address of its own, so that no TIME_WAIT is ever in the way.
    let first = u32::from(Ipv4Addr::new(127, 1, 0, 0)) + ((cpu as u32 % 14) << 20);
    let mut connections = 0;
    while Instant::now() < until {
        let client = Ipv4Addr::from(first + (connections as u32 & 0xf_ffff));
        once(Ends::connect(&listener, client, false)?, frames)?;
        connections += 1;
    }
    Ok(connections)
}

/// As RFC 6455 has it: the server closes TCP first.
fn once(mut ends: Ends, frames: &Frames) -> Result<()> {
    let mut buffer = [0; 1024];
    ends.open_websocket(&mut buffer)?;
    let Ends { client, server } = &mut ends;
    for (to_server, to_client) in frames.client.iter().zip(&frames.server) {
        client.write_all(to_server)?;
        server.read_exact(&mut buffer[..to_server.len()])?;
        server.write_all(to_client)?;
        client.read_exact(&mut buffer[..to_client.len()])?;
    }
    drop(ends.server);
    ensure!(ends.client.read(&mut buffer)? == 0, "more than was sent");
    Ok(())
}
