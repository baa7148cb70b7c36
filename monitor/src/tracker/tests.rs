use monitor_ebpf::event::CloseFrame;
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    outcome::{self, Outcome, judge},
    timeline::{after, timeline, unopened},
};

const SLOW_AFTER: Duration = Duration::from_secs(1);

#[test]
fn orderly_close_gives_one_record() {
    check(
        "0ms upgrade; 40ms client close 1000; 41ms server close 1000; 42ms server fin; 43ms client fin; 44ms gone",
        "open awaiting_close_frame awaiting_fin half_closed half_closed",
        Some(Outcome::Clean),
    );
}

#[test]
fn client_that_gives_up_half_closes() {
    check(
        "0ms upgrade; 40ms client close 1000; 41ms server close 1000; 10041ms client fin; 10090ms gone",
        "open awaiting_close_frame awaiting_fin half_closed",
        Some(Outcome::ClientGaveUp),
    );
}

#[test]
fn fin_without_close_frame_is_abnormal() {
    check(
        "0ms upgrade; 40ms client fin; 41ms server fin; 42ms gone",
        "open half_closed half_closed",
        Some(Outcome::Abnormal),
    );
}

#[test]
fn opening_that_was_lost_still_gives_a_record() {
    check(
        "44ms server rst; 45ms gone",
        "half_closed",
        Some(Outcome::Abnormal),
    );
}

#[test]
fn connection_that_goes_on_gives_none() {
    check(
        "0ms upgrade; 40ms server close",
        "open awaiting_close_frame",
        None,
    );
}

#[test]
fn each_fact_is_news_once() {
    let mut tracker = Tracker::default();
    let steps = timeline(
        Role::Client,
        "0ms upgrade; 40ms client close 1000; 41ms server close",
    );
    let news: Vec<News> = steps
        .iter()
        .flat_map(|snapshot| [snapshot, snapshot])
        .flat_map(|snapshot| tracker.observe(snapshot.clone(), None, snapshot.taken))
        .collect();
    let expected = [
        News::Opened,
        News::CloseFrame {
            sender: Role::Client,
            code: Some(1000),
        },
        News::CloseFrame {
            sender: Role::Server,
            code: None,
        },
    ];
    assert_eq!(news, expected);
}

#[test]
fn state_that_misses_the_other_direction_unlearns_nothing() {
    let close = |ms| {
        Some(CloseFrame {
            at: Duration::from_millis(ms),
            code: None,
        })
    };
    let mut first = unopened(Role::Client);
    first.sent.close = close(40);
    let mut second = unopened(Role::Client);
    second.received.close = close(41);

    let mut tracker = Tracker::default();
    tracker.observe(first, None, Duration::from_millis(41));
    tracker.observe(second, None, Duration::from_millis(41));
    let live = tracker.live();
    let live = live.values().next().unwrap();
    assert_eq!(live.phases, [0, 0, 1, 0]);
    assert_eq!(live.awaiting_fin_since, Some(Duration::from_millis(41)));
}

/// Of a direction that was lost: what looked like a Close frame was data, for more came behind it.
#[test]
fn what_proves_to_be_no_close_frame_is_unlearned() {
    let close = |ms, code| {
        Some(CloseFrame {
            at: Duration::from_millis(ms),
            code: Some(code),
        })
    };
    let state = |ms, received| {
        let mut snapshot = unopened(Role::Client);
        snapshot.taken = Duration::from_millis(ms);
        snapshot.sent.close = close(41, 1000);
        snapshot.received.missed = true;
        snapshot.received.close = received;
        snapshot
    };
    let guess = state(41, close(40, 3003));
    let guess_again = Snapshot {
        taken: Duration::from_millis(60),
        ..guess.clone()
    };
    let truth = state(50, close(50, 1000));
    for (states, expected) in [
        (vec![guess.clone(), state(45, None)], None),
        (vec![guess.clone(), truth.clone()], close(50, 1000)),
        (
            vec![guess.clone(), state(45, None), truth.clone()],
            close(50, 1000),
        ),
        // The older one was told later.
        (vec![truth.clone(), guess.clone()], close(50, 1000)),
        (vec![guess, guess_again], close(40, 3003)),
    ] {
        let mut tracker = Tracker::default();
        let mut news = Vec::new();
        for state in &states {
            news.extend(tracker.observe(state.clone(), None, state.taken));
        }
        let (_, connection) = tracker.list(None, None).next().unwrap();
        assert_eq!(connection.snapshot.received.close, expected);
        let told = News::CloseFrame {
            sender: Role::Server,
            code: Some(1000),
        };
        assert_eq!(news.contains(&told), expected == close(50, 1000));
    }
}

