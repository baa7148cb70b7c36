use std::{collections::HashSet, env, fs, path::Path};

use monitor_ebpf::counter::Counter;

use super::{register::EDGES, *};
use crate::{
    heads::Unparsed,
    labels::{code_index, code_name, codes, outcome_index, outcomes},
    outcome::judge,
    timeline::after,
};

const SLOW_AFTER: Duration = Duration::from_secs(1);

/// The exposition is the public API: a change must show in a diff. CLOSEWATCH_BLESS=1 rewrites
/// the file.
#[test]
fn exposition_is_the_golden_one() {
    let mut metrics = metrics();
    let (slow, v6) = (
        label(Role::Client, "198.51.100.1:8765"),
        label(Role::Server, "[2001:db8::1]:443"),
    );
    feed(&mut metrics, &slow);
    feed(&mut metrics, &v6);
    let awaiting_fin_since = Some(Duration::from_secs(5));
    let live = Live {
        phases: [4, 3, 2, 1],
        awaiting_fin_since,
        half_closed_since: Some(Duration::from_secs(2)),
    };
    let live = [(Cow::Borrowed(&slow), live)].into_iter();
    metrics.live(live, Duration::from_secs(12));
    let listing = Listing {
        listed: 2,
        refused: 1,
        took: Duration::from_millis(12),
        ..Listing::default()
    };
    metrics.time_wait([(slow, 7), (v6.clone(), 0)].into_iter(), &listing);
    metrics.slow(&v6, false);
    metrics.ended(&Label::other(Role::Client), &judgement("1s server rst"));
    metrics.attached(&[("observe_egress", true), ("observe_ingress", true)]);
    let counters: Vec<_> = Counter::ALL.into_iter().zip(0..).collect();
    metrics.sight.kernel_losses(&counters, 1);
    metrics.sight.kernel_losses(&counters, 1);
    metrics.sight.folded(1);
    metrics.keeping.records(5, 0, 2);
    metrics.sight.swept(3);
    metrics.event(Duration::from_micros(250));
    metrics.keeping.log_lines_lost(4);
    metrics.sight.search_failed(Search::Open);
    metrics.endpoint(&Figures {
        connections: 4,
        dropped: vec![("head_timeout", 2)],
        refused: vec![("password", 1)],
        web_config_valid: Some(true),
        certificate_expires: Some(1_800_000_000),
    });
    let exposition = metrics.exposition().text();

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/metrics.txt");
    if env::var_os("CLOSEWATCH_BLESS").is_some() {
        fs::write(&path, &exposition).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap();
    assert!(
        exposition == golden,
        "differs from {}:\n{exposition}",
        path.display()
    );
}

/// However small the pieces, they are the same text, and as long as was said before.
#[test]
fn pieces_add_up_to_the_whole() {
    let mut metrics = metrics();
    for port in 1..30 {
        let role = ROLES[port % 2];
        let label = label(role, &format!("192.0.2.1:{port}"));
        metrics.opened(&label);
        if port % 3 == 0 {
            feed(&mut metrics, &label);
        }
    }
    metrics.ended(&Label::other(Role::Server), &judgement("1s server rst"));
    let whole = metrics.exposition().text();
    for enough in [1, 1000, 64 * 1024] {
        let mut writing = metrics.exposition().write().unwrap();
        let (said, mut text) = (writing.left(), Vec::new());
        while writing.left() > 0 {
            let mut piece = Vec::new();
            writing.take(&mut piece, enough);
            assert!(!piece.is_empty());
            text.append(&mut piece);
        }
        assert_eq!(text.len(), said);
        assert_eq!(String::from_utf8(text).unwrap(), whole);
    }
}

#[test]
fn each_value_has_a_mark_of_its_own() {
    let families = families::families();
    let bits = families.iter().flat_map(|family| &family.values);
    let bits: Vec<u64> = bits.map(|value| value.bit).collect();
    assert!(bits.iter().all(|bit| bit.count_ones() == 1));
    assert_eq!(HashSet::<u64>::from_iter(bits.clone()).len(), bits.len());
}

#[test]
fn forgotten_server_leaves_no_series() {
    let mut metrics = metrics();
    metrics.sight.kernel_losses(&[], 0);
    let before = label(Role::Server, "192.0.2.1:80");
    metrics.opened(&before);
    metrics.slow(&before, false);
    let without = metrics_without_heads(&metrics);
    for role in ROLES {
        let gone = label(role, "198.51.100.1:8765");
        feed(&mut metrics, &gone);
        metrics.forget(&gone);
    }
    assert_eq!(metrics_without_heads(&metrics), without);
}

#[test]
fn slow_after_is_an_edge_once() {
    assert_eq!(edges(Duration::from_millis(750)), EDGES);
    let edges = edges(Duration::from_secs(1));
    assert_eq!(edges[8..11], [0.75, 1.0, 1.5]);
    assert_eq!(edges.len(), EDGES.len() + 1);
}

#[test]
fn close_codes_are_folded() {
    let folded = [
        (None, "none"),
        (Some(999), "invalid"),
        (Some(1000), "1000"),
        (Some(1015), "1015"),
        (Some(1016), "invalid"),
        (Some(3000), "3xxx"),
        (Some(4999), "4xxx"),
        (Some(5000), "invalid"),
    ];
    for (code, name) in folded {
        assert_eq!(code_name(code), name);
    }
    assert_eq!(HashSet::<String>::from_iter(codes()).len(), 20);
    for (code, name) in folded {
        assert_eq!(codes().nth(code_index(code)).as_deref(), Some(name));
    }
    for (place, outcome) in outcomes().enumerate() {
        assert_eq!(outcome_index(outcome), place);
    }
}

#[test]
fn what_was_found_is_not_among_what_was_not_seen() {
    let metrics = metrics();
    metrics
        .sight
        .kernel_losses(&[(Counter::TlsBound, 5), (Counter::TlsNoRoom, 7)], 0);
    let unseen = metrics.unseen();
    let of_sessions = unseen
        .iter()
        .filter(|counter| counter.metric == "closewatch_tls_sessions_total");
    let found: Vec<_> = of_sessions
        .map(|counter| (counter.labels["result"].as_str(), counter.count))
        .collect();
    assert_eq!(found, [("left", 0), ("no_room", 7)]);
}

/// One of everything that can happen with a server.
fn feed(metrics: &mut Metrics, label: &Label) {
    let opening = Opening {
        host: Some("chat.example.com".to_owned()),
        server_software: Some("nginx \"1.2\"".to_owned()),
        ..Opening::default()
    };
    let missing = Missing {
        request: Some(Unparsed::Cut),
        response: None,
    };
    metrics.heads(label, &opening, missing);
    metrics.opened(label);
    metrics.close_frame(label, Role::Client, Some(1000));
    metrics.close_frame(label, Role::Server, None);
    for script in [
        "0s client close; 1ms server close; 2ms server fin; 3ms client fin",
        "0s client close; 1ms server close; 1001ms server fin; 1002ms client crossing fin",
        "0s client close; 1ms server close; 10001ms client fin",
    ] {
        metrics.ended(label, &judgement(script));
    }
    metrics.slow(label, true);
    metrics.time_wait([(label.clone(), 1)].into_iter(), &Listing::default());
}

fn judgement(script: &str) -> Judgement {
    judge(&after(Role::Client, script), SLOW_AFTER)
}

fn metrics() -> Metrics {
    Metrics::new(SLOW_AFTER, "0.0.0").unwrap()
}

fn metrics_without_heads(metrics: &Metrics) -> String {
    let exposition = metrics.exposition().text();
    exposition
        .lines()
        .filter(|line| !line.contains("heads_unparsed"))
        .collect()
}

fn label(role: Role, server: &str) -> Label {
    Label {
        role,
        server: server.to_owned(),
    }
}
