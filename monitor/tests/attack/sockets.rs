//! Sockets of a kind that openings seldom have: MPTCP, TCP Fast Open, and peers that do not read.

use std::{
    fs,
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    thread,
    time::Duration,
};

use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    attacker::{Attacker, PORT},
    connection::{Both, SERVER_CLOSE, host, request},
    sandbox::{Sandbox, ip},
    scene::Scene,
    turn,
};

/// How long a peer reads nothing.
const DEAF: Duration = Duration::from_millis(400);
/// More than a peer's receive buffer holds.
const QUEUED_FRAMES: usize = 1_000;

/// The address of the one server here, on a port of its own.
fn server(port: u16) -> SocketAddr {
    (Ipv4Addr::new(127, 16, 0, 1), port + 50).into()
}

fn listener(at: SocketAddr, protocol: Option<Protocol>) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, protocol)?;
    socket.set_reuse_address(true)?;
    socket.bind(&at.into())?;
    socket.listen(16)?;
    Ok(socket.into())
}

/// A WebSocket whose two ends are MPTCP's.
pub(crate) fn mptcp(port: u16) -> io::Result<()> {
    let protocol = Some(Protocol::MPTCP);
    let listener = listener(server(port), protocol)?;
    let client = Socket::new(Domain::IPV4, Type::STREAM, protocol)?;
    client.connect(&server(port).into())?;
    let (server, _) = listener.accept()?;
    let mut both = Both::of(0, client.into(), server);
    both.ask()?;
    both.answer()?;
    both.end()
}

/// A WebSocket whose request comes with the SYN.
pub(crate) fn fast_open(port: u16) -> io::Result<()> {
    let listener = listener(server(port), None)?;
    let client = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    let on: libc::c_int = 1;
    // SAFETY: an integer goes in, of which the kernel is told the length.
    let refused = unsafe {
        libc::setsockopt(
            client.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_FASTOPEN_CONNECT,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if refused != 0 {
        return Err(io::Error::last_os_error());
    }
    // Returns at once; the SYN goes with the first bytes.
    client.connect(&server(port).into())?;
    let mut client: TcpStream = client.into();
    client.write_all(&request(0, host(0).as_bytes(), b"attack/1"))?;
    let (server, _) = listener.accept()?;
    let mut both = Both::of(0, client, server);
    both.take_request()?;
    both.answer()?;
    both.end()
}

/// The server's Close frame waits behind what its client does not read for a while, and then does; or never
/// does and goes away.
pub(crate) fn deaf(port: u16, reads_at_last: bool) -> io::Result<()> {
    let listener = listener(server(port), None)?;
    let client = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    client.set_recv_buffer_size(4096)?;
    client.connect(&server(port).into())?;
    let (server, _) = listener.accept()?;
    let socket = Socket::from(server);
    socket.set_send_buffer_size(4 << 20)?;
    let mut both = Both::of(3, client.into(), socket.into());
    both.ask()?;
    both.answer()?;
    let mut frame = vec![0; 1004];
    frame[..4].copy_from_slice(&[0x82, 126, 0x03, 0xe8]);
    for _ in 0..QUEUED_FRAMES {
        both.server.write_all(&frame)?;
    }
    if reads_at_last {
        let client = both.client.try_clone()?;
        let reader = thread::spawn(move || {
            thread::sleep(DEAF);
            io::copy(&mut &client, &mut io::sink())
        });
        both.server.write_all(&SERVER_CLOSE)?;
        drop(both.server);
        let received = reader.join().unwrap()?;
        assert_eq!(
            received as usize,
            QUEUED_FRAMES * frame.len() + SERVER_CLOSE.len()
        );
        return Ok(());
    }
    both.server.write_all(&SERVER_CLOSE)?;
    thread::sleep(DEAF);
    drop(both.client);
    // Until the RST is there.
    while socket2::SockRef::from(&both.server).take_error()?.is_none() {
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// What is seen of MPTCP: its one subflow, as TCP.
#[test]
#[ignore = "needs root"]
fn mptcp_of_one_subflow_is_followed() {
    let _turn = turn();
    let scene = Scene::new();
    let mut attacker = scene.attacker(PORT);
    attacker.does("mptcp");
    scene.await_records(2);
    for record in scene.records() {
        assert_eq!(record["outcome"], "clean", "{record}");
        assert_eq!(record["path"], "/0", "{record}");
    }
    assert_eq!(scene.daemon.losses(), Vec::<String>::new());
    assert_eq!(statistic(&attacker, "MPCapableSYNRX"), 1);
}

#[test]
#[ignore = "needs root"]
fn a_request_in_the_syn_is_followed() {
    let _turn = turn();
    let sandbox = Sandbox::new(1);
    let sysctl = ["sysctl", "-qw", "net.ipv4.tcp_fastopen=0x607"];
    let scene = Scene::of(sandbox);
    ip(&[&["netns", "exec", scene.sandbox.namespace(0)][..], &sysctl].concat());
    let mut attacker = Attacker::start(&scene.sandbox, PORT);
    attacker.does("fast-open");
    scene.await_records(2);
    for record in scene.records() {
        assert_eq!(record["outcome"], "clean", "{record}");
        assert_eq!(record["path"], "/0", "{record}");
        assert_eq!(record["frames_sent"], 1, "{record}");
        assert_eq!(record["frames_received"], 1, "{record}");
    }
    assert_eq!(scene.daemon.losses(), Vec::<String>::new());
    for counter in ["TCPFastOpenActive", "TCPFastOpenPassive"] {
        assert_eq!(statistic(&attacker, counter), 1, "{counter}");
    }
}

/// What the kernel counts in the attacker's namespace. In pairs of lines: names, and numbers.
fn statistic(attacker: &Attacker, name: &str) -> u64 {
    let statistics = fs::read_to_string(format!("/proc/{}/net/netstat", attacker.pid())).unwrap();
    let mut lines = statistics.lines();
    while let (Some(names), Some(numbers)) = (lines.next(), lines.next()) {
        let mut both = names.split(' ').zip(numbers.split(' '));
        if let Some((_, number)) = both.find(|(other, _)| *other == name) {
            return number.parse().unwrap();
        }
    }
    panic!("the kernel does not count {name}");
}

/// A Close frame has the time at which it passed, not that at which it was written; one that never passed is
/// none.
#[test]
#[ignore = "needs root"]
fn a_close_frame_behind_a_closed_window_is_timed_when_it_passes() {
    let _turn = turn();
    let scene = Scene::new();
    let mut attacker = scene.attacker(PORT);
    attacker.does("deaf-for-a-while");
    scene.await_records(2);
    for record in scene.records() {
        assert_eq!(record["outcome"], "server_early", "{record}");
        let waited = seconds(&record["server_close"]["time"]) - seconds(&record["opened_at"]);
        let waited = waited.rem_euclid(86_400.0);
        assert!(waited >= DEAF.as_secs_f64(), "{waited} s: {record}");
    }
    attacker.does("deaf");
    scene.await_records(4);
    for record in &scene.records()[2..] {
        assert_eq!(record["outcome"], "abnormal", "{record}");
        assert_eq!(record["server_close"], Value::Null, "{record}");
        assert!(record["client_rst"].is_string(), "{record}");
    }
    assert_eq!(scene.daemon.losses(), Vec::<String>::new());
}

/// The seconds of the day, in RFC 3339.
fn seconds(time: &Value) -> f64 {
    let (_, time) = time.as_str().unwrap().split_once('T').unwrap();
    let parts = time.trim_end_matches('Z').split(':');
    parts.fold(0.0, |sum, part| sum * 60.0 + part.parse::<f64>().unwrap())
}
