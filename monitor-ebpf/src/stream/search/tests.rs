//! The search, on frames that it is to find and on bytes that it is not.

use super::*;
use crate::model::Piece;

/// The bytes of one frame, whose payload is zeros and whose mask is made up.
fn frame(first: u8, masked: bool, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let bit = if masked { 0x80 } else { 0 };
    match payload.len() {
        length @ 0..=125 => bytes.push(bit | length as u8),
        length @ 126..=0xffff => {
            bytes.push(bit | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(bit | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    let key = if masked { [7, 99, 3, 201] } else { [0; 4] };
    if masked {
        bytes.extend(key);
    }
    bytes.extend(
        payload
            .iter()
            .zip(key.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    bytes
}

/// A text message of so many bytes.
fn text(masked: bool, length: usize) -> Vec<u8> {
    frame(0x81, masked, &vec![b'x'; length])
}

fn close(masked: bool, code: u16, reason: &str) -> Vec<u8> {
    frame(
        0x88,
        masked,
        &[&code.to_be_bytes(), reason.as_bytes()].concat(),
    )
}

/// A direction of a WebSocket that was just lost, or, of either end, one that nobody followed.
struct Lane {
    stream: Stream,
    sequence: u32,
    now_ns: u64,
}

impl Lane {
    fn lost(masked: bool) -> Self {
        let mut stream = Stream::starting_at(u32::MAX - 100);
        stream.set_masked(masked);
        stream.lose(Lost::Gap);
        Self::of(stream)
    }

    fn unseen() -> Self {
        Self::of(Stream::unseen_before(u32::MAX - 100))
    }

    fn of(stream: Stream) -> Self {
        Self {
            stream,
            sequence: u32::MAX - 100,
            now_ns: 0,
        }
    }

    /// The next segment passes, as in the kernel.
    fn pass(&mut self, bytes: &[u8]) -> &mut Self {
        self.now_ns += 1;
        let segment = Segment {
            sequence: self.sequence,
            length: bytes.len() as u32,
            now_ns: self.now_ns,
            ..Segment::default()
        };
        self.sequence = self.sequence.wrapping_add(segment.length);
        let payload = Piece(bytes);
        let mut next = self.stream.arrive(&segment);
        while next == Next::Turn {
            next = self.stream.turn(&segment, &payload);
        }
        if self.stream.wants_look_back() {
            let stream = &mut self.stream;
            (0..Stream::BODIES)
                .find(|number| stream.look_back(&segment, &payload, *number) == Next::Done);
        }
        self
    }

    fn fin(&mut self) -> &mut Self {
        self.now_ns += 1;
        self.stream.arrive(&Segment {
            sequence: self.sequence,
            fin: true,
            now_ns: self.now_ns,
            ..Segment::default()
        });
        self
    }

    /// The bytes before the next ones pass once more.
    fn again(&mut self, bytes: &[u8]) -> &mut Self {
        self.sequence = self.sequence.wrapping_sub(bytes.len() as u32);
        self.pass(bytes)
    }

    fn skip(&mut self, bytes: u32) -> &mut Self {
        self.sequence = self.sequence.wrapping_add(bytes);
        self
    }

    fn is_followed(&self) -> bool {
        self.stream.lost().is_none()
    }

    fn code(&self) -> Option<u16> {
        (self.stream.has_code != 0).then_some(self.stream.code)
    }
}

#[test]
fn two_messages_that_fill_their_segments_are_found() {
    for masked in [false, true] {
        let mut lane = Lane::lost(masked);
        lane.pass(b"the rest of a message").pass(&text(masked, 20));
        assert!(!lane.is_followed(), "one may be chance");
        lane.pass(&text(masked, 21));
        assert!(lane.is_followed());
        assert!(lane.stream.has_missed(), "and its count is not exact");
        lane.pass(&[text(masked, 3), close(masked, 1001, "bye")].concat());
        assert!(lane.stream.has_close());
        assert_eq!((lane.code(), lane.stream.close_ns), (Some(1001), 4));
    }
}

#[test]
fn one_message_with_a_longer_length_is_enough() {
    let mut lane = Lane::lost(false);
    assert!(lane.pass(&text(false, 1000)).is_followed());
    // Its end comes with other segments.
    let mut lane = Lane::lost(false);
    let message = text(false, 100_000);
    lane.pass(&message[..1400]);
    assert!(!lane.is_followed());
    lane.skip(message.len() as u32 - 1400).pass(&text(false, 5));
    assert!(lane.is_followed());
}

#[test]
fn what_this_end_does_not_send_is_not_found() {
    let lanes: [(&str, Vec<u8>); 9] = [
        ("the other end's mask bit", text(true, 20)),
        ("zeros", vec![0; 64]),
        (
            "a length that is longer than it must be",
            [&[0x81, 126, 0, 20][..], &[0; 20]].concat(),
        ),
        (
            "an end of a message that did not begin",
            frame(0x80, false, &[1; 20]),
        ),
        ("empty messages", [0x81, 0].repeat(20)),
        (
            "a Close frame with a code that is never sent",
            close(false, 1006, ""),
        ),
        (
            "a Close frame and something behind it",
            [close(false, 1000, ""), text(false, 5)].concat(),
        ),
        ("a Close frame with half a code", frame(0x88, false, &[3])),
        (
            "a message of 4 GiB",
            [&[0x82, 127, 0, 0, 0, 1][..], &[0; 60]].concat(),
        ),
    ];
    for (what, bytes) in lanes {
        let mut lane = Lane::lost(false);
        for _ in 0..20 {
            lane.pass(&bytes);
        }
        assert!(!lane.is_followed(), "{what}");
        assert!(!lane.fin().stream.has_close(), "{what}");
    }
}

#[test]
fn fragments_in_their_order_are_found() {
    let message = [
        frame(0x01, false, b"first"),
        frame(0x00, false, b"second"),
        frame(0x89, false, b"ping"),
        frame(0x80, false, b"third"),
    ]
    .concat();
    let mut lane = Lane::lost(false);
    assert!(lane.pass(&message).pass(&message).is_followed());
    let mut lane = Lane::lost(false);
    let twice = [frame(0x01, false, b"first"), text(false, 5)].concat();
    assert!(!lane.pass(&twice).pass(&twice).is_followed());
}

/// Its first byte was the last one that passed unseen.
#[test]
fn the_rest_of_a_header_hides_no_frames() {
    let mut lane = Lane::lost(false);
    lane.pass(&[0x01, 0x78])
        .pass(&text(false, 5))
        .pass(&text(false, 6));
    assert!(lane.is_followed());
}

#[test]
fn a_close_frame_alone_is_believed_when_tcp_ends_behind_it() {
    for masked in [false, true] {
        for bytes in [close(masked, 4999, "why"), frame(0x88, masked, &[])] {
            let mut lane = Lane::lost(masked);
            lane.pass(&bytes);
            assert!(!lane.stream.has_close());
            assert!(lane.fin().stream.has_close());
            assert_eq!(lane.stream.close_ns, 1);
            assert_eq!(lane.code().is_some(), bytes.len() > 6);
        }
    }
    let mut lane = Lane::lost(false);
    lane.pass(&close(false, 1000, "")).pass(b"more").fin();
    assert!(!lane.stream.has_close(), "it was none");
    assert_eq!(lane.code(), None);
}

#[test]
fn a_close_frame_behind_the_rest_of_a_message_is_seen_by_its_tail() {
    for masked in [false, true] {
        for reason in ["", "going away", &"x".repeat(123)] {
            let mut lane = Lane::lost(masked);
            let rest = vec![0xee; 700];
            lane.pass(&[rest, close(masked, 1001, reason)].concat());
            assert!(!lane.stream.has_close());
            assert_eq!(lane.code(), Some(1001));
            let mut other = Lane::lost(!masked);
            other.now_ns = 5;
            other.stream.facts |= CLOSE;
            assert!(
                !lane.stream.believes_close(&other.stream),
                "that came before"
            );
            other.stream.close_ns = 6;
            assert!(lane.stream.believes_close(&other.stream), "that answers");
            assert!(lane.fin().stream.has_close());
        }
    }
}

#[test]
fn two_close_frames_show_a_websocket_that_nobody_followed() {
    let (mut sent, mut received) = (Lane::unseen(), Lane::unseen());
    sent.pass(&close(true, 1000, ""));
    assert!(sent.stream.shows_frames() && !received.stream.shows_frames());
    received.pass(&close(false, 1000, ""));
    assert!(received.stream.shows_frames());
    assert!(sent.stream.is_masked() && !received.stream.is_masked());
    assert!(sent.stream.believes_close(&received.stream));
    assert!(received.stream.believes_close(&sent.stream));
}

#[test]
fn what_nobody_followed_needs_more() {
    let mut lane = Lane::unseen();
    lane.pass(&text(true, 20)).pass(&text(true, 21));
    assert!(!lane.is_followed());
    assert!(lane.pass(&text(true, 22)).is_followed());
}

#[test]
fn a_candidate_without_frames_is_given_up() {
    let mut lane = Lane::unseen();
    let mut short = 0;
    while !lane.stream.is_hopeless() {
        lane.pass(b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nvalue\r\n");
        short += 1;
    }
    assert_eq!(short, 64);
}

/// Windows sends one byte of garbage in front of what the other end awaits.
#[test]
fn a_keep_alive_hides_no_frames() {
    for byte in [0x00, 0x81, 0x88] {
        let mut lane = Lane::unseen();
        lane.again(&[byte])
            .again(&[byte])
            .pass(&close(true, 1000, ""));
        assert!(lane.stream.shows_frames(), "{byte:x} before it");
        lane.again(&[byte]);
        assert!(lane.stream.shows_frames(), "{byte:x} behind it");
        assert_eq!(lane.code(), Some(1000));
    }
}

/// Its time would be that of the retransmission.
#[test]
fn a_close_frame_that_passed_before_is_not_found_when_it_comes_again() {
    for bytes in [
        close(false, 1000, ""),
        [text(false, 7), close(false, 1000, "")].concat(),
    ] {
        let mut lane = Lane::unseen();
        assert!(!lane.again(&bytes).stream.shows_frames());
        assert!(!lane.fin().stream.has_close());
    }
    let mut lane = Lane::lost(false);
    // Its segment began with the rest of a message, now it does not.
    let bytes = [text(false, 5), vec![0x88, 0]].concat();
    lane.pass(&[b"the rest".to_vec(), bytes.clone()].concat());
    assert!(!lane.again(&bytes).fin().stream.has_close());
}

/// An end that has sent a Close frame and awaits the answer goes on to answer pings (RFC 6455 section 5.5.2).
#[test]
fn control_frames_alone_do_not_show_that_no_close_frame_was_missed() {
    let ping = frame(0x89, true, b"ping");
    for mut lane in [Lane::lost(true), Lane::unseen()] {
        lane.pass(&ping).pass(&ping).pass(&ping);
        assert!(lane.is_followed());
        assert!(lane.stream.has_shown_only_control());
        lane.pass(&[ping.clone(), ping.clone()].concat());
        assert!(lane.stream.has_shown_only_control());
        lane.pass(&frame(0x01, true, b"data"));
        assert!(!lane.stream.has_shown_only_control());
        lane.stream.lose(Lost::Gap);
        assert!(lane.stream.has_shown_only_control(), "lost again");
    }
    let mut lane = Lane::lost(true);
    lane.pass(&text(true, 3)).pass(&ping);
    assert!(lane.is_followed());
    assert!(!lane.stream.has_shown_only_control());
    let mut lane = Lane::lost(true);
    lane.pass(&text(true, 3))
        .pass(b"none")
        .pass(&ping)
        .pass(&ping);
    assert!(lane.is_followed());
    assert!(
        lane.stream.has_shown_only_control(),
        "what was none says nothing"
    );
    assert!(!Stream::starting_at(1).has_shown_only_control());
}

/// Bytes inside of a message may look like a header of the other kind.
#[test]
fn a_guess_that_led_nowhere_hides_no_masked_close_frame() {
    let mut lane = Lane::unseen();
    lane.pass(&[0x82, 0x7e, 0x7f, 0xff]).skip(70_000);
    lane.pass(&close(true, 1000, ""));
    assert!(lane.stream.shows_frames());
}

mod chance;
