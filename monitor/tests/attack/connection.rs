//! One WebSocket, both ends in the caller's hands: opened and ended in as few system calls as there can be.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use socket2::{Domain, Socket, Type};

/// A masked and an unmasked Close frame with code 1000.
const CLIENT_CLOSE: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8];
pub(crate) const SERVER_CLOSE: [u8; 4] = [0x88, 0x02, 0x03, 0xe8];

/// Rather an error than a test that hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a connection ends, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Both Close frames, then the server closes.
    Clean,
    /// The client closes TCP and says nothing.
    Abnormal,
    /// Both Close frames, then the client closes.
    ClientEarly,
    /// The server's Close frame, and it does not wait.
    ServerEarly,
}

impl Ending {
    pub(crate) fn of(number: u32) -> Self {
        match number % 4 {
            0 => Self::Clean,
            1 => Self::Abnormal,
            2 => Self::ClientEarly,
            _ => Self::ServerEarly,
        }
    }

    /// The outcome that its records have.
    pub(crate) fn outcome(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Abnormal => "abnormal",
            Self::ClientEarly => "client_early",
            Self::ServerEarly => "server_early",
        }
    }
}

/// Where the connection of this number goes to, and where it comes from: one in four over IPv6.
pub(crate) fn places(number: u32, port: u16) -> (SocketAddr, SocketAddr) {
    if number % 4 == 3 {
        let address = |end: u16| {
            let [high, low] = [(number >> 16) as u16, number as u16];
            Ipv6Addr::new(0xfd00, 0, 0, 0, 0, end, high, low)
        };
        return ((address(1), port).into(), (address(2), 0).into());
    }
    let address = |net: u8| {
        let [_, b, c, d] = number.to_be_bytes();
        Ipv4Addr::new(127, net.wrapping_add(b & 0x0f), c, d)
    };
    ((address(16), port).into(), (address(64), 0).into())
}

/// The name by which the client of this number calls its server.
pub(crate) fn host(number: u32) -> String {
    format!("host-{number}.test")
}

/// A listener on all addresses of both families.
pub(crate) fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None)?;
    socket.set_only_v6(false)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

pub(crate) fn connect(to: SocketAddr, from: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    if from.is_ipv6() {
        // No interface has it; the route makes it local.
        socket.set_freebind_v6(true)?;
    }
    socket.bind(&from.into())?;
    socket.connect(&to.into())?;
    Ok(socket.into())
}

/// Both ends of one connection.
pub(crate) struct Both {
    number: u32,
    pub(crate) client: TcpStream,
    pub(crate) server: TcpStream,
}

impl Both {
    pub(crate) fn connect(listener: &TcpListener, port: u16, number: u32) -> io::Result<Self> {
        Self::between(listener, places(number, port), number)
    }

    pub(crate) fn between(
        listener: &TcpListener,
        (to, from): (SocketAddr, SocketAddr),
        number: u32,
    ) -> io::Result<Self> {
        let client = connect(to, from)?;
        let (server, _) = listener.accept()?;
        server.set_nodelay(true)?;
        server.set_read_timeout(Some(PATIENCE))?;
        Ok(Self::of(number, client, server))
    }

    /// Two ends that are connected already.
    pub(crate) fn of(number: u32, client: TcpStream, server: TcpStream) -> Self {
        Self {
            number,
            client,
            server,
        }
    }

    /// The request, whole.
    pub(crate) fn ask(&mut self) -> io::Result<()> {
        let host = host(self.number);
        self.ask_for(host.as_bytes(), b"attack/1")
    }

    /// The same in other words.
    pub(crate) fn ask_for(&mut self, host: &[u8], user_agent: &[u8]) -> io::Result<()> {
        self.client
            .write_all(&request(self.number, host, user_agent))?;
        self.take_request()
    }

    /// The server reads the request.
    pub(crate) fn take_request(&mut self) -> io::Result<()> {
        await_head(&mut self.server)
    }

    /// The server's answer, which makes it a WebSocket.
    pub(crate) fn answer(&mut self) -> io::Result<()> {
        self.answer_as(b"attack/1")
    }

    pub(crate) fn answer_as(&mut self, software: &[u8]) -> io::Result<()> {
        let line = b"HTTP/1.1 101 Switching Protocols\r\nServer: ";
        let rest = b"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
        self.server
            .write_all(&[&line[..], software, rest].concat())?;
        await_head(&mut self.client)
    }

    /// The end, as its number wants it.
    pub(crate) fn end(mut self) -> io::Result<()> {
        match Ending::of(self.number) {
            Ending::Clean => {
                self.close_frames()?;
                drop(self.server);
                await_end(self.client)
            }
            Ending::Abnormal => {
                drop(self.client);
                await_end(self.server)
            }
            Ending::ClientEarly => {
                self.close_frames()?;
                drop(self.client);
                await_end(self.server)
            }
            Ending::ServerEarly => {
                self.server.write_all(&SERVER_CLOSE)?;
                drop(self.server);
                await_end(self.client)
            }
        }
    }

    fn close_frames(&mut self) -> io::Result<()> {
        self.client.write_all(&CLIENT_CLOSE)?;
        self.server.read_exact(&mut [0; CLIENT_CLOSE.len()])?;
        self.server.write_all(&SERVER_CLOSE)?;
        self.client.read_exact(&mut [0; SERVER_CLOSE.len()])
    }
}

/// The request of the connection of this number, in other words than [`Both::ask`]'s.
pub(crate) fn request(number: u32, host: &[u8], user_agent: &[u8]) -> Vec<u8> {
    let line = format!("GET /{number} HTTP/1.1\r\nHost: ");
    let rest = b"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    [line.as_bytes(), host, b"\r\nUser-Agent: ", user_agent, rest].concat()
}

/// Reads a head to its end; nothing follows it yet.
fn await_head(end: &mut TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    let mut some = [0; 4096];
    while !head.ends_with(b"\r\n\r\n") {
        let count = end.read(&mut some)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        head.extend(&some[..count]);
    }
    Ok(())
}

/// Reads to the end, so that closing sends no RST.
fn await_end(mut end: TcpStream) -> io::Result<()> {
    while end.read(&mut [0; 512])? > 0 {}
    Ok(())
}
