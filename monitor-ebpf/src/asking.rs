//! Which requests ask for a WebSocket: most of a host do not, and of them nothing is to be kept.
//!
//! In: the bytes of a request, piece by piece. Out: whether it may.

/// Bytes of a request in which [`may_name_websocket`] looks in one go.
pub const LOOK: usize = 128;

/// Whether the word `websocket`, in whatever case, may begin in these [`LOOK`] bytes; behind them are the 8 that
/// follow, zeros behind a request's end. A request without it asks for no WebSocket (RFC 6455 section 4.1).
///
/// Looks for its letters `ebs`, which few other words have, eight places at a time: a browser says `WebKit` in every
/// request, and `Upgrade` in many.
#[inline(always)]
#[must_use]
pub fn may_name_websocket(words: &[u64; LOOK / 8 + 1]) -> bool {
    const EACH: u64 = u64::MAX / 0xff;
    const CASE: u64 = 0x20 * EACH;
    const E: u64 = b'e' as u64 * EACH;
    const B: u64 = b'b' as u64 * EACH;
    const S: u64 = b's' as u64 * EACH;
    let mut found = 0;
    for at in 0..LOOK / 8 {
        let (word, next) = (u64::from_le(words[at]), u64::from_le(words[at + 1]));
        let second = word >> 8 | next << 56;
        let third = word >> 16 | next << 48;
        let differs = ((word ^ E) | (second ^ B) | (third ^ S)) & !CASE;
        // The highest bit of the lowest byte that is zero, if there is one.
        found |= differs.wrapping_sub(EACH) & !differs & (0x80 * EACH);
    }
    found != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks through a request as the kernel side does.
    fn may_ask(request: &[u8]) -> bool {
        (0..request.len()).step_by(LOOK).any(|from| {
            let mut bytes = [0; LOOK + 8];
            let there = (request.len() - from).min(bytes.len());
            bytes[..there].copy_from_slice(&request[from..from + there]);
            may_name_websocket(&zerocopy::transmute!(bytes))
        })
    }

    #[test]
    fn a_request_names_websocket_at_any_place_and_in_any_case() {
        for word in ["websocket", "WebSocket", "WEBSOCKET"] {
            for before in 0..3 * LOOK {
                for behind in [0, 4, 300] {
                    let [before, behind] = [before, behind].map(|count| "x".repeat(count));
                    let request = format!("{before}{word}{behind}");
                    assert!(may_ask(request.as_bytes()), "{request}");
                }
            }
        }
    }

    #[test]
    fn what_browsers_ask_for_names_none() {
        let page = b"GET /a/page?of=this HTTP/1.1\r\nHost: www.example.com\r\nConnection: keep-alive\r\n\
            Upgrade-Insecure-Requests: 1\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36\r\n\r\n";
        assert!(!may_ask(page));
    }
}
