//! A key log, as browsers and OpenSSL write it, and what is made of its secrets: RFC 8446 section 7, RFC 5246
//! sections 5 and 6.3.

use std::collections::HashMap;

use ring::{aead, hkdf, hmac};

/// The secrets of all connections, by label and by the client's random.
#[derive(Debug, Default)]
pub(crate) struct KeyLog(HashMap<(String, Vec<u8>), Vec<u8>>);

impl KeyLog {
    pub(crate) fn parse(text: &str) -> KeyLog {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let entries = lines.filter_map(|line| {
            let mut words = line.split_whitespace();
            let label = words.next()?.to_owned();
            Some(((label, hex(words.next()?)?), hex(words.next()?)?))
        });
        KeyLog(entries.collect())
    }

    pub(crate) fn get(&self, label: &str, random: &[u8]) -> Option<&[u8]> {
        let key = (label.to_owned(), random.to_owned());
        self.0.get(&key).map(Vec::as_slice)
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

/// A cipher suite: what the tests' programs agree on.
#[derive(Clone, Copy)]
pub(crate) struct Suite {
    pub(crate) aead: &'static aead::Algorithm,
    hkdf: hkdf::Algorithm,
    hmac: hmac::Algorithm,
}

impl Suite {
    pub(crate) fn new(number: u16) -> Suite {
        let (aead, long) = match number {
            0x1301 | 0xc02b | 0xc02f => (&aead::AES_128_GCM, false),
            0x1302 | 0xc02c | 0xc030 => (&aead::AES_256_GCM, true),
            0x1303 | 0xcca8 | 0xcca9 => (&aead::CHACHA20_POLY1305, false),
            other => panic!("the witness does not know cipher suite {other:#06x}"),
        };
        let (hkdf, hmac) = if long {
            (hkdf::HKDF_SHA384, hmac::HMAC_SHA384)
        } else {
            (hkdf::HKDF_SHA256, hmac::HMAC_SHA256)
        };
        Suite { aead, hkdf, hmac }
    }

    /// HKDF-Expand-Label without context.
    pub(crate) fn expand(&self, secret: &[u8], label: &str, length: usize) -> Vec<u8> {
        struct Length(usize);
        impl hkdf::KeyType for Length {
            fn len(&self) -> usize {
                self.0
            }
        }
        let label = format!("tls13 {label}");
        let lengths = (
            (length as u16).to_be_bytes(),
            [u8::try_from(label.len()).unwrap()],
        );
        let info = [&lengths.0[..], &lengths.1, label.as_bytes(), &[0]];
        let prk = hkdf::Prk::new_less_safe(self.hkdf, secret);
        let mut out = vec![0; length];
        let expanded = prk.expand(&info, Length(length)).unwrap();
        expanded.fill(&mut out).unwrap();
        out
    }

    /// TLS 1.2's PRF.
    pub(crate) fn prf(&self, secret: &[u8], label: &str, seed: &[u8], length: usize) -> Vec<u8> {
        let key = hmac::Key::new(self.hmac, secret);
        let seed = [label.as_bytes(), seed].concat();
        let mut a = hmac::sign(&key, &seed);
        let mut out = Vec::new();
        while out.len() < length {
            out.extend_from_slice(hmac::sign(&key, &[a.as_ref(), &seed].concat()).as_ref());
            a = hmac::sign(&key, a.as_ref());
        }
        out.truncate(length);
        out
    }
}
