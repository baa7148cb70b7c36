//! An echo on every CPU: a client and a server with a thread each, which wait for one another, as real ones do. They
//! keep every CPU busy, so that what watches them has to take its time from theirs.

use std::{
    io::{Error, Read as _, Write as _},
    mem,
    net::{Ipv4Addr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::ends::{Ends, Opcode, PORT, frame, listen};

const MESSAGE: usize = 100;

pub(super) fn run(websocket: bool, duration: Duration) -> Result<Value> {
    let [request, answer] = if websocket {
        [true, false].map(|masked| frame(Opcode::Binary, masked, &[b'x'; MESSAGE]))
    } else {
        [[b'x'; MESSAGE], [b'x'; MESSAGE]].map(Vec::from)
    };
    let listener = listen(PORT)?;
    let cpus = thread::available_parallelism()?.get();
    let mut pairs = Vec::new();
    for _ in 0..cpus {
        let mut ends = Ends::connect(&listener, Ipv4Addr::LOCALHOST, false)?;
        if websocket {
            ends.open_websocket(&mut [0; 1024])?;
        }
        pairs.push(ends);
    }
    let began = Instant::now();
    let until = began + duration;
    let turns: Result<u64> = thread::scope(|scope| {
        let mut clients = Vec::new();
        for (cpu, Ends { client, server }) in pairs.into_iter().enumerate() {
            let (request, answer) = (&request, &answer);
            scope.spawn(move || serve(cpu, server, request.len(), answer));
            clients.push(scope.spawn(move || ask(cpu, client, request, answer.len(), until)));
        }
        let turns = clients.into_iter().map(|client| {
            let turns = client.join();
            turns.unwrap_or_else(|_| Err(Error::other("a client panicked").into()))
        });
        turns.sum()
    });
    Ok(json!({ "turns": turns?, "seconds": began.elapsed().as_secs_f64() }))
}

/// Until the client is gone.
fn serve(cpu: usize, mut server: TcpStream, request: usize, answer: &[u8]) -> Result<()> {
    stay_on(cpu)?;
    let mut buffer = vec![0; request];
    while server.read_exact(&mut buffer).is_ok() {
        server.write_all(answer)?;
    }
    Ok(())
}

fn ask(
    cpu: usize,
    mut client: TcpStream,
    request: &[u8],
    answer: usize,
    until: Instant,
) -> Result<u64> {
    stay_on(cpu)?;
    let mut buffer = vec![0; answer];
    let mut turns = 0;
    while Instant::now() < until {
        client.write_all(request)?;
        client.read_exact(&mut buffer)?;
        turns += 1;
    }
    ensure!(turns > 0, "no message came back");
    Ok(turns)
}

/// Binds this thread to a CPU.
pub(super) fn stay_on(cpu: usize) -> Result<()> {
    // SAFETY: zeros are an empty set; both calls get the set whole.
    let result = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set)
    };
    if result != 0 {
        return Err(Error::last_os_error()).context("bind a thread to a CPU");
    }
    Ok(())
}
