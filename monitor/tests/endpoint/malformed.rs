//! Bytes that are no HTTP, or HTTP that means two things: nothing may come of them.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use crate::{
    traffic::{Traffic, descriptors, memory, sum},
    world::World,
};

/// Requests that were made from those below by chance.
const MUTATIONS: u64 = 1500;

/// What is sent, and how often it may be answered at most.
fn corpus() -> Vec<(Vec<u8>, usize)> {
    let long = "x".repeat(20_000);
    let many: String = (0..200).map(|n| format!("X-{n}: y\r\n")).collect();
    let get = |line: &str, headers: &str| format!("{line}\r\nHost: localhost\r\n{headers}\r\n");
    let of = |text: String, answers| (text.into_bytes(), answers);
    let ok = |headers: &str| get("GET /livez HTTP/1.1", headers);
    let mut all = vec![
        // Where does the first request end?
        of(
            ok("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n")
                + "0\r\n\r\nGET /livez HTTP/1.1\r\n\r\n",
            2,
        ),
        of(
            ok("Content-Length: 5\r\nContent-Length: 6\r\n") + "abcdef",
            1,
        ),
        of(ok("Content-Length: 5, 5\r\n") + "abcde", 1),
        of(ok("Content-Length: -1\r\n"), 1),
        of(ok("Content-Length: +5\r\n") + "abcde", 1),
        of(ok("Content-Length: 0x5\r\n") + "abcde", 1),
        of(ok("Content-Length: 99999999999999999999999\r\n"), 1),
        of(ok("Content-Length: 18446744073709551615\r\n") + "abc", 1),
        of(
            ok("Transfer-Encoding: chunked\r\n") + "5\r\nabcde\r\n0\r\n\r\n",
            1,
        ),
        of(
            ok("Transfer-Encoding: chunked\r\n") + "ffffffffffffffff\r\nabc",
            1,
        ),
        of(
            ok("Transfer-Encoding: chunked\r\n") + "5;ext=\"\r\nabcde\r\n0\r\n\r\n",
            1,
        ),
        of(ok("Transfer-Encoding: xchunked\r\n") + "0\r\n\r\n", 1),
        of(
            ok("Transfer-Encoding: chunked, identity\r\n") + "0\r\n\r\n",
            1,
        ),
        of(ok("Transfer-Encoding : chunked\r\n") + "0\r\n\r\n", 1),
        of(ok("Transfer-Encoding:\x0bchunked\r\n") + "0\r\n\r\n", 1),
        of(ok("Foo: bar\r\n Folded: yes\r\n"), 1),
        of(ok("Foo\r\nBar: x\r\n"), 1),
        of(ok("Foo: bar\rContent-Length: 5\r\n"), 1),
        of("GET /livez HTTP/1.1\nHost: localhost\n\n".to_owned(), 1),
        of(ok("Expect: 100-continue\r\nContent-Length: 3\r\n"), 2),
        // Too much of it.
        of(get(&format!("GET /{long} HTTP/1.1"), ""), 1),
        of(ok(&format!("X: {long}\r\n")), 1),
        of(ok(&format!("{long}: x\r\n")), 1),
        of(ok(&many), 1),
        of(ok(&format!("Authorization: Basic {long}\r\n")), 1),
        of(ok("").repeat(50), 50),
        of("\r\n".repeat(5000) + &ok(""), 1),
        // Other protocols, and other times.
        of("GET /livez\r\n\r\n".to_owned(), 1),
        of("GET /livez HTTP/0.9\r\n\r\n".to_owned(), 1),
        of(
            "GET /livez HTTP/2.0\r\nHost: localhost\r\n\r\n".to_owned(),
            1,
        ),
        of(
            "GET /livez HTTP/1.2\r\nHost: localhost\r\n\r\n".to_owned(),
            1,
        ),
        of("GET /livez HTTP/1.0\r\n\r\n".to_owned(), 1),
        of(
            "GET /livez http/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
            1,
        ),
        of(
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12\x04\0\0\0\0\0".to_owned(),
            1,
        ),
        of(
            ok(
                "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
            ),
            1,
        ),
        of(
            ok(
                "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
            ),
            1,
        ),
        of("SSH-2.0-OpenSSH_9.2p1\r\n".to_owned(), 1),
        of("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned(), 1),
        of(
            "CONNECT localhost:22 HTTP/1.1\r\nHost: localhost:22\r\n\r\nSSH".to_owned(),
            1,
        ),
        of(
            "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
            1,
        ),
        of("TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), 1),
        of(get("GET http://evil.example/livez HTTP/1.1", ""), 1),
        of(
            get("GET http://localhost@evil.example:99999/livez HTTP/1.1", ""),
            1,
        ),
        of(get("GET //livez HTTP/1.1", ""), 1),
        of(get("GET /page/../livez HTTP/1.1", ""), 1),
        of(get("GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1", ""), 1),
        of(get("GET /livez\0 HTTP/1.1", ""), 1),
        of(
            get(
                "GET /api/v1/servers?server=%ff%00&limit=%F0%9F HTTP/1.1",
                "",
            ),
            1,
        ),
        of(get("GET livez HTTP/1.1", ""), 1),
        of(get("GET  /livez  HTTP/1.1", ""), 1),
        of(get("GÉT /livez HTTP/1.1", ""), 1),
        of(
            "GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(),
            1,
        ),
        of("GET /livez HTTP/1.1\r\nHost: \r\n\r\n".to_owned(), 1),
        of("GET /livez HTTP/1.1\r\n\r\n".to_owned(), 1),
        of(
            "POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nabc"
                .to_owned(),
            1,
        ),
        of(String::new(), 0),
        of("\0".repeat(10_000), 1),
    ];
    // Not even text.
    all.push((
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: \xff\xfe\x80\r\n\r\n".to_vec(),
        1,
    ));
    all.push((
        b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        1,
    ));
    all.push((b"GET /livez HTTP/1.1\r\nHost: \xff\r\n\r\n".to_vec(), 1));
    // A ClientHello where no TLS is spoken.
    all.push((
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(30),
        1,
    ));
    all
}

#[test]
#[ignore = "needs root"]
fn nothing_comes_of_what_is_no_request() {
    let mut world = World::open();
    let pid = world.daemon.pid();
    let metrics = || world.daemon.metrics();
    metrics();
    let quiet = (figures(&metrics()), descriptors(pid), memory(pid));
    let corpus = corpus();
    let mut refused = 0;
    for (bytes, most) in &corpus {
        let text = exchange(world.daemon.listen, bytes);
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(100)]).into_owned();
        let answers = judge(&text, &shown);
        assert!(
            answers.len() <= *most,
            "{shown:?} is answered {} times: {text}",
            answers.len()
        );
        refused += answers.iter().filter(|status| **status != 200).count();
    }
    assert!(refused > 30, "only {refused} are refused");
    // What is ambiguous must not be answered as if it were not.
    for headers in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Transfer-Encoding: xchunked\r\n",
    ] {
        let request = format!("GET /livez HTTP/1.1\r\nHost: localhost\r\n{headers}\r\nabcdef");
        let answers = judge(&exchange(world.daemon.listen, request.as_bytes()), headers);
        assert_eq!(answers, [400], "{headers}");
    }
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    for _ in 0..MUTATIONS {
        let (base, _) = &corpus[chance.below(corpus.len())];
        let bytes = chance.mutate(base);
        let shown = format!(
            "{:?}",
            String::from_utf8_lossy(&bytes[..bytes.len().min(200)])
        );
        judge(&exchange(world.daemon.listen, &bytes), &shown);
    }
    let after = metrics();
    assert_eq!(
        figures(&after),
        quiet.0,
        "the figures are those of a quiet run"
    );
    let malformed = sum(
        &after,
        "closewatch_http_requests_refused_total{reason=\"malformed\"}",
    );
    assert!(malformed > 20.0, "{malformed}");
    eprintln!(
        "malformed: {} and {MUTATIONS} by chance, {malformed} refused as such",
        corpus.len()
    );
    let began = Instant::now();
    while descriptors(pid) > quiet.1 + 1 {
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "descriptors stay"
        );
        thread::sleep(Duration::from_millis(50));
    }
    assert!(
        memory(pid) <= quiet.2 + 32,
        "{} to {} MiB",
        quiet.2,
        memory(pid)
    );
    // And it sees what it is there for.
    let traffic = Traffic::start(&world, &metrics(), 50, 1);
    traffic.settle(&world, "after malformed requests", metrics);
    world.daemon.terminate();
    let log = world.daemon.log();
    assert!(!log.iter().any(|line| line.contains("panic")), "{log:#?}");
}

