//! Many WebSockets that stay open. For each number that it reads they talk for so many milliseconds, one after the
//! other, so that no packet finds what its connection needs still in the CPU's caches.

use std::{
    io::stdin,
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::ends::{Ends, Opcode, PORT, frame, listen, pass};

/// `number` tells this load from others: with its two descriptors for each connection a process has not enough.
pub(super) fn run(number: u8, connections: u32, say: impl Fn(&Value)) -> Result<()> {
    let listener = listen(PORT + 100 + u16::from(number))?;
    let address = Ipv4Addr::new(127, 2, number, 1);
    let mut open = Vec::new();
    let mut buffer = [0; 1024];
    for _ in 0..connections {
        let mut ends = Ends::connect(&listener, address, false)
            .with_context(|| format!("open a connection beside {} others", open.len()))?;
        ends.open_websocket(&mut buffer)?;
        for end in [&ends.client, &ends.server] {
            end.set_nonblocking(true)?;
        }
        open.push(ends);
        // How many a second are too many is not what is measured here.
        if open.len() % 8 == 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }
    say(&json!({ "connections": open.len() }));
    for line in stdin().lines() {
        let duration = Duration::from_millis(line?.trim().parse()?);
        say(&talk(&open, duration, &mut buffer)?);
    }
    Ok(())
}

fn talk(open: &[Ends], duration: Duration, buffer: &mut [u8]) -> Result<Value> {
    let [request, answer] = [true, false].map(|masked| frame(Opcode::Binary, masked, &[b'x'; 100]));
    let began = Instant::now();
    let mut turns = 0u64;
    for Ends { client, server } in open.iter().cycle() {
        if began.elapsed() > duration {
            break;
        }
        pass(client, server, &request, buffer)?;
        pass(server, client, &answer, buffer)?;
        turns += 1;
    }
    Ok(json!({ "turns": turns, "seconds": began.elapsed().as_secs_f64() }))
}
