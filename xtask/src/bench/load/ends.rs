//! Both ends of a connection on loopback, and the bytes of WebSocket frames.

use std::{
    io::{ErrorKind, Read, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
};

use anyhow::{Result, ensure};
use socket2::{Domain, Socket, Type};

/// tshark takes it for HTTP, and looks for WebSockets in it.
pub(super) const PORT: u16 = 8080;
/// What a socket may hold, so that whole messages fit.
const BUFFER: usize = 4 << 20;

pub(super) const REQUEST: &[u8] = b"GET /bench HTTP/1.1\r\nHost: bench.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nUser-Agent: closewatch-bench\r\n\r\n";
pub(super) const RESPONSE: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

pub(super) struct Ends {
    pub(super) client: TcpStream,
    pub(super) server: TcpStream,
}

/// RFC 6455, section 5.2.
#[derive(Clone, Copy)]
pub(super) enum Opcode {
    Binary = 2,
    Close = 8,
}

impl Ends {
    /// From `client`, an address of loopback, by a listener that nobody else uses.
    pub(super) fn connect(listener: &TcpListener, client: Ipv4Addr, buffers: bool) -> Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((client, 0)).into())?;
        socket.connect(&listener.local_addr()?.into())?;
        let ends = Self {
            client: socket.into(),
            server: listener.accept()?.0,
        };
        for end in [&ends.client, &ends.server] {
            end.set_nodelay(true)?;
            if buffers {
                let end = socket2::SockRef::from(end);
                end.set_send_buffer_size(BUFFER)?;
                end.set_recv_buffer_size(BUFFER)?;
            }
        }
        Ok(ends)
    }

    /// The opening handshake.
    pub(super) fn open_websocket(&mut self, buffer: &mut [u8]) -> Result<()> {
        self.client.write_all(REQUEST)?;
        self.server.read_exact(&mut buffer[..REQUEST.len()])?;
        self.server.write_all(RESPONSE)?;
        self.client.read_exact(&mut buffer[..RESPONSE.len()])?;
        Ok(())
    }
}

pub(super) fn listen(port: u16) -> Result<TcpListener> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, port))?)
}

/// Moves bytes from one end to the other, by one thread: neither call waits.
pub(super) fn pass(
    from: &TcpStream,
    to: &TcpStream,
    bytes: &[u8],
    buffer: &mut [u8],
) -> Result<()> {
    let (mut sent, mut received) = (0, 0);
    while received < bytes.len() {
        if sent < bytes.len() {
            sent += ready((&*from).write(&bytes[sent..]))?.unwrap_or(0);
        }
        if let Some(more) = ready((&*to).read(buffer))? {
            ensure!(more > 0, "a connection of the load ended");
            received += more;
        }
    }
    Ok(())
}

fn ready(result: std::io::Result<usize>) -> Result<Option<usize>> {
    match result {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A whole frame; clients mask theirs.
pub(super) fn frame(opcode: Opcode, masked: bool, payload: &[u8]) -> Vec<u8> {
    const KEY: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
    let mask_bit = if masked { 0x80 } else { 0 };
    let mut frame = vec![0x80 | opcode as u8];
    match payload.len() {
        short @ ..=125 => frame.push(mask_bit | short as u8),
        medium @ ..=0xffff => {
            frame.push(mask_bit | 126);
            frame.extend((medium as u16).to_be_bytes());
        }
        long => {
            frame.push(mask_bit | 127);
            frame.extend((long as u64).to_be_bytes());
        }
    }
    if masked {
        frame.extend(KEY);
        frame.extend(
            payload
                .iter()
                .zip(KEY.iter().cycle())
                .map(|(byte, key)| byte ^ key),
        );
    } else {
        frame.extend(payload);
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_the_length_that_they_say() {
        assert_eq!(frame(Opcode::Binary, false, &[3, 232]), [0x82, 2, 3, 232]);
        assert_eq!(frame(Opcode::Binary, true, &[0; 10]).len(), 16);
        assert_eq!(frame(Opcode::Binary, false, &[0; 65_536]).len(), 65_546);
    }
}
