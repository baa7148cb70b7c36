//! As many requests, handshakes and wrong passwords as a few threads can make.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use crate::{
    stop::StopWhenDropped,
    traffic::{Traffic, memory},
    world::{TLS, World, shake_hands, trusting},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};

const SECONDS: u64 = 4;
const THREADS: usize = 4;
/// Requests that are sent before the first answer is read.
const PIPELINED: usize = 16;

/// Floods while WebSockets close, and another client from elsewhere asks.
fn flood(
    what: &str,
    scheme: &str,
    web_config: &str,
    arguments: &[&str],
    act: impl Fn(SocketAddr, &World, &AtomicU64) + Sync,
) -> u64 {
    let world = World::protected(web_config);
    let pid = world.daemon.pid();
    let elsewhere = [&["--interface", "127.0.0.2"], arguments].concat();
    let metrics = || {
        let answer = world.curl(scheme, "/metrics", &elsewhere);
        assert_eq!(answer.status, 200, "{what}: {answer:?}");
        answer.text
    };
    let before = memory(pid);
    let traffic = Traffic::start(&world, &metrics(), 50, SECONDS as usize);
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let (mut slowest, mut helpers) = (Duration::ZERO, 0);
    let began = Instant::now();
    thread::scope(|scope| {
        let _stop = StopWhenDropped(&stop);
        for _ in 0..THREADS {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    act(world.daemon.listen, &world, &done);
                }
            });
        }
        while began.elapsed() < Duration::from_secs(SECONDS) {
            let asked = Instant::now();
            metrics();
            slowest = slowest.max(asked.elapsed());
            let threads = world.daemon.threads();
            let helping = threads.iter().filter(|(name, _)| name == "http-help");
            helpers = helpers.max(helping.count());
            thread::sleep(Duration::from_millis(100));
        }
    });
    let took = began.elapsed().as_secs_f64();
    let done = done.into_inner();
    eprintln!(
        "{what}: {:.0} a second; the slowest scrape {slowest:?}; {helpers} helpers; memory {before} to {} MiB",
        done as f64 / took,
        memory(pid)
    );
    assert!(slowest < Duration::from_secs(2), "{what}: {slowest:?}");
    // One for a password, eight for long answers, one for the files.
    assert!(helpers <= 10, "{what}: {helpers} threads");
    assert!(memory(pid) <= before + 64);
    traffic.settle(&world, what, metrics);
    done
}

/// Many requests on one connection.
fn ask(address: SocketAddr, head: &str, status: &str, done: &AtomicU64) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let requests = format!("{head}\r\n").repeat(PIPELINED);
    let mut text = Vec::new();
    let mut buffer = [0; 64 * 1024];
    for _ in 0..100 {
        if stream.write_all(requests.as_bytes()).is_err() {
            return;
        }
        text.clear();
        let answers = |text: &[u8]| {
            let text = String::from_utf8_lossy(text);
            text.matches("HTTP/1.1 ").count()
        };
        while answers(&text) < PIPELINED || !text.ends_with(b"\n") && !text.ends_with(b"}") {
            match stream.read(&mut buffer) {
                // Thrown out to make room: that is no answer.
                Ok(0) | Err(_) => return,
                Ok(length) => text.extend_from_slice(&buffer[..length]),
            }
        }
        let said = String::from_utf8_lossy(&text);
        assert_eq!(said.matches(status).count(), PIPELINED, "{said:.400}");
        done.fetch_add(PIPELINED as u64, Relaxed);
    }
}

#[test]
#[ignore = "needs root"]
fn requests() {
    let done = flood("requests", "http", "", &[], |address, _, done| {
        let head = "GET /livez HTTP/1.1\r\nHost: localhost\r\n";
        ask(address, head, "HTTP/1.1 200", done);
    });
    assert!(done > 1000, "{done}");
}

/// Long answers: the loop makes each of them.
#[test]
#[ignore = "needs root"]
fn scrapes() {
    let done = flood("scrapes", "http", "", &[], |address, _, done| {
        let head = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n";
        ask(address, head, "HTTP/1.1 ", done);
    });
    assert!(done > 100, "{done}");
}

#[test]
#[ignore = "needs root"]
fn handshakes() {
    let done = flood("handshakes", "https", TLS, &[], |address, world, done| {
        let config = trusting(world);
        for _ in 0..50 {
            if shake_hands(address, &config).is_err() {
                return;
            }
            done.fetch_add(1, Relaxed);
        }
    });
    assert!(done > 20, "{done}");
}

/// Each another one, so that none is remembered. The right one is known from before.
#[test]
#[ignore = "needs root"]
fn wrong_passwords() {
    // As dear as htpasswd makes it.
    let hash = bcrypt::hash("secret", 10).unwrap();
    let users = format!("basic_auth_users: {{alice: '{hash}'}}\n");
    let number = AtomicU64::new(0);
    let done = flood(
        "wrong passwords",
        "http",
        &users,
        &["--user", "alice:secret"],
        |address, _, done| {
            let number = number.fetch_add(1, Relaxed);
            let credentials = STANDARD.encode(format!("alice:{number}"));
            let head = format!(
                "GET /livez HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {credentials}\r\n\
                 Connection: close\r\n\r\n"
            );
            let mut stream = TcpStream::connect(address).unwrap();
            let mut text = String::new();
            // Every other one hangs up before it is answered.
            if number.is_multiple_of(2) {
                let _ = stream.write_all(head.as_bytes());
                thread::sleep(Duration::from_millis(3));
                return;
            }
            if stream.write_all(head.as_bytes()).is_ok() && stream.read_to_string(&mut text).is_ok()
            {
                let refused = text.starts_with("HTTP/1.1 401") || text.starts_with("HTTP/1.1 503");
                assert!(refused, "{text:.300}");
                done.fetch_add(1, Relaxed);
            }
        },
    );
    assert!(done > 5, "{done}");
}
