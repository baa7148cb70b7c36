//! Versions that come one after the other under load, and one cannot read the other's maps.
//!
//! `CLOSEWATCH_OTHER_BUILD` names the program of another build: then it and this one take turns, an upgrade after a
//! downgrade. Without it this build takes its own maps for those of another one.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    slice::from_ref,
    thread,
    time::Duration,
};

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    compare::{Expectation, TOLERANCE, compare},
    daemon::{ANYWHERE, BINARY, Daemon},
    figures::Figures,
    judge::Role,
    late::{Late, now},
    pinned::{Bpffs, kill},
    sandbox::Plays,
    turn,
    witness::View,
};

const PORT: &str = "9300";
const CLIENTS: &str = "30";
const SLOW_AFTER: i64 = 1_000_000_000;
const CHANGES: usize = 4;
const UNDECIDED: &str = "closewatch_adoption_undecided_total";
/// A socket stays for so long after its last packet, in nanoseconds, and an end without FIN or RST waits for one.
const MOMENT: i64 = 150_000_000;

/// From the end of one daemon to when the next one sees everything.
struct Change {
    /// When the one before was last asked what it could not decide.
    asked: i64,
    from: i64,
    to: i64,
    /// The next daemon could not go on with the maps of the one before.
    forgets: bool,
}

#[test]
#[ignore = "needs root"]
fn no_record_is_wrong_over_changes_of_version_under_load() {
    let _turn = turn();
    let other = env::var_os("CLOSEWATCH_OTHER_BUILD").map(PathBuf::from);
    let mut late = Late::new();
    let bpffs = Bpffs::mount(late.sandbox());
    let begin = |program: &Path| {
        let sandbox = late.sandbox();
        let mut command = Command::new(program);
        command
            .env("CLOSEWATCH_PIN", bpffs.pins())
            .env("CLOSEWATCH_STATE", sandbox.path("state"));
        Daemon::launch(command, sandbox, &late.records(), ANYWHERE)
    };
    let mut daemon = begin(Path::new(BINARY));
    let restless = late.python(Plays::Both, "restless.py", &[PORT, CLIENTS, "11"]);
    let mut changes = Vec::new();
    let mut losses = Vec::new();
    let mut undecided = 0.0;
    for change in 0..CHANGES {
        thread::sleep(Duration::from_millis(1500 + 97 * change as u64));
        losses.extend(daemon.losses());
        undecided += daemon.metric(UNDECIDED, &[]);
        let asked = now();
        let before = bpffs.layout();
        let from = now();
        if change % 2 == 0 {
            kill(daemon);
        } else {
            daemon.stop();
        }
        if other.is_none() {
            fs::rename(&before, before.with_file_name("1-0123456789abcdef")).unwrap();
        }
        let next = other.as_deref().filter(|_| change % 2 == 0);
        daemon = begin(next.unwrap_or(Path::new(BINARY)));
        let forgets = other.is_none() || bpffs.layout() != before;
        let said = |words: &str| daemon.log().iter().any(|line| line.contains(words));
        assert_eq!(said("of another version"), forgets, "{:#?}", daemon.log());
        changes.push(Change {
            asked,
            from,
            to: now(),
            forgets,
        });
    }
    thread::sleep(Duration::from_millis(1500));
    losses.extend(daemon.losses());
    late.hold(restless, 0);
    late.tell("stop");
    let observed = late.finish(daemon);
    losses.extend(observed.counts.losses.clone());
    undecided += observed.counts.undecided;

    let expectation = |adopted_at: Option<i64>| Expectation {
        cgroup: &observed.cgroup,
        processes: &observed.processes,
        slow_after: SLOW_AFTER,
        tolerance: TOLERANCE,
        may_be_lost: adopted_at.is_some(),
        adopted_at,
    };
    let mut all = Figures::default();
    let mut told = [0, 0, 0];
    let mut must_count = 0.0;
    let mut left: Vec<Value> = observed.records.clone();
    for view in &observed.views {
        let spanned: Vec<&Change> = changes.iter().filter(|change| change.spans(view)).collect();
        let record = left.iter().position(|record| is_of(record, view));
        let Some(record) = record.map(|index| left.remove(index)) else {
            told[2] += 1;
            must_count += f64::from(u8::from(is_watched_in_vain(view, &changes)));
            if spanned.is_empty() {
                let (local, remote) = (view.local(), view.remote());
                let error = format!("{local} → {remote}: no record, and no change");
                all.errors.push(error);
            }
            continue;
        };
        let adopted = record["adopted"] == true;
        told[usize::from(adopted)] += 1;
        // The probes see before the daemon says so: where it judges, it must have seen.
        let blind_until = |change: &&Change| {
            let judged = !record["outcome"].is_null();
            Some(if judged { change.from } else { change.to })
        };
        let mut since: Vec<Option<i64>> = spanned.iter().map(blind_until).collect();
        if !adopted || since.is_empty() {
            since = vec![None];
        }
        let pair = (from_ref(view), from_ref(&record));
        let compared = since
            .into_iter()
            .map(|since| compare(pair.0, pair.1, &expectation(since)))
            .min_by_key(|figures| figures.errors.len());
        let mut figures = compared.unwrap();
        all.expected += figures.expected;
        all.right += figures.right;
        all.errors.append(&mut figures.errors);
        all.differences.append(&mut figures.differences);
    }
    for record in left {
        all.errors
            .push(format!("nothing captured explains {record}"));
    }
    let [exact, adopted, untold] = told;
    let forgot = changes.iter().filter(|change| change.forgets).count();
    eprintln!(
        "{CHANGES} changes of version, {forgot} of them forgot: of {} ends of connections {exact} as ever, {adopted} adopted, {untold} without a record, of which {must_count} are counted for certain ({undecided} are); {losses:?}",
        observed.views.len()
    );
    all.settle("no_record_is_wrong_over_changes_of_version_under_load");
    assert!(exact > 10 * CHANGES, "that was no load");
    assert!(must_count <= undecided, "some were counted nowhere");
    assert!(forgot == 0 || must_count > 0.0, "none ended undecided");
}

