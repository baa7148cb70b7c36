//! What the record tells of the opening handshake.
//!
//! In: the two heads as the kernel side let them through, perhaps cut at its bound. Out: the few
//! fields of an [`Opening`], each bounded, and why something is missing. Nothing else of a head goes
//! further: no cookie, no token, no query.

use httparse::{EMPTY_HEADER, Header, Request, Response};
use monitor_ebpf::{event::Heads, proxy};
use serde::{Deserialize, Serialize};

/// Bytes of a field at most.
const FIELD_MAX: usize = 256;
/// Headers in a head at most.
const HEADERS_MAX: usize = 128;

/// What the opening handshake said. A field that was not sent or not understood is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Opening {
    /// The request's `Host`.
    pub(crate) host: Option<String>,
    /// The request target without its query.
    pub(crate) path: Option<String>,
    /// The request's `User-Agent`.
    pub(crate) user_agent: Option<String>,
    /// The response's `Sec-WebSocket-Protocol`: what the server chose.
    pub(crate) subprotocol: Option<String>,
    /// The response's `Server`.
    pub(crate) server_software: Option<String>,
}

/// Why (a part of) a head is missing from the [`Opening`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unparsed {
    /// The kernel side did not see it whole and in order.
    Unseen,
    /// It was longer than the kernel side's bound; what came before was understood.
    Cut,
    /// It is no HTTP/1 head.
    Malformed,
}

impl Unparsed {
    pub(crate) const ALL: [Self; 3] = [Self::Unseen, Self::Cut, Self::Malformed];

    /// The word for labels.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unseen => "unseen",
            Self::Cut => "cut",
            Self::Malformed => "malformed",
        }
    }
}

/// What is missing of each head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) request: Option<Unparsed>,
    pub(crate) response: Option<Unparsed>,
}

/// Reads both heads.
pub(crate) fn read(heads: Heads<'_>) -> (Opening, Missing) {
    let mut opening = Opening::default();
    let missing = Missing {
        request: read_request(heads.request, &mut opening).err(),
        response: read_response(heads.response, &mut opening).err(),
    };
    (opening, missing)
}

fn read_request(bytes: &[u8], opening: &mut Opening) -> Result<(), Unparsed> {
    let bytes = proxy::behind(bytes).unwrap_or(bytes);
    let (head, whole) = full_lines(bytes)?;
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut request = Request::new(&mut headers);
    request.parse(&head).map_err(|_| Unparsed::Malformed)?;

    opening.path = request
        .path
        .and_then(|target| target.split(['?', '#']).next())
        .map(|target| bounded(path_of(target).as_bytes()));
    opening.host = field(request.headers, "host");
    opening.user_agent = field(request.headers, "user-agent");
    if whole { Ok(()) } else { Err(Unparsed::Cut) }
}

/// The path of a request target in absolute form (RFC 9112 section 3.2.2) too, without the authority,
/// in which there may be a password.
fn path_of(target: &str) -> &str {
    match target.split_once("://") {
        Some((scheme, rest)) if scheme.bytes().all(is_of_a_scheme) => {
            rest.find('/').map_or("/", |slash| &rest[slash..])
        }
        _ => target,
    }
}

/// RFC 3986 section 3.1.
fn is_of_a_scheme(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')
}

fn read_response(bytes: &[u8], opening: &mut Opening) -> Result<(), Unparsed> {
    let (head, whole) = full_lines(bytes)?;
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut response = Response::new(&mut headers);
    response.parse(&head).map_err(|_| Unparsed::Malformed)?;

    opening.subprotocol = field(response.headers, "sec-websocket-protocol");
    opening.server_software = field(response.headers, "server");
    if whole { Ok(()) } else { Err(Unparsed::Cut) }
}

/// The head if it is whole; else its full lines, closed by an empty one so that they parse.
fn full_lines(bytes: &[u8]) -> Result<(Vec<u8>, bool), Unparsed> {
    if bytes.is_empty() {
        return Err(Unparsed::Unseen);
    }
    if let Some(end) = end_of_head(bytes) {
        return Ok((bytes[..end].to_vec(), true));
    }
    let end = bytes
        .iter()
        .rposition(|byte| *byte == b'\n')
        .ok_or(Unparsed::Cut)?;
    let mut head = bytes[..=end].to_vec();
    head.extend_from_slice(b"\r\n");
    Ok((head, false))
}

/// Where a head ends: after an empty line. LF ends a line with or without a CR (RFC 9112 section 2.2).
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let mut after = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        after += line.len();
        if line == b"\r\n" || line == b"\n" {
            return Some(after);
        }
    }
    None
}

fn field(headers: &[Header<'_>], name: &str) -> Option<String> {
    let header = headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case(name))?;
    Some(bounded(header.value))
}

