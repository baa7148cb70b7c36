use monitor_ebpf::event::CloseFrame;
use proptest::{collection::vec, option, prelude::*};

use super::*;

proptest! {
    /// Whatever is known of a connection comes out as it went in, in whatever form it is kept.
    #[test]
    fn what_is_put_in_comes_out(told in vec((0..4_u64, tracked()), 1..24)) {
        let mut connections = Connections::default();
        let mut known = std::collections::HashMap::new();
        for (cookie, mut tracked) in told {
            let snapshot = &mut tracked.connection.snapshot;
            snapshot.cookie = cookie;
            let key = (cookie, snapshot.opened);
            connections.put(key, tracked.clone());
            known.insert(key, tracked);
        }
        for (key, tracked) in known {
            prop_assert_eq!(connections.has_ended(key), tracked.connection.snapshot.ended.is_some());
            prop_assert_eq!(connections.get(key), Some(tracked.clone()));
            prop_assert_eq!(connections.remove(key), Some(tracked));
            prop_assert!(!connections.contains(key));
        }
        prop_assert_eq!(connections.values().count(), 0);
    }
}

fn time() -> impl Strategy<Value = Duration> {
    any::<u32>().prop_map(|seconds| Duration::new(seconds.into(), seconds % 1_000_000_000))
}

/// Of three in four nothing is known but that they are open.
fn rare<T: Clone + std::fmt::Debug>(
    value: impl Strategy<Value = T>,
) -> impl Strategy<Value = Option<T>> {
    option::weighted(0.05, value)
}

fn side() -> impl Strategy<Value = Side> {
    let close = (time(), any::<Option<u16>>()).prop_map(|(at, code)| CloseFrame { at, code });
    let lost = prop::sample::select(vec![None, Some(Lost::Gap), Some(Lost::Refused)]);
    let frames = prop_oneof![0..9_u64, Just(u64::from(u32::MAX)), Just(1 << 32)];
    let times = (rare(close), rare(time()), rare(time()));
    (times, any::<[bool; 5]>(), frames, lost).prop_map(
        |((close, fin, rst), [answers, missed, only, left, reread], frames, lost)| Side {
            close,
            fin,
            rst,
            fin_answers_fin: answers,
            frames,
            missed,
            only_control: only,
            lost,
            close_left: left,
            reread,
        },
    )
}

fn address() -> impl Strategy<Value = SocketAddr> {
    let v6 = |scope| {
        let address = std::net::SocketAddrV6::new(Ipv6Addr::LOCALHOST, 443, 0, scope);
        SocketAddr::V6(address)
    };
    prop_oneof![
        any::<(u32, u16)>().prop_map(|(ip, port)| SocketAddr::new(IpAddr::V4(ip.into()), port)),
        any::<(u128, u16)>().prop_map(|(ip, port)| SocketAddr::new(IpAddr::V6(ip.into()), port)),
        Just(SocketAddr::new("::ffff:192.0.2.1".parse().unwrap(), 80)),
        (0..2_u32).prop_map(v6),
    ]
}

fn tracked() -> impl Strategy<Value = Tracked> {
    let who = (any::<u64>(), any::<bool>(), address(), address());
    let times = (
        time(),
        option::of(time()),
        time(),
        rare(time()),
        rare(time()),
    );
    let heads = option::of("[a-z]{0,9}");
    (who, times, side(), side(), heads).prop_map(|(who, times, sent, received, host)| {
        let (cgroup_id, is_client, local, remote) = who;
        let (taken, opened, first_seen, ended, rtt) = times;
        let snapshot = Snapshot {
            cookie: 0,
            cgroup_id,
            role: if is_client {
                Role::Client
            } else {
                Role::Server
            },
            local,
            remote,
            taken,
            opened,
            ended,
            sent,
            received,
            rtt,
            closer: None,
            tls: false,
        };
        let opening = host.map(|host| {
            Arc::new(Opening {
                host: Some(host),
                ..Opening::default()
            })
        });
        Tracked {
            connection: Connection { snapshot, opening },
            first_seen,
        }
    })
}
