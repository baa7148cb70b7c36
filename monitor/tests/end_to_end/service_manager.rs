//! The daemon under a service manager: what it tells it, and the socket that it is given.

use std::{
    io::{BufRead as _, BufReader, ErrorKind, Lines, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixDatagram,
    process::{Child, ChildStderr, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    daemon::{BINARY, Daemon},
    peers::{Peer, end_process, peer_file, python},
    sandbox::{Plays, Sandbox},
};

/// What the daemon sends to its service manager.
struct Manager(UnixDatagram);

impl Manager {
    fn listen(sandbox: &Sandbox) -> Manager {
        let socket = UnixDatagram::bind(sandbox.path("notify")).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Manager(socket)
    }

    /// The next message: its lines.
    fn next(&self) -> Vec<String> {
        let mut bytes = [0; 4096];
        let length = loop {
            match self.0.recv(&mut bytes) {
                // A wait with an end is interrupted by whatever stops this machine for a moment.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                received => break received.expect("no word from the daemon"),
            }
        };
        let text = std::str::from_utf8(&bytes[..length]).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// The message that has the line, and when it came.
    fn await_line(&self, line: &str) -> (Vec<String>, Instant) {
        let mut heard = Vec::new();
        loop {
            let message = self.next();
            if message.iter().any(|told| told == line) {
                return (message, Instant::now());
            }
            heard.push(message);
            assert!(heard.len() < 100, "no {line:?} in {heard:?}");
        }
    }
}

#[test]
#[ignore = "needs root"]
fn service_manager_hears_of_every_state() {
    let sandbox = Sandbox::new(1);
    let manager = Manager::listen(&sandbox);
    let mut command = Command::new(BINARY);
    command.env("NOTIFY_SOCKET", sandbox.path("notify"));
    let mut daemon = Daemon::launch(
        command,
        &sandbox,
        &sandbox.path("records.jsonl"),
        anywhere(),
    );
    let idle = "STATUS=0 servers delay closing, 0 connections followed, 0 lost";
    assert_eq!(manager.next(), ["READY=1", idle]);

    // From the loop that does the work, every three seconds while there is none; with the status only when that is
    // another.
    let first = manager.await_line("WATCHDOG=1");
    assert_eq!(first.0.len(), 1);
    for number in 1..3 {
        let (_, at) = manager.await_line("WATCHDOG=1");
        assert!(at.duration_since(first.1) < number * Duration::from_secs(5));
    }
    let mut command = sandbox.command(python(), 0, true);
    command.arg(peer_file("leave.py"));
    let mut peer = Peer::start(&sandbox, command, Plays::Both);
    for what in ["listen 127.0.0.1 9000", "keep 127.0.0.1 9000"] {
        peer.tell(what);
        peer.await_line("done");
    }
    // Both ends are here.
    let followed = "STATUS=0 servers delay closing, 2 connections followed, 0 lost";
    manager.await_line(followed);

    daemon.hang_up();
    let (reloading, _) = manager.await_line("RELOADING=1");
    assert!(
        reloading
            .iter()
            .any(|line| line.starts_with("MONOTONIC_USEC=")),
        "{reloading:?}"
    );
    assert_eq!(manager.next(), ["READY=1", followed]);
    peer.kill();
    manager.await_line(idle);

    daemon.terminate();
    manager.await_line("STOPPING=1");
}

#[test]
#[ignore = "needs root"]
fn passed_socket_is_served_and_outlives_the_daemon() {
    let sandbox = Sandbox::new(1);
    let listen = free();
    for _ in 0..2 {
        // Nothing is started yet: the first request starts it, and is answered.
        let (mut activate, mut log) = activate(&sandbox, &[listen], &[]);
        let response = ask(listen);
        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
        let serving = log.find_map(|line| {
            let line: Value = serde_json::from_str(&line.unwrap()).ok()?;
            line["fields"]["listen"].as_str().map(str::to_owned)
        });
        assert_eq!(serving, Some(listen.to_string()));
        let status = end_process(&mut activate, libc::SIGTERM, Duration::from_secs(1));
        assert!(status.is_some_and(|status| status.success()), "{status:?}");
    }
}

#[test]
#[ignore = "needs root"]
fn sockets_that_cannot_be_served_are_refused_in_a_sentence() {
    let sandbox = Sandbox::new(1);
    let (one, other) = (free(), free());
    let refused = |listen: &[SocketAddr], flags: &[&str], sentence: &str| {
        let (mut child, log) = activate(&sandbox, listen, flags);
        assert_eq!(ask(listen[0]), "");
        let said: Vec<String> = log.map(Result::unwrap).collect();
        let said = said.join("\n");
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains(sentence), "{said}");
        assert!(
            !said.contains("probes attached"),
            "refused before anything is touched: {said}"
        );
    };
    refused(&[one, other], &[], "2 sockets were passed");
    refused(
        &[one],
        &["--listen", "127.0.0.1:1"],
        "--listen (CLOSEWATCH_LISTEN) says 127.0.0.1:1",
    );
}

fn anywhere() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

fn free() -> SocketAddr {
    TcpListener::bind(anywhere()).unwrap().local_addr().unwrap()
}

/// The answer to a request that starts the daemon first; empty when it ends instead.
fn ask(listen: SocketAddr) -> String {
    let mut stream = TcpStream::connect(listen).unwrap();
    let patience = Duration::from_secs(30);
    stream.set_read_timeout(Some(patience)).unwrap();
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {listen}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut response = String::new();
    match stream.read_to_string(&mut response) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
        _ => response,
    }
}

/// systemd's own: listens, waits for a connection, and becomes the daemon. With the lines of its log.
fn activate(
    sandbox: &Sandbox,
    listen: &[SocketAddr],
    flags: &[&str],
) -> (Child, Lines<BufReader<ChildStderr>>) {
    let mut command = Command::new("systemd-socket-activate");
    for address in listen {
        command.arg(format!("--listen={address}"));
    }
    let mut child = command
        .args([BINARY, "run", "--log-format", "json", "--cgroup"])
        .arg(sandbox.cgroup_directory())
        .args(flags)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    for _ in listen {
        let line = log.next().unwrap().unwrap();
        assert!(line.contains("Listening on"), "{line}");
    }
    (child, log)
}
