use monitor_ebpf::event::Closer;

use super::*;
use crate::timeline::{after, unopened};

const SLOW_AFTER: Duration = Duration::from_secs(1);

#[test]
fn server_that_closes_within_slow_after_is_clean() {
    check(
        "40ms client close 1000; 41ms server close 1000; 42ms server fin",
        Outcome::Clean,
        false,
    );
    check(
        "40ms server close 1001; 41ms client close 1001; 42ms server fin",
        Outcome::Clean,
        false,
    );
    check(
        "40ms client close 1000; 41ms server close 1000; 42ms server rst",
        Outcome::Clean,
        false,
    );
    check(
        "1s client close; 2s server close; 3s server fin",
        Outcome::Clean,
        false,
    );
}

#[test]
fn server_that_closes_later_is_slow() {
    check(
        "1s client close; 2s server close; 3001ms server fin",
        Outcome::SlowServer,
        true,
    );
    check(
        "0s client close; 0s server close; 1000000001ns server rst",
        Outcome::SlowServer,
        true,
    );
}

#[test]
fn client_that_waits_slow_after_or_longer_gave_up() {
    check(
        "0s client close; 1ms server close; 10001ms client fin",
        Outcome::ClientGaveUp,
        true,
    );
    check(
        "1s server close; 2s client close; 3s client fin",
        Outcome::ClientGaveUp,
        true,
    );
    check(
        "1s server close; 2s client close; 3s client rst",
        Outcome::ClientGaveUp,
        true,
    );
}

#[test]
fn client_that_does_not_wait_is_early() {
    check(
        "1s client close; 2s server close; 2999999999ns client fin",
        Outcome::ClientEarly,
        false,
    );
    check(
        "1s client close; 1999999999ns client fin",
        Outcome::ClientEarly,
        false,
    );
    check(
        "1s client close; 1s client fin",
        Outcome::ClientEarly,
        false,
    );
}

#[test]
fn close_frame_of_the_client_left_unanswered() {
    check(
        "1s client close; 2s client fin",
        Outcome::UnansweredByServer,
        true,
    );
    check(
        "1s client close; 1999ms server fin",
        Outcome::UnansweredByServer,
        false,
    );
    check(
        "1s client close; 2s server fin",
        Outcome::UnansweredByServer,
        true,
    );
    check(
        "1s client close; 1001ms server rst",
        Outcome::UnansweredByServer,
        false,
    );
}

#[test]
fn close_frame_of_the_server_left_unanswered() {
    check(
        "1s server close; 2s server fin",
        Outcome::UnansweredByClient,
        false,
    );
    check(
        "1s server close; 1001ms client fin",
        Outcome::UnansweredByClient,
        false,
    );
    check(
        "1s server close; 9s client rst",
        Outcome::UnansweredByClient,
        false,
    );
}

#[test]
fn server_that_does_not_wait_for_the_answer_is_early() {
    check(
        "1s server close; 1999999999ns server fin",
        Outcome::ServerEarly,
        false,
    );
    check(
        "1s server close; 1s server fin",
        Outcome::ServerEarly,
        false,
    );
}

#[test]
fn fin_without_close_frame_is_abnormal() {
    check("40ms client fin", Outcome::Abnormal, false);
    check("40ms server fin", Outcome::Abnormal, false);
    check("40ms server rst", Outcome::Abnormal, false);
}

#[test]
fn close_frame_after_the_first_end_changes_nothing() {
    check(
        "40ms server fin; 41ms client close 1000",
        Outcome::Abnormal,
        false,
    );
    check(
        "1s client close; 3s server fin; 4s server close",
        Outcome::UnansweredByServer,
        true,
    );
    let judgement = judge(
        &after(
            Role::Client,
            "1s server close; 2s server fin; 3s client close",
        ),
        SLOW_AFTER,
    );
    assert_eq!(judgement.outcome, Some(Outcome::UnansweredByClient));
    assert_eq!(judgement.close_handshake, Some(Duration::from_secs(2)));
    assert_eq!(judgement.close_to_fin, None);
    assert_eq!(judgement.server_fin_delay, None);
}

#[test]
fn close_frame_and_fin_in_one_segment_complete_before_the_end() {
    check(
        "1s client close; 2s server close; 2s server fin",
        Outcome::Clean,
        false,
    );
    let judgement = judge(
        &after(
            Role::Client,
            "1s client close; 2s server close; 2s server fin",
        ),
        SLOW_AFTER,
    );
    assert_eq!(judgement.close_to_fin, Some(Duration::ZERO));
}

#[test]
fn direction_that_was_lost_may_hide_a_close_frame() {
    for script in [
        "1s client lost; 2s server close; 3s server fin",
        "1s client close; 2s server lost; 12s client fin",
        "1s server lost; 2s client fin",
    ] {
        let judgement = judge(&after(Role::Client, script), SLOW_AFTER);
        assert_eq!(
            (judgement.outcome, judgement.slow),
            (None, None),
            "{script}"
        );
        assert_eq!(judgement.initiator, None, "{script}");
    }
    check(
        "1s client close; 1s client lost; 2s server close; 2s server fin",
        Outcome::Clean,
        false,
    );
    check(
        "1s server invalid frame; 2s client close; 3s client fin",
        Outcome::UnansweredByServer,
        true,
    );
}

