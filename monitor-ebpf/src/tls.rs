//! Recognises the beginning of TLS (RFC 8446 sections 4 and 5.1), which hides what follows.
//!
//! In: the first bytes that an end ever sent. Out: whether they are its Hello, and so which role it plays. And
//! the first bytes of any record: by what it is told from all others.

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

/// Bytes of a record that make its [`fingerprint`]: its header, and what is behind it.
pub const FINGERPRINT_AT: u32 = 5;
/// Bytes from the record's first to the last of its fingerprint.
pub const MARKED: u32 = FINGERPRINT_AT + 16;

const CHANGE_CIPHER_SPEC: u8 = 20;
const APPLICATION_DATA: u8 = 23;
/// The random of a HelloRetryRequest begins with these (RFC 8446 section 4.1.3): all of them are alike.
const RETRY: [u8; 8] = [0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11];
/// Bytes of a record of TLS 1.3 that holds an alert, or an empty Close frame, without padding: 2, the type and the tag.
const ALERT: [u8; 2] = 19u16.to_be_bytes();

/// Whether bytes begin a record of any version.
#[inline(always)]
#[must_use]
pub fn begins_record(bytes: &[u8; 16]) -> bool {
    bytes[0] >= CHANGE_CIPHER_SPEC && bytes[0] <= APPLICATION_DATA && bytes[1] == MAJOR
}

/// Whether bytes begin a record by which its session can be told: protected data, or a Hello with a random of its
/// own. Other parts of a handshake are the same in many sessions.
#[inline(always)]
#[must_use]
pub fn has_fingerprint(record: &[u8; 24]) -> bool {
    if is_protected(record) {
        return true;
    }
    let (Some(first), Some(random)) = (record.first_chunk(), record[11..].first_chunk()) else {
        return false;
    };
    role_of_hello(first, MARKED).is_some() && *random != RETRY
}

/// Whether a record is of protected data.
#[inline(always)]
#[must_use]
pub fn is_protected(record: &[u8; 24]) -> bool {
    record[0] == APPLICATION_DATA && record[1] == MAJOR
}

/// Whether a record that is whole begins with a Hello that nothing protects: with its own length, and a version.
#[inline(always)]
#[must_use]
pub fn is_hello(record: &[u8; 24]) -> bool {
    let inner = u32::from_be_bytes([0, record[6], record[7], record[8]]);
    let outer = u32::from(u16::from_be_bytes([record[3], record[4]]));
    record[0] == HANDSHAKE
        && record[1] == MAJOR
        && (record[5] == CLIENT_HELLO || record[5] == SERVER_HELLO)
        && inner + u32::from(MESSAGE_HEADER) >= outer
        && record[6] == 0
        && record[9] == MAJOR
}

/// What tells a record from all others on the host: 16 bytes of it.
#[inline(always)]
#[must_use]
pub fn fingerprint(record: &[u8; 24]) -> [u64; 2] {
    let word = |at: usize| {
        let bytes = record[at..].first_chunk();
        bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
    };
    [word(5), word(13)]
}

/// Whether `length` bytes that begin so are one record that is as short as an alert.
#[inline(always)]
#[must_use]
pub fn is_alert(bytes: &[u8; 16], length: u32) -> bool {
    const ALERT_RECORD: u8 = 21;
    bytes[1] == MAJOR
        && (bytes[0] == ALERT_RECORD
            || (bytes[0] == APPLICATION_DATA
                && length == FINGERPRINT_AT + 19
                && [bytes[3], bytes[4]] == ALERT))
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

    /// A record of this kind, with what follows its header.
    fn record(kind: u8, body: &[u8]) -> [u8; 24] {
        let mut record = [0; 24];
        record[..5].copy_from_slice(&[kind, MAJOR, 3, 0, 200]);
        record[5..5 + body.len()].copy_from_slice(body);
        record
    }

    #[test]
    fn data_and_hellos_have_fingerprints() {
        let body: Vec<u8> = (1..=19).collect();
        assert!(has_fingerprint(&record(APPLICATION_DATA, &body)));
        let hello = [&[CLIENT_HELLO, 0, 0, 196, 3, 3][..], &body[..13]].concat();
        assert!(has_fingerprint(&record(HANDSHAKE, &hello)));
        let retry = [&[SERVER_HELLO, 0, 0, 196, 3, 3][..], &RETRY, &body[..5]].concat();
        assert!(
            !has_fingerprint(&record(HANDSHAKE, &retry)),
            "all are alike"
        );
        let certificate = [&[11, 0, 0, 196][..], &body[..15]].concat();
        assert!(!has_fingerprint(&record(HANDSHAKE, &certificate)));
        assert!(!has_fingerprint(&record(CHANGE_CIPHER_SPEC, &body)));
    }

    #[test]
    fn a_fingerprint_is_what_stands_behind_the_header() {
        let body: Vec<u8> = (1..=19).collect();
        let whole = fingerprint(&record(APPLICATION_DATA, &body));
        let mut other = body.clone();
        other[15] = 0;
        assert_ne!(fingerprint(&record(APPLICATION_DATA, &other)), whole);
        // Bytes that may not have been read.
        other = body.clone();
        other[16] = 0;
        assert_eq!(fingerprint(&record(APPLICATION_DATA, &other)), whole);
    }

    #[test]
    fn a_hello_that_is_protected_is_none() {
        let plain = [CLIENT_HELLO, 0, 0, 196, 3, 3];
        assert!(is_hello(&record(HANDSHAKE, &plain)));
        assert!(is_hello(&record(
            HANDSHAKE,
            &[SERVER_HELLO, 0, 0, 196, 3, 3]
        )));
        for protected in [
            [CLIENT_HELLO, 7, 0, 196, 3, 3],
            [CLIENT_HELLO, 0, 0, 1, 3, 3],
            [CLIENT_HELLO, 0, 0, 196, 9, 3],
            [20, 0, 0, 196, 3, 3],
        ] {
            assert!(!is_hello(&record(HANDSHAKE, &protected)), "{protected:?}");
        }
        assert!(!is_hello(&record(APPLICATION_DATA, &plain)));
    }

    #[test]
    fn one_record_as_short_as_an_alert() {
        let first = |kind, length: u16| {
            let mut first = [0; 16];
            let [high, low] = length.to_be_bytes();
            first[..5].copy_from_slice(&[kind, MAJOR, 3, high, low]);
            first
        };
        assert!(is_alert(&first(APPLICATION_DATA, 19), 24));
        assert!(!is_alert(&first(APPLICATION_DATA, 19), 48), "two records");
        assert!(!is_alert(&first(APPLICATION_DATA, 21), 26));
        // TLS 1.2 says what it is.
        assert!(is_alert(&first(21, 26), 31));
    }
}