#[test]
fn lost_events_on_the_way_change_no_record() {
    let script = "0ms upgrade; 40ms client close 1000; 41ms server close; 42ms server fin; 43ms client fin; 44ms gone";
    let steps = timeline(Role::Client, script);
    let (last, before) = steps.split_last().unwrap();
    for seen in 0..1 << before.len() {
        let mut tracker = Tracker::default();
        for (step, snapshot) in before.iter().enumerate() {
            if seen >> step & 1 == 1 {
                tracker.observe(snapshot.clone(), None, snapshot.taken);
            }
        }
        let news = tracker.observe(last.clone(), None, last.taken);
        let Some(News::Ended(connection)) = news.last() else {
            panic!("it ended")
        };
        assert_eq!(connection.snapshot, *last);
    }
}

#[test]
fn reset_that_follows_tcp_close_is_waited_for() {
    let mut tracker = Tracker::default();
    let steps = timeline(Role::Server, "0ms upgrade; 40ms gone; 41ms server rst");
    assert_eq!(
        tracker.observe(steps[0].clone(), None, ms(0)),
        [News::Opened]
    );
    assert_eq!(tracker.observe(steps[1].clone(), None, ms(40)), []);
    assert!(tracker.live().is_empty(), "an ended connection is not live");
    assert_eq!(tracker.deadline(), Some(ms(140)));
    assert_eq!(tracker.expire(ms(139)), []);
    let [News::Ended(connection)] = &tracker.observe(steps[2].clone(), None, ms(41))[..] else {
        panic!("the reset gives the connection out");
    };
    assert_eq!(connection.snapshot.sent.rst, Some(ms(41)));
    assert_eq!(tracker.expire(ms(140)), []);
}

#[test]
fn local_abort_after_the_remote_fin_is_waited_for() {
    let mut tracker = Tracker::default();
    let gone = after(Role::Server, "0ms upgrade; 30ms client fin; 40ms gone");
    assert_eq!(tracker.observe(gone, None, ms(40)), [News::Opened]);
    assert_eq!(tracker.deadline(), Some(ms(140)));
}

#[test]
fn silent_death_is_given_out_when_the_grace_is_over() {
    let mut tracker = Tracker::default();
    tracker.observe(after(Role::Client, "0ms upgrade; 40ms gone"), None, ms(40));
    tracker.observe(after(Role::Client, "0ms upgrade; 40ms gone"), None, ms(90));
    assert_eq!(tracker.expire(ms(140)).len(), 1);
    assert_eq!(tracker.deadline(), None);
}

#[test]
fn sweep_drops_what_ended_unseen_and_nothing_else() {
    let mut tracker = Tracker::default();
    for (cookie, script) in [
        (1, "1s upgrade"),
        (2, "1s upgrade"),
        (3, "9s upgrade"),
        (4, "8s gone"),
    ] {
        let snapshot = Snapshot {
            cookie,
            ..after(Role::Client, script)
        };
        tracker.observe(snapshot, None, ms(9_000));
    }
    let listed = HashSet::from([(2, Some(ms(1_000)))]);
    assert!(tracker.lacks(&listed, ms(9_000)));
    assert_eq!(tracker.sweep(&listed, ms(9_000)), [(1, Some(ms(1_000)))]);
    assert!(!tracker.lacks(&listed, ms(9_000)));
    let live: u64 = tracker.live().values().map(|live| live.phases[0]).sum();
    assert_eq!(
        live, 2,
        "the listed one, and the one that opened after the listing began"
    );
    assert_eq!(
        tracker.expire(ms(9_100)).len(),
        1,
        "the one that waits for its reset"
    );
}

#[test]
fn connection_is_listed_in_its_phase_until_it_ends() {
    let script = "10ms upgrade; 40ms client close; 41ms server close; 90ms client fin; 95ms server fin; 96ms gone";
    let mut tracker = Tracker::default();
    let places: Vec<_> = timeline(Role::Server, script)
        .into_iter()
        .map(|snapshot| {
            let now = snapshot.taken;
            tracker.observe(snapshot, None, now);
            let listed = tracker.list(None, None).map(|(place, _)| place);
            listed
                .map(|place| (place.phase, place.since))
                .collect::<Vec<_>>()
        })
        .collect();
    let expected = [
        vec![(Phase::Open, ms(10))],
        vec![(Phase::AwaitingCloseFrame, ms(40))],
        vec![(Phase::AwaitingFin, ms(41))],
        vec![(Phase::HalfClosed, ms(90))],
        vec![(Phase::HalfClosed, ms(90))],
        vec![],
    ];
    assert_eq!(places, expected);
}

#[test]
fn what_is_swept_is_not_listed() {
    let mut tracker = Tracker::default();
    tracker.observe(after(Role::Client, "1s upgrade"), None, ms(1_000));
    tracker.sweep(&HashSet::new(), ms(2_000));
    assert_eq!(tracker.len(), 0);
}