#[test]
fn socket_that_dies_in_silence_was_given_up_by_the_local_end() {
    let script = "0s client close; 1ms server close; 900s gone";
    assert_eq!(
        judge(&after(Role::Client, script), SLOW_AFTER).outcome,
        Some(Outcome::ClientGaveUp)
    );
    assert_eq!(
        judge(&after(Role::Server, script), SLOW_AFTER).outcome,
        Some(Outcome::SlowServer)
    );
    let judgement = judge(&after(Role::Server, "900s gone"), SLOW_AFTER);
    assert_eq!(judgement.outcome, Some(Outcome::Abnormal));
    assert_eq!(judgement.first_end, Role::Server);
    assert_eq!(judgement.time_wait, TimeWait::None);
    assert_eq!(judgement.server_fin_delay, None);
}

#[test]
fn who_closed_without_a_fin_that_passed_was_slow_at_most() {
    let closed = |role, script| {
        let closer = Closer {
            pid: 1,
            tid: 1,
            comm: [0; 16],
        };
        let snapshot = Snapshot {
            closer: Some(closer),
            ..after(role, script)
        };
        let judgement = judge(&snapshot, SLOW_AFTER);
        (judgement.outcome, judgement.slow)
    };
    let unknown = (None, None);
    let late = "0s client close; 1ms server close; 100s gone";
    assert_eq!(closed(Role::Client, late), unknown);
    assert_eq!(closed(Role::Server, late), unknown);
    assert_eq!(closed(Role::Client, "0s client close; 100s gone"), unknown);
    let soon = "0s client close; 1ms server close; 900ms gone";
    let known = |outcome| (Some(outcome), Some(false));
    assert_eq!(closed(Role::Client, soon), known(Outcome::ClientEarly));
    assert_eq!(closed(Role::Server, soon), known(Outcome::Clean));
    assert_eq!(closed(Role::Client, "100s gone"), known(Outcome::Abnormal));
}

#[test]
fn durations_of_a_client_that_gave_up() {
    let script = "1s client close; 2s server close; 12s client fin; 27s server fin";
    let judgement = judge(&after(Role::Client, script), SLOW_AFTER);
    assert_eq!(judgement.initiator, Some(Role::Client));
    assert_eq!(judgement.first_end, Role::Client);
    assert_eq!(judgement.close_handshake, Some(Duration::from_secs(1)));
    assert_eq!(judgement.close_to_fin, Some(Duration::from_secs(10)));
    assert_eq!(judgement.waited, Some(Duration::from_secs(10)));
    assert_eq!(judgement.server_fin_delay, Some(Duration::from_secs(25)));
    assert_eq!(judgement.time_wait, TimeWait::Client);
}

#[test]
fn first_fin_holds_time_wait_unless_the_fins_crossed_or_an_rst_came_between() {
    use TimeWait::{Both, Client, None, Server};
    // What happened; who sent FIN first; who holds TIME_WAIT.
    let cases = [
        ("1s server fin; 2s client fin", Server, Server),
        ("1s client fin; 2s server fin", Client, Client),
        ("1s client fin", Client, Client),
        ("1s server fin; 2s client crossing fin", Both, Both),
        ("1s client fin; 1s server crossing fin", Both, Both),
        (
            "1s server fin; 2s client fin; 3s client rst",
            Server,
            Server,
        ),
        ("1s server fin; 2s client rst", Server, None),
        ("1s server fin; 2s server rst", Server, None),
        ("1s client fin; 2s client rst; 3s server fin", Client, None),
        ("1s server rst", None, None),
        ("1s server rst; 2s client fin", None, None),
        ("1s gone", None, None),
    ];
    for (script, first_fin, time_wait) in cases {
        for role in [Role::Client, Role::Server] {
            let judgement = judge(&after(role, script), SLOW_AFTER);
            assert_eq!(
                (judgement.first_fin, judgement.time_wait),
                (first_fin, time_wait),
                "{script}"
            );
        }
    }
}

#[test]
fn of_two_fins_at_one_moment_the_answering_one_is_second() {
    let mut snapshot = unopened(Role::Client);
    snapshot.sent.fin = Some(SLOW_AFTER);
    snapshot.sent.fin_answers_fin = true;
    snapshot.received.fin = Some(SLOW_AFTER);
    assert_eq!(judge(&snapshot, SLOW_AFTER).first_end, Role::Server);
}

/// The verdict must not depend on which end tells the story.
fn check(script: &str, outcome: Outcome, slow: bool) {
    for role in [Role::Client, Role::Server] {
        let judgement = judge(&after(role, script), SLOW_AFTER);
        assert_eq!(
            (judgement.outcome, judgement.slow),
            (Some(outcome), Some(slow)),
            "{role:?}: {script}"
        );
    }
}
