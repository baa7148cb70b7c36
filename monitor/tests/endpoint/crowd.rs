//! Crowds that take places and time: they say nothing, a little, or do not listen.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use crate::{
    stop::StopWhenDropped,
    traffic::{Traffic, descriptors, memory, sum},
    world::{TLS, World},
};

const CROWD: usize = 1000;
const SECONDS: u64 = 5;

/// What a crowd is like.
#[derive(Clone, Copy)]
struct Crowd {
    /// What one does each time that it has its turn.
    act: fn(&mut TcpStream, u64) -> std::io::Result<()>,
    /// It takes what it is sent.
    reads: bool,
}

/// Says nothing at all.
fn silent(_: &mut TcpStream, _: u64) -> std::io::Result<()> {
    Ok(())
}

/// A request, a byte in each turn.
fn drips(stream: &mut TcpStream, turn: u64) -> std::io::Result<()> {
    let head = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Padding: ";
    let byte = head.get(turn as usize).copied().unwrap_or(b'x');
    stream.write_all(&[byte])
}

/// A TLS handshake, a byte in each turn: a record that begins like a ClientHello.
fn shakes(stream: &mut TcpStream, turn: u64) -> std::io::Result<()> {
    let hello = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    let byte = hello.get(turn as usize).copied().unwrap_or(7);
    stream.write_all(&[byte])
}

/// Asks for all that there is, again and again, and reads nothing.
fn deaf(stream: &mut TcpStream, turn: u64) -> std::io::Result<()> {
    if turn > 0 {
        return Ok(());
    }
    let request = "GET /page/page.css HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(200);
    stream.set_nonblocking(true)?;
    match stream.write(request.as_bytes()) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        written => written.map(drop),
    }
}

/// A crowd from 127.0.0.1 that never gives up: who is thrown out comes back. A scraper from another address gets
/// every answer; one from the same, who may have to make room like the rest, gets one when it asks again.
fn crowd(what: &str, scheme: &str, web_config: &str, crowd: Crowd) {
    let world = World::protected(web_config);
    let pid = world.daemon.pid();
    let metrics = || {
        let answer = world.curl(scheme, "/metrics", &["--interface", "127.0.0.2"]);
        assert_eq!(answer.status, 200, "{what}: {answer:?}");
        answer.text
    };
    let before = (descriptors(pid), memory(pid));
    let traffic = Traffic::start(&world, &metrics(), 50, SECONDS as usize);
    let stop = AtomicBool::new(false);
    let (mut most, mut slowest, mut again) = (0, Duration::ZERO, 0);
    let scrapes = thread::scope(|scope| {
        let _stop = StopWhenDropped(&stop);
        scope.spawn(|| attend(&world, crowd, &stop));
        thread::sleep(Duration::from_millis(700));
        let began = Instant::now();
        let mut scrapes = 0;
        while began.elapsed() < Duration::from_secs(SECONDS - 1) {
            let asked = Instant::now();
            metrics();
            slowest = slowest.max(asked.elapsed());
            let asked = Instant::now();
            while world.curl(scheme, "/metrics", &[]).status != 200 {
                let waited = asked.elapsed();
                assert!(waited < Duration::from_secs(2), "{what}: the crowd's own");
                again += 1;
            }
            slowest = slowest.max(asked.elapsed());
            scrapes += 2;
            most = most.max(descriptors(pid));
            thread::sleep(Duration::from_millis(100));
        }
        scrapes
    });
    let dropped = sum(&metrics(), "closewatch_http_connections_dropped_total");
    let peak = memory(pid);
    eprintln!(
        "{what}: {scrapes} scrapes, {again} asked again, the slowest {slowest:?}; {dropped} connections dropped, \
         {most} descriptors at most; memory {} to {peak} MiB",
        before.1
    );
    assert!(scrapes >= 10, "{what}: only {scrapes} scrapes");
    assert!(slowest < Duration::from_secs(2), "{what}: {slowest:?}");
    assert!(dropped > 0.0, "{what}: the crowd was no trouble");
    assert!(most <= before.0 + 256 + 128, "{what}: {most} descriptors");
    assert!(peak <= before.1 + 64, "{what}: {peak} MiB");
    traffic.settle(&world, what, metrics);
    // All of them have gone, and so has what they held.
    let began = Instant::now();
    while descriptors(pid) > before.0 + 1 {
        assert!(
            began.elapsed() < Duration::from_secs(12),
            "{what}: descriptors stay"
        );
        thread::sleep(Duration::from_millis(100));
    }
}