#[test]
fn half_closed_is_as_old_as_its_first_end() {
    let mut tracker = Tracker::default();
    for (cookie, script) in [
        (1, "0s upgrade; 7s client fin; 8s server fin"),
        (2, "0s upgrade; 5s client close; 6s server close"),
        (3, "0s upgrade; 9s client rst"),
    ] {
        let snapshot = Snapshot {
            cookie,
            ..after(Role::Server, script)
        };
        tracker.observe(snapshot, None, ms(9_000));
    }
    let live = tracker.live();
    let live = live.values().next().unwrap();
    assert_eq!(live.half_closed_since, Some(ms(7_000)));
    assert_eq!(live.awaiting_fin_since, Some(ms(6_000)));
}

proptest! {
    /// Whatever is told in whatever order, and swept on the way: the figures are those of a count.
    #[test]
    fn live_figures_are_those_of_a_count(
        told in vec((0..6_u64, 0..SCRIPTS.len(), 0..5_usize, any::<bool>()), 0..60),
    ) {
        let mut tracker = Tracker::default();
        for (at, (cookie, script, step, sweep)) in told.into_iter().enumerate() {
            let role = [Role::Client, Role::Server][cookie as usize % 2];
            let steps = timeline(role, SCRIPTS[script]);
            let mut snapshot = Snapshot { cookie, ..steps[step.min(steps.len() - 1)].clone() };
            // Two servers of each role.
            let port = 8765 + (cookie / 4) as u16;
            let server = if role == Role::Client { &mut snapshot.remote } else { &mut snapshot.local };
            server.set_port(port);
            tracker.observe(snapshot, None, ms(at as u64));
            if sweep {
                tracker.sweep(&HashSet::from([(cookie, Some(ms(0)))]), ms(u64::MAX));
            }
            prop_assert_eq!(tracker.live(), counted(&tracker));
        }
    }
}

const SCRIPTS: [&str; 4] = [
    "0ms upgrade; 40ms client close; 41ms server close; 42ms server fin; 43ms client fin",
    "0ms upgrade; 30ms client fin; 44ms gone",
    "0ms upgrade; 20ms server close; 50ms client rst; 51ms gone",
    "0ms upgrade; 60ms client close; 61ms server close; 90ms client fin; 95ms server fin; 99ms gone",
];

/// The figures, from scratch.
fn counted(tracker: &Tracker) -> HashMap<Server, Live> {
    let mut servers: HashMap<Server, Live> = HashMap::new();
    for tracked in tracker.connections.values() {
        let snapshot = &tracked.connection.snapshot;
        if snapshot.ended.is_some() {
            continue;
        }
        let phase = Phase::of(snapshot);
        let sides = [&snapshot.sent, &snapshot.received];
        let ends = sides.iter().flat_map(|side| [side.fin, side.rst]).flatten();
        let mut one = Live::default();
        one.phases[phase as usize] = 1;
        one.awaiting_fin_since =
            outcome::complete(snapshot).filter(|_| phase == Phase::AwaitingFin);
        one.half_closed_since = ends.min();
        servers.entry(Server::of(snapshot)).or_default().add(&one);
    }
    servers
}

/// Plays the script to both ends: the phases on the way, one record at most (also when every
/// event comes twice), and its outcome.
fn check(script: &str, phases: &str, outcome: Option<Outcome>) {
    for role in [Role::Client, Role::Server] {
        let mut tracker = Tracker::default();
        let mut seen = Vec::new();
        let mut ended = Vec::new();
        for snapshot in timeline(role, script) {
            for snapshot in [snapshot.clone(), snapshot] {
                let now = snapshot.taken;
                ended.extend(
                    tracker
                        .observe(snapshot, None, now)
                        .into_iter()
                        .filter_map(outcome_of),
                );
            }
            for live in tracker.live().values() {
                let phase = live.phases.iter().position(|count| *count == 1).unwrap();
                seen.push(Phase::ALL[phase].name());
            }
        }
        let held = tracker.expire(Duration::MAX);
        ended.extend(
            held.iter()
                .filter_map(|connection| judge(&connection.snapshot, SLOW_AFTER).outcome),
        );
        assert_eq!(seen.join(" "), phases, "{role:?}: {script}");
        assert_eq!(ended, Vec::from_iter(outcome), "{role:?}: {script}");
    }
}

fn outcome_of(news: News) -> Option<Outcome> {
    match news {
        News::Ended(connection) => judge(&connection.snapshot, SLOW_AFTER).outcome,
        News::Opened | News::Adopted | News::CloseFrame { .. } => None,
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
