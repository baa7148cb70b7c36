use super::*;
use crate::{outcome::judge, timeline::after};

const SLOW_AFTER: Duration = Duration::from_secs(1);
const TTL: Duration = Duration::from_secs(3600);

#[test]
fn three_ended_and_a_tenth_slow_raise_the_flag() {
    assert!(!flagged(&[("2s", 2)]), "two prove nothing");
    assert!(flagged(&[("0s", 2), ("2s", 1)]));
    assert!(flagged(&[("0s", 9), ("2s", 1)]));
    assert!(!flagged(&[("0s", 10), ("2s", 1)]), "less than a tenth");
    assert!(!flagged(&[("0s", 10)]));
}

#[test]
fn connection_that_hangs_raises_the_flag_after_slow_after_and_ten_seconds() {
    let mut servers = servers(9);
    servers.admit(server(1), secs(0));
    let live = HashMap::from([(
        server(1),
        Live {
            phases: [0, 0, 1, 0],
            awaiting_fin_since: Some(secs(0)),
            half_closed_since: None,
        },
    )]);
    assert_eq!(servers.review(&live, secs(10)), []);
    let flips = servers.review(&live, secs(11));
    assert_eq!(flips[0].evidence.awaiting_fin, Some(secs(11)));
    assert!(flips[0].slow);
    assert_eq!(servers.review(&live, secs(12)), [], "a flag flips once");
    assert_eq!(servers.review(&HashMap::new(), secs(311)), []);
    assert!(
        !servers.review(&HashMap::new(), secs(312))[0].slow,
        "and back when nothing hung for a window"
    );
}

#[test]
fn flag_falls_a_window_after_the_window_has_passed() {
    let mut servers = servers(9);
    servers.admit(server(1), secs(0));
    for waited in ["2s", "4s", "3s"] {
        servers.ended(server(1), &judgement(waited), secs(5));
    }
    let raised = &servers.review(&HashMap::new(), secs(6))[0];
    assert_eq!((raised.evidence.ended, raised.evidence.slow), (3, 3));
    assert_eq!(raised.evidence.waits.p50, Some(secs(3)));
    assert_eq!(raised.evidence.waits.p99, Some(secs(4)));
    assert_eq!(raised.evidence.waits.longest, Some(secs(4)));
    assert_eq!(servers.review(&HashMap::new(), secs(304)), []);
    assert_eq!(servers.review(&HashMap::new(), secs(305)), []);
    let lowered = &servers.review(&HashMap::new(), secs(604))[0];
    assert!(!lowered.slow);
    assert_eq!((lowered.evidence.ended, lowered.evidence.slow), (0, 0));
}

#[test]
fn servers_beyond_the_bound_fold_into_one() {
    let mut servers = servers(2);
    for port in [1, 2, 3] {
        let label = servers.admit(server(port), secs(0));
        servers.ended(server(port), &judgement("0s"), secs(0));
        assert_eq!(label, *servers.label(server(port)));
        assert_eq!(label.is_other(), port == 3);
    }
    assert_eq!(servers.folded(), 1);
    let other_role = Server {
        role: Role::Server,
        ..server(1)
    };
    assert_eq!(
        servers.admit(other_role, secs(0)),
        other_role.into(),
        "one address, one place"
    );
}

#[test]
fn silent_server_is_forgotten_and_makes_room() {
    let mut servers = servers(1);
    servers.admit(server(1), secs(0));
    let live = HashMap::from([(server(1), Live::default())]);
    assert_eq!(servers.expire(&HashMap::new(), secs(3599)), []);
    assert_eq!(
        servers.expire(&live, secs(3600)),
        [],
        "it has a live connection"
    );
    assert_eq!(
        servers.expire(&HashMap::new(), secs(3600)),
        [server(1).into()]
    );
    assert_eq!(servers.admit(server(2), secs(3601)), server(2).into());
}

/// Whether a server is flagged whose connections ended after such waits, so many of each.
fn flagged(waits: &[(&str, usize)]) -> bool {
    let mut servers = servers(9);
    servers.admit(server(1), secs(0));
    for (waited, times) in waits {
        for _ in 0..*times {
            servers.ended(server(1), &judgement(waited), secs(0));
        }
    }
    servers.review(&HashMap::new(), secs(1));
    servers.flags().all(|(_, slow)| slow)
}

fn judgement(waited: &str) -> Judgement {
    let waited = humantime::parse_duration(waited).unwrap();
    let script = format!(
        "0s client close; 0s server close; {}ns server fin",
        waited.as_nanos()
    );
    judge(&after(Role::Client, &script), SLOW_AFTER)
}

fn servers(max: usize) -> Servers {
    Servers::new(max, TTL, SLOW_AFTER)
}

fn server(port: u16) -> Server {
    Server {
        role: Role::Client,
        address: SocketAddr::from(([198, 51, 100, 1], port)),
    }
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}
