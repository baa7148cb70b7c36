//! What segments do to a socket.

use super::*;
use crate::{event::Lost, model::Piece, upgrade::Scan};

fn segment(sequence: u32, acknowledges: u32, length: u32) -> Segment {
    Segment {
        sequence,
        acknowledges,
        length,
        now_ns: 1,
        ..Segment::default()
    }
}

fn fin(sequence: u32, acknowledges: u32) -> Segment {
    Segment {
        fin: true,
        ..segment(sequence, acknowledges, 0)
    }
}

/// A server's socket: its 101 ended at 100, and acknowledged 500.
pub(super) fn open() -> Socket {
    let mut socket = Socket::default();
    let response = segment(40, 500, 60);
    socket.begin(Phase::Response, Direction::Egress, &response);
    socket.stream(Direction::Egress).skip(&response);
    socket.open(Direction::Egress, &response, true, 100);
    socket
}

#[test]
fn frames_begin_after_the_head_and_where_it_acknowledges() {
    let mut socket = open();
    assert!(socket.is_open());
    assert_eq!(
        socket.arrive(Direction::Egress, &segment(40, 500, 60)),
        Look::Away
    );
    assert_eq!(
        socket.arrive(Direction::Egress, &segment(100, 500, 2)),
        Look::AtFrames
    );
    assert_eq!(
        socket.arrive(Direction::Ingress, &segment(300, 100, 200)),
        Look::Away
    );
    assert_eq!(
        socket.arrive(Direction::Ingress, &segment(500, 100, 2)),
        Look::AtFrames
    );
}

#[test]
fn a_segment_behind_a_hole_is_early() {
    let mut socket = open();
    assert_eq!(
        socket.arrive(Direction::Ingress, &segment(600, 100, 2)),
        Look::Early
    );
}

#[test]
fn a_fin_answers_when_it_acknowledges_the_others() {
    for (acknowledges, answers) in [(100, 0), (101, 1)] {
        let mut socket = open();
        socket.arrive(Direction::Egress, &fin(100, 500));
        socket.arrive(Direction::Ingress, &fin(500, acknowledges));
        assert_eq!(socket.sent().fin_answers_fin, 0, "the first one never does");
        assert_eq!(socket.received().fin_answers_fin, answers);
        assert_eq!(socket.facts(), 0b010_010);
    }
}

#[test]
fn one_that_ends_before_its_response_was_read_may_have_opened_unseen() {
    assert!(!Socket::default().may_have_opened_unseen());
    assert!(!open().may_have_opened_unseen());

    let mut busy = Socket::default();
    busy.stream(Direction::Ingress).lose(Lost::Busy);
    assert!(busy.may_have_opened_unseen(), "perhaps it was the response");

    let mut awaits = Socket::default();
    awaits.await_response(Direction::Ingress, 40);
    awaits.arrive(Direction::Ingress, &segment(100, 500, 2));
    assert!(awaits.may_have_opened_unseen(), "the response never came");

    let mut half = Socket::default();
    let response = segment(40, 500, 20);
    half.begin(Phase::Response, Direction::Ingress, &response);
    assert_eq!(half.read_head(Direction::Ingress, b'H'), Scan::More);
    assert!(!half.may_have_opened_unseen(), "it was broken off");
    half.stream(Direction::Ingress).lose(Lost::Gap);
    assert!(half.may_have_opened_unseen());
}

#[test]
fn a_request_in_pieces_and_its_answer() {
    let mut socket = Socket::default();
    let first = segment(10, 1, 5);
    socket.begin(Phase::Request, Direction::Ingress, &first);
    socket.stream(Direction::Ingress).skip(&first);
    assert_eq!(socket.arrive(Direction::Ingress, &first), Look::Away);
    assert_eq!(
        socket.arrive(Direction::Ingress, &segment(15, 1, 5)),
        Look::AtRequest
    );
    assert_eq!(
        socket.arrive(Direction::Egress, &segment(1, 20, 0)),
        Look::Away
    );
    assert_eq!(
        socket.arrive(Direction::Egress, &segment(1, 20, 9)),
        Look::AtBeginning
    );
    assert_eq!(
        socket.arrive(Direction::Ingress, &segment(30, 1, 5)),
        Look::RequestLost
    );
}

