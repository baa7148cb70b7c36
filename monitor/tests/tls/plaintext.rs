//! Captured TLS connections and the clients' key log → the same connections with the bytes that TLS carried.

use ring::aead::{CHACHA20_POLY1305, NONCE_LEN};

use crate::{
    cipher::{Cipher, HANDSHAKE, Opener, records},
    keys::{KeyLog, Suite},
    tcp::{Connection, Stream},
};

const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const SUPPORTED_VERSIONS: u16 = 43;
const TLS_1_3: [u8; 2] = [3, 4];
/// The random of a ServerHello that is a HelloRetryRequest (RFC 8446 section 4.1.3): its first bytes.
const RETRY: [u8; 4] = [0xcf, 0x21, 0xad, 0x74];

/// Which connections speak TLS, from their first byte on or behind lines of plaintext, and what they carry then; others stay as
/// they are.
pub(crate) fn decrypt(connections: Vec<Connection>, keys: &KeyLog) -> Vec<Connection> {
    let mut plain = Vec::new();
    for connection in connections {
        let begins = [
            begin(&connection.sent_by_client.bytes, CLIENT_HELLO),
            begin(&connection.sent_by_server.bytes, SERVER_HELLO),
        ];
        plain.push(match openers(&connection, begins, keys) {
            Some(openers) => opened(connection, begins, openers),
            None => connection,
        });
    }
    plain
}

/// Where a stream's first record is: behind any lines.
fn begin(bytes: &[u8], kind: u8) -> usize {
    let is_there =
        |&at: &usize| bytes[at..].starts_with(&[HANDSHAKE, 3]) && bytes.get(at + 5) == Some(&kind);
    let behind_lines = (1..bytes.len()).filter(|at| bytes[at - 1] == b'\n');
    behind_lines.take(20).find(is_there).unwrap_or(0)
}

fn opened(
    connection: Connection,
    begins: [usize; 2],
    [by_client, by_server]: [Opener; 2],
) -> Connection {
    let open = |stream: Stream, begin: usize, opener: Opener| {
        let (bytes, mut ends) = opener.read(&stream.bytes[begin..]);
        ends.iter_mut().for_each(|(_, on_wire)| *on_wire += begin);
        stream.decrypted(bytes, ends)
    };
    Connection {
        sent_by_client: open(connection.sent_by_client, begins[0], by_client),
        sent_by_server: open(connection.sent_by_server, begins[1], by_server),
        client: connection.client,
        server: connection.server,
    }
}

/// None where the handshake did not come to keys.
fn openers(connection: &Connection, begins: [usize; 2], keys: &KeyLog) -> Option<[Opener; 2]> {
    let client = Hello::first(&connection.sent_by_client.bytes[begins[0]..], CLIENT_HELLO)?;
    let server = Hello::first(&connection.sent_by_server.bytes[begins[1]..], SERVER_HELLO)?;
    let suite = Suite::new(server.suite);
    if server.later {
        let secret = |label| keys.get(label, &client.random);
        return Some([
            Opener::later(
                suite,
                secret("CLIENT_TRAFFIC_SECRET_0")?,
                secret("CLIENT_EARLY_TRAFFIC_SECRET"),
            ),
            Opener::later(suite, secret("SERVER_TRAFFIC_SECRET_0")?, None),
        ]);
    }
    let secret = keys.get("CLIENT_RANDOM", &client.random)?;
    let key = suite.aead.key_len();
    // AES-GCM takes the rest of the nonce from the record (RFC 5288).
    let iv = if suite.aead == &CHACHA20_POLY1305 {
        NONCE_LEN
    } else {
        4
    };
    let seed = [server.random, client.random].concat();
    let block = suite.prf(secret, "key expansion", &seed, 2 * (key + iv));
    let (of_keys, of_ivs) = block.split_at(2 * key);
    let opener = |index: usize| Opener::Earlier {
        cipher: Cipher::new(
            suite,
            &of_keys[index * key..][..key],
            &of_ivs[index * iv..][..iv],
        ),
        begun: false,
    };
    Some([opener(0), opener(1)])
}

struct Hello {
    random: [u8; 32],
    /// Only a ServerHello's.
    suite: u16,
    /// TLS 1.3.
    later: bool,
}

impl Hello {
    /// The first message of the kind that asks for no other one.
    fn first(bytes: &[u8], kind: u8) -> Option<Hello> {
        let mut messages = Vec::new();
        for record in records(bytes) {
            if record.header[0] == HANDSHAKE {
                messages.extend_from_slice(record.body);
            }
        }
        let mut rest = messages.as_slice();
        loop {
            let [found, a, b, c, after @ ..] = rest else {
                return None;
            };
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            let (body, next) = after.split_at_checked(length)?;
            if *found != kind {
                return None;
            }
            if !body.get(2..)?.starts_with(&RETRY) {
                return Hello::parse(body, kind);
            }
            rest = next;
        }
    }

    fn parse(body: &[u8], kind: u8) -> Option<Hello> {
        let random = *body.get(2..)?.first_chunk()?;
        if kind == CLIENT_HELLO {
            return Some(Hello {
                random,
                suite: 0,
                later: false,
            });
        }
        let session = usize::from(*body.get(34)?);
        let rest = body.get(35 + session..)?;
        let suite = u16::from_be_bytes(*rest.first_chunk()?);
        // Behind the suite: a byte of compression, the length of the extensions.
        let mut extensions = rest.get(5..).unwrap_or_default();
        let mut later = false;
        while let [a, b, c, d, after @ ..] = extensions {
            let (value, next) = after.split_at_checked(u16::from_be_bytes([*c, *d]).into())?;
            later |= u16::from_be_bytes([*a, *b]) == SUPPORTED_VERSIONS && value == TLS_1_3;
            extensions = next;
        }
        Some(Hello {
            random,
            suite,
            later,
        })
    }
}