/// Whether one daemon that did not know it had it among the candidates, saw it end, and was asked afterwards. The RST of
/// a local abort comes after the end, so there no segment may have passed before.
fn is_watched_in_vain(view: &View, changes: &[Change]) -> bool {
    let ends = [
        view.client.fin,
        view.client.rst,
        view.server.fin,
        view.server.rst,
    ];
    let first = ends.iter().flatten().map(|moment| moment.at).min();
    let Some(last_change) = changes.iter().rposition(|change| change.spans(view)) else {
        return false;
    };
    let asked = changes.get(last_change + 1).map(|change| change.asked);
    let local = match view.role {
        Role::Client => view.client,
        Role::Server => view.server,
    };
    local.rst.is_none()
        && first.is_some_and(|first| first > changes[last_change].to)
        && last(view) + MOMENT < asked.unwrap_or(i64::MAX)
}

/// A port may serve one connection after another.
fn is_of(record: &Value, view: &View) -> bool {
    let ended = record["ended_at"].as_str().unwrap_or_default();
    let ended: Timestamp = ended.parse().unwrap();
    let ended = i64::try_from(ended.as_nanosecond()).unwrap();
    record["role"] == view.role.name()
        && record["local"] == view.local().to_string()
        && record["remote"] == view.remote().to_string()
        && view.opened_at < ended
        && ended < last(view) + MOMENT
}

/// Its last FIN or RST.
fn last(view: &View) -> i64 {
    let (client, server) = (view.client, view.server);
    let ends = [client.fin, client.rst, server.fin, server.rst];
    let ends = ends.iter().flatten().map(|moment| moment.at);
    ends.max().unwrap_or(i64::MAX - MOMENT)
}

impl Change {
    /// Whether it came while the connection lived, and took along what was known of it.
    fn spans(&self, view: &View) -> bool {
        self.forgets && view.opened_at < self.to && self.from < last(view) + MOMENT
    }
}