/// As the kernel side does it.
fn arrive(socket: &mut Socket, direction: Direction, segment: &Segment) -> Look {
    if socket.awaits_reception() {
        socket.weigh_reception(direction, segment);
    }
    socket.arrive(direction, segment)
}

/// The Close frame of a client, with this code, as it passes.
fn close_frame(socket: &mut Socket, awaited: u32, code: u16, now_ns: u64) -> Look {
    let [high, low] = code.to_be_bytes();
    let bytes = [0x88, 0x82, 0, 0, 0, 0, high, low];
    let segment = Segment {
        awaited,
        now_ns,
        ..segment(500, 100, 8)
    };
    let look = arrive(socket, Direction::Ingress, &segment);
    if look == Look::AtFrames {
        let stream = socket.stream(Direction::Ingress);
        while stream.turn(&segment, &Piece(&bytes)) == Next::Turn {}
    }
    look
}

#[test]
fn a_close_frame_that_tcp_acknowledges_is_taken() {
    let mut socket = open();
    close_frame(&mut socket, 500, 1000, 5);
    assert!(!socket.received().is_close_left(), "nothing shows yet");
    arrive(&mut socket, Direction::Egress, &segment(100, 500, 2));
    assert!(socket.received().is_close_left(), "it may be on its way");
    arrive(&mut socket, Direction::Egress, &segment(102, 508, 2));
    assert!(!socket.received().is_close_left());
    // A repetition of what TCP has changes nothing.
    assert_eq!(close_frame(&mut socket, 508, 4000, 9), Look::Away);
    let stream = socket.received();
    assert_eq!((stream.close_ns, stream.code), (5, 1000));
}

#[test]
fn a_close_frame_that_tcp_leaves_is_none() {
    for last in [fin(500, 100), segment(500, 100, 0)] {
        let mut socket = open();
        close_frame(&mut socket, 500, 1000, 5);
        let last = Segment {
            awaited: 500,
            rst: !last.fin,
            ..last
        };
        arrive(&mut socket, Direction::Ingress, &last);
        assert!(socket.received().is_close_left());
    }
}

#[test]
fn what_comes_in_the_place_of_a_close_frame_that_tcp_left_is_read() {
    let mut socket = open();
    close_frame(&mut socket, 500, 4000, 5);
    assert_eq!(close_frame(&mut socket, 500, 1000, 9), Look::AtFrames);
    let stream = socket.received();
    assert_eq!((stream.close_ns, stream.code, stream.frames), (9, 1000, 1));
    assert!(stream.is_reread() && !stream.is_close_left());

    // TCP had no room for it, and it is sent again.
    let mut socket = open();
    close_frame(&mut socket, 500, 4000, 5);
    assert_eq!(close_frame(&mut socket, 500, 4000, 9), Look::AtFrames);
    let stream = socket.received();
    assert_eq!((stream.close_ns, stream.code, stream.frames), (5, 4000, 1));
    assert!(!stream.is_close_left());

    let mut socket = open();
    close_frame(&mut socket, 500, 4000, 5);
    let text = Segment {
        awaited: 500,
        ..segment(500, 100, 8)
    };
    assert_eq!(
        arrive(&mut socket, Direction::Ingress, &text),
        Look::AtFrames
    );
    let stream = socket.stream(Direction::Ingress);
    let bytes = [0x81, 0x82, 0, 0, 0, 0, b'h', b'i'];
    while stream.turn(&text, &Piece(&bytes)) == Next::Turn {}
    let stream = socket.received();
    assert!(!stream.has_close() && stream.lost().is_none());
    assert_eq!(stream.frames, 1);
}

#[test]
fn a_fin_that_tcp_left_is_none_when_bytes_come_in_its_place() {
    let text = |awaited| Segment {
        awaited,
        ..segment(500, 100, 8)
    };
    let mut socket = open();
    arrive(&mut socket, Direction::Ingress, &fin(500, 100));
    assert!(socket.received().has_fin());
    assert_eq!(
        arrive(&mut socket, Direction::Ingress, &text(500)),
        Look::AtFrames
    );
    let stream = socket.received();
    assert!(!stream.has_fin() && !stream.has_seen_fin());
    assert_eq!(stream.fin_ns, 0);

    // TCP has taken it: what comes then is of nobody.
    let mut socket = open();
    arrive(&mut socket, Direction::Ingress, &fin(500, 100));
    arrive(&mut socket, Direction::Ingress, &text(501));
    assert!(socket.received().has_fin());
}