/// The figures that must not depend on who asks.
fn figures(metrics: &str) -> Vec<String> {
    let own = [
        "process_",
        "closewatch_http_",
        "closewatch_time_wait_listing",
    ];
    let lines = metrics.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter(|line| !own.iter().any(|name| line.starts_with(name)))
        .map(str::to_owned)
        .collect()
}

/// All that comes for these bytes, until the daemon ends the connection.
fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(8)))
        .unwrap();
    // It may have been refused before its end.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        let gone = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]);
        assert!(gone.contains(&error.kind()), "{shown:?}: {error}");
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// The statuses of the answers. None may be a fault of the daemon, or what is nobody's business.
fn judge(text: &str, shown: &str) -> Vec<u16> {
    let answers = text.split("HTTP/1.").skip(1);
    let statuses: Vec<u16> = answers
        .filter_map(|answer| answer.split(' ').nth(1)?.parse().ok())
        .collect();
    for status in &statuses {
        let known = matches!(status, 100 | 200 | 400 | 403 | 404 | 405 | 414 | 431 | 505);
        assert!(known, "{shown}: {text:.2000}");
    }
    assert!(!text.contains("root:"), "{shown}: {text}");
    statuses
}

/// Random numbers that are the same in each run (xorshift64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn mutate(&mut self, base: &[u8]) -> Vec<u8> {
        let mut bytes = base[..base.len().min(2000)].to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(5) {
                _ if bytes.is_empty() => bytes.push(self.next() as u8),
                0 => bytes[at] = self.next() as u8,
                1 => bytes.insert(at, self.next() as u8),
                2 => drop(bytes.remove(at)),
                3 => bytes.truncate(at),
                _ => {
                    let part = bytes[at..(at + 20).min(bytes.len())].to_vec();
                    bytes.splice(at..at, part);
                }
            }
        }
        bytes
    }
}
