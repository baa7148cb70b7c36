//! The TIME_WAIT entries of one network namespace, asked of the kernel over sock_diag.
//!
//! In: the namespace that the calling thread is in. Out: every entry. Blocks for milliseconds.

use std::{io, net::SocketAddr};

use netlink_packet_core::{
    DecodeError, ErrorBuffer, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer,
    NetlinkMessage, Parseable,
};
use netlink_packet_sock_diag::{
    AF_INET, AF_INET6, IPPROTO_TCP, SockDiagMessage, TCP_TIME_WAIT,
    inet::{ExtensionFlags, InetRequest, InetResponseHeader, SocketId, StateFlags},
};
use netlink_sys::{Socket, SocketAddr as Netlink, protocols::NETLINK_SOCK_DIAG};

/// The kernel fills no more than 32 KiB at a time (`netlink_dump`).
const BUFFER_BYTES: usize = 32 * 1024;

/// What is left of a connection whose local end sent the first FIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    /// That of the socket which it replaced.
    pub(super) cookie: u64,
}

/// Calls `visit` with every TIME_WAIT entry, IPv4 and IPv6.
///
/// # Errors
///
/// When the kernel refuses: `NotFound` where it lacks inet_diag.
pub(super) fn list(mut visit: impl FnMut(Entry)) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    for family in [AF_INET, AF_INET6] {
        let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
        socket.bind_auto()?;
        // From now on nobody but the kernel is heard.
        socket.connect(&Netlink::new(0, 0))?;
        socket.send(&request(family), 0)?;
        loop {
            let size = socket.recv(&mut &mut buffer[..], 0)?;
            if read(&buffer[..size], &mut visit)? {
                break;
            }
        }
    }
    Ok(())
}

/// Asks for TIME_WAIT alone. The kernel compares that with the substate of what outlives a socket, so a
/// FIN_WAIT2 in the same small form is not among the answers (`tcp_diag_dump`).
fn request(family: u8) -> Vec<u8> {
    let inet = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::TIME_WAIT,
        socket_id: if family == AF_INET {
            SocketId::new_v4()
        } else {
            SocketId::new_v6()
        },
    };
    let mut message = NetlinkMessage::from(SockDiagMessage::InetRequest(inet));
    message.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// Reads what one receive gave. Returns whether it was the last. Attributes are skipped: nothing is
/// needed of them, and kernels add new ones.
fn read(mut bytes: &[u8], visit: &mut impl FnMut(Entry)) -> io::Result<bool> {
    while !bytes.is_empty() {
        let message = NetlinkBuffer::new_checked(bytes).map_err(malformed)?;
        match message.message_type() {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                let error = ErrorBuffer::new_checked(message.payload()).map_err(malformed)?;
                let code = error.code().map_or(0, |code| code.get());
                return Err(io::Error::from_raw_os_error(-code));
            }
            _ => {
                let header = InetResponseHeader::parse(message.payload()).map_err(malformed)?;
                if header.state == TCP_TIME_WAIT {
                    visit(entry(&header.socket_id));
                }
            }
        }
        let aligned = (message.length() as usize).next_multiple_of(4);
        bytes = bytes.get(aligned..).unwrap_or_default();
    }
    Ok(false)
}

fn entry(id: &SocketId) -> Entry {
    // IPv4 by way of an IPv6 socket is IPv4, as everywhere here.
    let address = |ip: std::net::IpAddr, port| SocketAddr::new(ip.to_canonical(), port);
    Entry {
        local: address(id.source_address, id.source_port),
        remote: address(id.destination_address, id.destination_port),
        cookie: u64::from_ne_bytes(id.cookie),
    }
}

fn malformed(error: DecodeError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn closed_connection_is_listed_and_a_half_closed_one_is_not() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                continue; // A host without IPv6.
            };
            let server = listener.local_addr().unwrap();
            let connect = || {
                (
                    TcpStream::connect(server).unwrap(),
                    listener.accept().unwrap().0,
                )
            };
            let (client, accepted) = connect();
            let local = client.local_addr().unwrap();
            drop(client);
            // Waits for the FIN, so that the client's was the first.
            io::copy(&mut &accepted, &mut io::sink()).unwrap();
            drop(accepted);
            let (client, _half_closed) = connect();
            drop(client);

            let mut entries = Vec::new();
            list(|entry| entries.push(entry)).unwrap();
            entries.retain(|entry| entry.remote == server);
            assert_eq!(entries.len(), 1, "{entries:?}");
            assert_eq!(entries[0].local, local);
        }
    }

    #[test]
    fn answer_that_is_cut_off_is_an_error() {
        let bytes = request(AF_INET);
        assert!(read(&bytes[..20], &mut |_| {}).is_err());
        assert!(read(&bytes[..8], &mut |_| {}).is_err());
    }

    #[test]
    fn refusal_tells_why() {
        // NLMSG_ERROR with -ENOENT, as a kernel without inet_diag answers.
        let mut bytes = [0_u8; 20];
        bytes[0] = 20;
        bytes[4] = NLMSG_ERROR as u8;
        bytes[16..].copy_from_slice(&(-libc::ENOENT).to_ne_bytes());
        let error = read(&bytes, &mut |_| {}).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