/// Text that a peer controls, made harmless: short, valid UTF-8, no control characters.
fn bounded(bytes: &[u8]) -> String {
    let short = &bytes[..bytes.len().min(FIELD_MAX)];
    let mut text: String = String::from_utf8_lossy(short)
        .chars()
        .map(|char| {
            if char.is_control() {
                char::REPLACEMENT_CHARACTER
            } else {
                char
            }
        })
        .collect();
    while text.len() > FIELD_MAX {
        text.pop();
    }
    text
}

#[cfg(test)]
mod tests {
    use monitor_ebpf::event::REQUEST_HEAD_MAX;
    use proptest::prelude::{any, prop_assert, proptest};

    use super::*;

    const REQUEST: &str = "GET /live?token=secret HTTP/1.1\r\nHOST: chat.example.com\r\n\
        Upgrade: websocket\r\nUser-Agent: Python/3.11 websockets/15.0\r\n\r\n";
    const RESPONSE: &str = "HTTP/1.1 101 Switching Protocols\r\nServer: nginx\r\n\
        Sec-WebSocket-Protocol: chat\r\n\r\n\u{1}\u{2}frames";

    #[test]
    fn whole_heads_give_every_field() {
        let (opening, missing) = read_text(REQUEST, RESPONSE);
        let expected = Opening {
            host: Some("chat.example.com".into()),
            path: Some("/live".into()),
            user_agent: Some("Python/3.11 websockets/15.0".into()),
            subprotocol: Some("chat".into()),
            server_software: Some("nginx".into()),
        };
        assert_eq!((opening, missing), (expected, Missing::default()));
    }

    #[test]
    fn request_behind_the_header_of_a_proxy() {
        for proxy in [
            "PROXY TCP4 192.0.2.1 192.0.2.2 40000 80\r\n",
            "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\0\0\0\0\0\0\0\0\0\0\0\0",
        ] {
            let (opening, missing) = read_text(&format!("{proxy}{REQUEST}"), "");
            assert_eq!(opening.host.as_deref(), Some("chat.example.com"));
            assert_eq!(missing.request, None);
        }
    }

    #[test]
    fn cut_head_gives_its_full_lines() {
        let long = format!(
            "GET / HTTP/1.1\r\nHost: a\r\nCookie: {}",
            "x".repeat(REQUEST_HEAD_MAX)
        );
        let (opening, missing) = read_text(&long[..REQUEST_HEAD_MAX], RESPONSE);
        assert_eq!(opening.host.as_deref(), Some("a"));
        assert_eq!(missing.request, Some(Unparsed::Cut));
        let (opening, missing) = read_text(&format!("GET /{}", "x".repeat(REQUEST_HEAD_MAX)), "");
        assert_eq!(opening, Opening::default());
        assert_eq!(
            missing,
            Missing {
                request: Some(Unparsed::Cut),
                response: Some(Unparsed::Unseen)
            }
        );
    }

    #[test]
    fn what_is_no_head_gives_nothing() {
        let (opening, missing) = read_text("GET\r\n\r\n", "SSH-2.0\r\n\r\n");
        assert_eq!(opening, Opening::default());
        let malformed = Some(Unparsed::Malformed);
        assert_eq!(
            missing,
            Missing {
                request: malformed,
                response: malformed
            }
        );
    }

    #[test]
    fn fields_are_bounded_text() {
        let request = [
            b"GET / HTTP/1.1\r\nHost: \xff\xfe\xc2\x85".as_slice(),
            &[0xff; 999],
            b"\r\n\r\n",
        ]
        .concat();
        let (opening, _) = read(Heads {
            request: &request,
            response: b"",
        });
        let host = opening.host.unwrap();
        assert!(
            host.len() <= FIELD_MAX && !host.chars().any(char::is_control),
            "{host:?}"
        );
    }

    #[test]
    fn lines_may_end_with_lf_alone() {
        let bare = |text: &str| text.replace('\r', "");
        let expected = read_text(REQUEST, RESPONSE);
        assert_eq!(read_text(&bare(REQUEST), &bare(RESPONSE)), expected);
        let mixed = RESPONSE.replacen("\r\n\r\n", "\r\n\n", 1);
        assert_eq!(read_text(REQUEST, &mixed), expected);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(request: Vec<u8>, response: Vec<u8>, cut in any::<usize>()) {
            read(Heads { request: &request, response: &response });
            let request = &REQUEST.as_bytes()[..cut % REQUEST.len()];
            let (opening, _) = read(Heads { request, response: &response });
            prop_assert!(opening.host.is_none_or(|host| host == "chat.example.com"));
        }
    }

    fn read_text(request: &str, response: &str) -> (Opening, Missing) {
        read(Heads {
            request: request.as_bytes(),
            response: response.as_bytes(),
        })
    }
}
