//! Recognises the beginning of TLS (RFC 8446 sections 4 and 5.1), which hides what follows.
//!
//! In: the first bytes that an end ever sent. Out: whether they are its Hello, and so which role it plays.

use crate::event::Role;

/// `ContentType`, the same in all versions.
const HANDSHAKE: u8 = 22;
/// The first byte of `ProtocolVersion`, from SSL 3.0 to TLS 1.3.
const MAJOR: u8 = 3;
/// The most that a record of plaintext holds, in bytes.
const PLAINTEXT_MAX: u16 = 1 << 14;
/// A handshake message's type and length, in bytes.
const MESSAGE_HEADER: u16 = 4;

// `HandshakeType`.
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;

/// The role in TLS of an end whose first bytes these are, of which there are `length`; none when they begin no Hello.
#[inline(always)]
#[must_use]
pub fn role_of_hello(bytes: &[u8; 16], length: u32) -> Option<Role> {
    let [kind, major, _, high, low, message, ..] = *bytes;
    let record = u16::from_be_bytes([high, low]);
    if length < 6 || kind != HANDSHAKE || major != MAJOR {
        return None;
    }
    if !(MESSAGE_HEADER..=PLAINTEXT_MAX).contains(&record) {
        return None;
    }
    match message {
        CLIENT_HELLO => Some(Role::Client),
        SERVER_HELLO => Some(Role::Server),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(bytes: &[u8]) -> Option<Role> {
        let mut first = [0; 16];
        first[..bytes.len()].copy_from_slice(bytes);
        role_of_hello(&first, bytes.len() as u32)
    }

    #[test]
    fn hellos_of_all_versions() {
        for minor in 0..=4 {
            assert_eq!(role(&[22, 3, minor, 1, 0x2c, 1, 0]), Some(Role::Client));
            assert_eq!(role(&[22, 3, minor, 0, 0x7a, 2, 0]), Some(Role::Server));
        }
    }

    #[test]
    fn everything_else() {
        for other in [
            &[22, 3, 1, 1, 0x2c][..],
            &[23, 3, 3, 1, 0x2c, 1],
            &[22, 2, 0, 1, 0x2c, 1],
            &[22, 3, 1, 0, 3, 1],
            &[22, 3, 1, 0x40, 1, 1],
            &[22, 3, 1, 1, 0x2c, 0],
            &[22, 3, 1, 1, 0x2c, 11],
            b"SSH-2.0-Open",
            b"",
        ] {
            assert_eq!(role(other), None, "{other:?}");
        }
    }
}
