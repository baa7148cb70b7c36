//! Captured TLS connections and the clients' key log → the same connections with the bytes that TLS carried.

use ring::aead::{CHACHA20_POLY1305, NONCE_LEN};

use crate::{
    cipher::{Cipher, HANDSHAKE, Opener, records},
    keys::{KeyLog, Suite},
    tcp::Connection,
};

const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const SUPPORTED_VERSIONS: u16 = 43;
const TLS_1_3: [u8; 2] = [3, 4];
/// The random of a ServerHello that is a HelloRetryRequest (RFC 8446 section 4.1.3): its first bytes.
const RETRY: [u8; 4] = [0xcf, 0x21, 0xad, 0x74];

/// Which connections speak TLS from their first byte on, and what they carry; others stay as they are.
pub(crate) fn decrypt(connections: Vec<Connection>, keys: &KeyLog) -> Vec<Connection> {
    let mut plain = Vec::new();
    for connection in connections {
        plain.push(match openers(&connection, keys) {
            Some(openers) => opened(connection, openers),
            None => connection,
        });
    }
    plain
}

fn opened(connection: Connection, [by_client, by_server]: [Opener; 2]) -> Connection {
    let (client, server) = (connection.sent_by_client, connection.sent_by_server);
    let (from_client, from_server) = (by_client.read(&client.bytes), by_server.read(&server.bytes));
    Connection {
        sent_by_client: client.decrypted(from_client.0, from_client.1),
        sent_by_server: server.decrypted(from_server.0, from_server.1),
        client: connection.client,
        server: connection.server,
    }
}

/// None where the handshake did not come to keys.
fn openers(connection: &Connection, keys: &KeyLog) -> Option<[Opener; 2]> {
    let client = Hello::first(&connection.sent_by_client.bytes, CLIENT_HELLO)?;
    let server = Hello::first(&connection.sent_by_server.bytes, SERVER_HELLO)?;
    let suite = Suite::new(server.suite);
    if server.later {
        let secret = |label| keys.get(label, &client.random);
        return Some([
            Opener::later(suite, secret("CLIENT_TRAFFIC_SECRET_0")?),
            Opener::later(suite, secret("SERVER_TRAFFIC_SECRET_0")?),
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
