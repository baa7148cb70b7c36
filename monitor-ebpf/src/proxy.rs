//! The header of the PROXY protocol, in which a load balancer says whom it speaks for: in front of the first request, and
//! mostly in one segment with it.
//!
//! In: the first bytes of a stream. Out: how long the header is. Never: what it says.

/// How the header begins in its first version; a line.
pub const TEXT: [u8; 6] = *b"PROXY ";

/// The longest such line, with what ends it.
pub const TEXT_MAX: u32 = 107;

/// How the header begins in its second version.
pub const BINARY: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes of that up to the two, the last of these, that say how many follow.
pub const BINARY_FIXED: u32 = 16;

/// The length of a header of the second version.
#[inline(always)]
#[must_use]
pub fn binary_length(fixed: &[u8; BINARY_FIXED as usize]) -> u32 {
    BINARY_FIXED + u32::from(u16::from_be_bytes([fixed[14], fixed[15]]))
}

/// What follows the header, if one is there.
#[must_use]
pub fn behind(bytes: &[u8]) -> Option<&[u8]> {
    if bytes.starts_with(&BINARY) {
        let fixed = bytes.first_chunk()?;
        return bytes.get(binary_length(fixed) as usize..);
    }
    if !bytes.starts_with(&TEXT) {
        return None;
    }
    let line = bytes.iter().take(TEXT_MAX as usize);
    let end = line.clone().position(|byte| *byte == b'\n')?;
    bytes.get(end + 1..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_either_version() {
        let text = b"PROXY TCP4 192.0.2.1 192.0.2.2 40000 80\r\nGET / HTTP/1.1";
        assert_eq!(behind(text), Some(b"GET / HTTP/1.1".as_slice()));
        let mut binary = BINARY.to_vec();
        binary.extend(b"\x21\x11\x00\x0c");
        binary.extend([b'\n'; 12]);
        assert_eq!(behind(&binary), Some(b"".as_slice()));
        binary.extend(b"GET");
        assert_eq!(behind(&binary), Some(b"GET".as_slice()));
        for length in 0..28 {
            assert_eq!(behind(&binary[..length]), None, "{length} bytes");
        }
    }

    #[test]
    fn no_header() {
        assert_eq!(behind(b"GET / HTTP/1.1\r\n"), None);
        assert_eq!(behind(b"PROXY"), None);
        let long = [b"PROXY ".as_slice(), &[b' '; 101], b"\nGET"].concat();
        assert_eq!(behind(&long), None);
    }
}