/// As many descriptors as this process may have: a shell's own limit is the size of the crowd.
fn raise_limit() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both calls get a valid pointer to a structure of ours, and keep nothing of it.
    let raised = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 && {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) == 0
        }
    };
    assert!(raised && limit.rlim_max > 2 * CROWD as u64, "{limit:?}");
}

fn attend(world: &World, crowd: Crowd, stop: &AtomicBool) {
    raise_limit();
    let mut members: Vec<(TcpStream, u64)> = Vec::new();
    let mut scratch = [0; 64];
    while !stop.load(Relaxed) {
        while members.len() < CROWD && !stop.load(Relaxed) {
            let Ok(stream) = TcpStream::connect(world.daemon.listen) else {
                break;
            };
            members.push((stream, 0));
        }
        members.retain_mut(|(stream, turn)| {
            let going_on = (crowd.act)(stream, *turn).is_ok();
            *turn += 1;
            going_on && is_open(stream, &mut scratch, !crowd.reads)
        });
        thread::sleep(Duration::from_millis(50));
    }
}

/// Whether the daemon has not ended it; without reading what a deaf one must not.
fn is_open(stream: &mut TcpStream, scratch: &mut [u8], peek: bool) -> bool {
    if stream.set_nonblocking(true).is_err() {
        return false;
    }
    let read = if peek {
        stream.peek(scratch)
    } else {
        stream.read(scratch)
    };
    let open = match read {
        Ok(length) => length > 0,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    };
    open && (peek || stream.set_nonblocking(false).is_ok())
}

#[test]
#[ignore = "needs root"]
fn crowd_that_says_nothing() {
    crowd(
        "silent, plain",
        "http",
        "",
        Crowd {
            act: silent,
            reads: true,
        },
    );
}

#[test]
#[ignore = "needs root"]
fn crowd_that_drips_headers() {
    crowd(
        "dripping headers",
        "http",
        "",
        Crowd {
            act: drips,
            reads: true,
        },
    );
}

#[test]
#[ignore = "needs root"]
fn crowd_that_drips_handshakes() {
    crowd(
        "dripping handshakes",
        "https",
        TLS,
        Crowd {
            act: shakes,
            reads: true,
        },
    );
}

#[test]
#[ignore = "needs root"]
fn crowd_that_never_reads() {
    crowd(
        "never reading",
        "http",
        "",
        Crowd {
            act: deaf,
            reads: false,
        },
    );
}

/// What each connection that does nothing in its time is ended with, as the README says.
#[test]
#[ignore = "needs root"]
fn each_has_its_time() {
    let world = World::protected(TLS);
    let mut silent = TcpStream::connect(world.daemon.listen).unwrap();
    let ended = |stream: &mut TcpStream, within: Duration| {
        stream.set_read_timeout(Some(within)).unwrap();
        let began = Instant::now();
        let read = stream.read(&mut [0; 1024]);
        let over = match &read {
            Ok(length) => *length == 0,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        };
        assert!(over, "{read:?} after {:?}", began.elapsed());
        began.elapsed()
    };
    let took = ended(&mut silent, Duration::from_secs(8));
    assert!(took > Duration::from_secs(4), "{took:?}");
    world.write("");
    world.await_status("http", &[], 200);
    let mut head = TcpStream::connect(world.daemon.listen).unwrap();
    head.write_all(b"GET /livez HTTP/1.1\r\n").unwrap();
    let took = ended(&mut head, Duration::from_secs(8));
    assert!(took > Duration::from_secs(4), "{took:?}");
    let text = world.curl("http", "/metrics", &[]).text;
    for reason in ["handshake_timeout", "head_timeout"] {
        let name = format!("closewatch_http_connections_dropped_total{{reason=\"{reason}\"}}");
        assert_eq!(sum(&text, &name), 1.0, "{reason}: {text}");
    }
}
