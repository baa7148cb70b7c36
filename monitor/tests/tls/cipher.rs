//! One direction of a TLS connection: its records opened, in order.

use ring::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::keys::Suite;

pub(crate) const CHANGE_CIPHER_SPEC: u8 = 20;
pub(crate) const HANDSHAKE: u8 = 22;
pub(crate) const APPLICATION_DATA: u8 = 23;
const KEY_UPDATE: u8 = 24;

/// A record as it is on the wire.
#[derive(Clone, Copy)]
pub(crate) struct Record<'a> {
    pub(crate) header: [u8; 5],
    pub(crate) body: &'a [u8],
    /// Where it ends in the stream.
    pub(crate) end: usize,
}

/// The complete records of a stream.
pub(crate) fn records(bytes: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let header: [u8; 5] = *bytes.get(at..)?.first_chunk()?;
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        let body = bytes.get(at + 5..at + 5 + length)?;
        at += 5 + length;
        let end = at;
        Some(Record { header, body, end })
    })
}

pub(crate) enum Opener {
    /// TLS 1.3: under the keys of the application's data, which come after those of the handshake.
    Later {
        suite: Suite,
        secret: Vec<u8>,
        cipher: Cipher,
        /// Under the keys of what is sent with the first Hello.
        early: Option<Box<Cipher>>,
        begun: bool,
    },
    /// TLS 1.2: everything behind the ChangeCipherSpec.
    Earlier { cipher: Cipher, begun: bool },
}

pub(crate) struct Cipher {
    key: LessSafeKey,
    iv: Vec<u8>,
    sequence: u64,
}

impl Cipher {
    pub(crate) fn new(suite: Suite, key: &[u8], iv: &[u8]) -> Cipher {
        Cipher {
            key: LessSafeKey::new(UnboundKey::new(suite.aead, key).unwrap()),
            iv: iv.to_owned(),
            sequence: 0,
        }
    }

    fn of_secret(suite: Suite, secret: &[u8]) -> Cipher {
        let key = suite.expand(secret, "key", suite.aead.key_len());
        Cipher::new(suite, &key, &suite.expand(secret, "iv", NONCE_LEN))
    }

    /// The plaintext, and the sequence number moves on; none, and nothing moves, under other keys.
    fn open(&mut self, aad: &[u8], explicit: &[u8], ciphertext: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [self.iv.as_slice(), explicit].concat();
        if explicit.is_empty() {
            let sequence = self.sequence.to_be_bytes();
            let last = nonce.iter_mut().skip(NONCE_LEN - sequence.len());
            last.zip(sequence).for_each(|(byte, other)| *byte ^= other);
        }
        let nonce = Nonce::try_assume_unique_for_key(&nonce).unwrap();
        let mut text = ciphertext.to_owned();
        let length = self
            .key
            .open_in_place(nonce, Aad::from(aad), &mut text)
            .ok()?
            .len();
        text.truncate(length);
        self.sequence += 1;
        Some(text)
    }
}

impl Opener {
    pub(crate) fn later(suite: Suite, secret: &[u8], early: Option<&[u8]>) -> Opener {
        Opener::Later {
            suite,
            secret: secret.to_owned(),
            cipher: Cipher::of_secret(suite, secret),
            early: early.map(|secret| Box::new(Cipher::of_secret(suite, secret))),
            begun: false,
        }
    }

    /// The application's bytes of the stream, and the end of each record with some of them: among them, on the wire.
    pub(crate) fn read(mut self, bytes: &[u8]) -> (Vec<u8>, Vec<(usize, usize)>) {
        let (mut all, mut ends) = (Vec::new(), Vec::new());
        for record in records(bytes) {
            if let Some((APPLICATION_DATA, text)) = self.open(record) {
                all.extend_from_slice(&text);
                ends.push((all.len(), record.end));
            }
        }
        (all, ends)
    }

    /// What the record holds, and its bytes; none for one of the handshake.
    fn open(&mut self, record: Record<'_>) -> Option<(u8, Vec<u8>)> {
        match self {
            Opener::Later {
                cipher,
                early,
                begun,
                ..
            } => {
                if record.header[0] != APPLICATION_DATA {
                    return None;
                }
                let opened = cipher.open(&record.header, &[], record.body);
                assert!(opened.is_some() || !*begun, "a record does not open");
                *begun |= opened.is_some();
                let early = early.as_mut().filter(|_| !*begun);
                let mut text = opened
                    .or_else(|| early.and_then(|it| it.open(&record.header, &[], record.body)))?;
                let kind = text.iter().rposition(|&byte| byte != 0)?;
                let (kind, _) = (text[kind], text.truncate(kind));
                if kind == HANDSHAKE && text.first() == Some(&KEY_UPDATE) {
                    self.update();
                }
                Some((kind, text))
            }
            Opener::Earlier { cipher, begun } => {
                if !*begun {
                    *begun = record.header[0] == CHANGE_CIPHER_SPEC;
                    return None;
                }
                let explicit = NONCE_LEN - cipher.iv.len();
                let (explicit, body) = record.body.split_at_checked(explicit)?;
                let length = body.len() - cipher.key.algorithm().tag_len();
                let sequence = cipher.sequence.to_be_bytes();
                let length = (length as u16).to_be_bytes();
                let aad = [&sequence[..], &record.header[..3], &length].concat();
                let text = cipher.open(&aad, explicit, body);
                Some((record.header[0], text.expect("a record does not open")))
            }
        }
    }

    /// The next generation of the keys (RFC 8446 section 7.2).
    fn update(&mut self) {
        if let Opener::Later {
            suite,
            secret,
            cipher,
            ..
        } = self
        {
            *secret = suite.expand(secret, "traffic upd", secret.len());
            *cipher = Cipher::of_secret(*suite, secret);
        }
    }
}
