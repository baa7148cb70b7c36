//! Segments that no TCP sent: from addresses of nobody, or of somebody else.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    attacker::PORT,
    connection::Both,
    memory::Watch,
    scene::{Scene, check_records},
    turn,
};

// RFC 9293 section 3.1.
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

const SERVER: Ipv4Addr = Ipv4Addr::new(127, 16, 0, 1);
/// WebSockets that are open while the others flood.
const OPEN: u32 = 200;
const SYNS: u32 = 100_000;
const GUESSES: u32 = 100_000;

type Place = (Ipv4Addr, u16);

/// Segments with a whole request each, from nobody, to the listening port: no handshake, no socket.
pub(crate) fn strays(count: u32, port: u16) -> io::Result<()> {
    let payload = b"GET /stray HTTP/1.1\r\nHost: stray.test\r\nUpgrade: websocket\r\n\r\n";
    let socket = raw()?;
    for number in 0..count {
        send(
            &socket,
            (nobody(number), (SERVER, port)),
            ACK | PSH,
            number,
            payload,
        )?;
    }
    Ok(())
}

/// Beginnings of connections, from nobody, who answers none of the server's answers.
pub(crate) fn syns(count: u32, port: u16) -> io::Result<()> {
    let socket = raw()?;
    for number in 0..count {
        send(&socket, (nobody(number), (SERVER, port)), SYN, number, b"")?;
    }
    Ok(())
}

/// RSTs and FINs for connections that are open, to both of their ends, by somebody who knows addresses and
/// ports and guesses sequence numbers.
pub(crate) fn guesses(count: u32, open: &[Both]) -> io::Result<()> {
    let socket = raw()?;
    let ends: Vec<(Place, Place)> = open
        .iter()
        .map(|both| {
            Ok((
                place(both.client.local_addr()?)?,
                place(both.client.peer_addr()?)?,
            ))
        })
        .collect::<io::Result<_>>()?;
    for (number, (client, server)) in (0..count).zip(ends.iter().cycle()) {
        let sequence = number.wrapping_mul(2_654_435_761);
        let way = if number & 1 == 0 {
            (*client, *server)
        } else {
            (*server, *client)
        };
        let flags = [RST, RST | ACK, FIN | ACK][number as usize % 3];
        send(&socket, way, flags, sequence, b"")?;
    }
    Ok(())
}

fn raw() -> io::Result<Socket> {
    let protocol = Some(Protocol::from(libc::IPPROTO_RAW));
    Socket::new(Domain::IPV4, Type::RAW, protocol)
}

fn nobody(number: u32) -> Place {
    let [_, b, c, d] = number.to_be_bytes();
    (Ipv4Addr::new(127, 128 | b, c, d), 50_000)
}

/// The places that are not IPv4's are no concern here.
fn place(address: SocketAddr) -> io::Result<Place> {
    match address {
        SocketAddr::V4(address) => Ok((*address.ip(), address.port())),
        SocketAddr::V6(_) => Err(io::ErrorKind::AddrNotAvailable.into()),
    }
}

fn send(
    socket: &Socket,
    way: (Place, Place),
    flags: u8,
    sequence: u32,
    payload: &[u8],
) -> io::Result<()> {
    let to = SocketAddr::from((way.1.0, 0));
    let sent = socket.send_to(&segment(way, flags, sequence, payload), &to.into());
    sent.map(drop)
}

fn segment(way: (Place, Place), flags: u8, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let ((from, from_port), (to, to_port)) = way;
    let length = (20 + payload.len()) as u16;
    let mut tcp = Vec::new();
    tcp.extend(from_port.to_be_bytes());
    tcp.extend(to_port.to_be_bytes());
    tcp.extend(sequence.to_be_bytes());
    tcp.extend(1_u32.to_be_bytes());
    // Five words of header; a window; no checksum yet.
    tcp.extend([0x50, flags, 0x01, 0xf4, 0, 0, 0, 0]);
    tcp.extend(payload);
    let pseudo = [
        &from.octets()[..],
        &to.octets(),
        &[0, 6],
        &length.to_be_bytes(),
        &tcp,
    ]
    .concat();
    let sum = checksum(&pseudo);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    let mut packet = vec![0x45, 0];
    packet.extend((20 + length).to_be_bytes());
    packet.extend([0, 1, 0, 0, 64, 6, 0, 0]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(tcp);
    packet
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| {
        let low = pair.get(1).copied().unwrap_or_default();
        u32::from(u16::from_be_bytes([pair[0], low]))
    });
    let mut sum: u32 = words.sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Connections that are begun and never go on cost the daemon nothing, and nobody else his record.
#[test]
#[ignore = "needs root"]
fn floods_of_syns_and_guesses_end_nothing() {
    let _turn = turn();
    let scene = Scene::new();
    let (mut honest, mut attacker) = (scene.attacker(PORT), scene.attacker(PORT + 100));
    honest.does(&format!("visit {OPEN}"));
    let opened = "closewatch_connections_opened_total";
    scene.daemon.await_metric(opened, &[], f64::from(2 * OPEN));
    let watch = Watch::start(scene.daemon.pid());
    let syns = attacker.does(&format!("syns {SYNS}"));
    let guesses = honest.does(&format!("guesses {GUESSES}"));
    eprintln!("{SYNS} SYNs in {syns:?}, {GUESSES} guesses in {guesses:?}");
    assert_eq!(scene.count("closewatch_records_written_total", &[]), 0);
    honest.does("end");
    scene.await_records(2 * u64::from(OPEN));
    let records = scene.records();
    assert_eq!(records.len() as u32, 2 * OPEN);
    check_records(&records, true);
    assert_eq!(scene.daemon.losses(), Vec::<String>::new());
    let grown = watch.settle("SYNs and guesses");
    assert!(
        grown < 8 << 20,
        "{grown} bytes more, of nothing that the daemon is told"
    );
}
