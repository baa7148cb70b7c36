//! What segments do to a socket.

use super::*;

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
fn open() -> Socket {
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
