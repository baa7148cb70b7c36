//! The daemon's records against the witness, field by field.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    figures::Figures,
    judge::{Judged, Role, Side, judge},
    sandbox::{Plays, Process},
    tcp::Moment,
    witness::{Text, View},
};

/// Times and durations may differ by so much from the capture's, where nothing else is busy.
pub(crate) const TOLERANCE: i64 = 2_000_000;
/// The reset of an aborted socket leaves right after the socket has ended; this covers the error of
/// comparing two clocks.
const ABORT_SLACK: i64 = 20_000;

const FIELDS: [&str; 33] = [
    "schema",
    "opened_at",
    "ended_at",
    "role",
    "local",
    "remote",
    "server",
    "host",
    "path",
    "subprotocol",
    "user_agent",
    "server_software",
    "tls",
    "adopted",
    "cgroup",
    "pid",
    "process",
    "initiator",
    "client_close",
    "server_close",
    "client_fin",
    "server_fin",
    "client_rst",
    "server_rst",
    "close_handshake_seconds",
    "close_to_fin_seconds",
    "server_fin_delay_seconds",
    "rtt_seconds",
    "frames_sent",
    "frames_received",
    "time_wait",
    "outcome",
    "slow",
];

pub(crate) struct Expectation<'a> {
    pub(crate) cgroup: &'a str,
    pub(crate) processes: &'a BTreeMap<u32, Process>,
    pub(crate) slow_after: i64,
    /// Times and durations may differ by so much from the capture's.
    pub(crate) tolerance: i64,
    /// A record may say that the frames it received are not known. Then their Close frame may be
    /// unknown, too, and with it who closed and how; nothing else, and nothing may be invented.
    pub(crate) may_be_lost: bool,
    /// The connection was open before the daemon, which has followed it since this time.
    pub(crate) adopted_at: Option<i64>,
}

/// Each view needs exactly one record, and each record a view.
pub(crate) fn compare(views: &[View], records: &[Value], expectation: &Expectation<'_>) -> Figures {
    let mut figures = Figures {
        expected: views.len(),
        ..Figures::default()
    };
    let mut left: Vec<&Value> = records.iter().collect();
    for view in views {
        let note = if view.disordered {
            " (its packets passed in disorder)"
        } else {
            ""
        };
        let name = format!(
            "{} {} → {}{note}",
            view.role.name(),
            view.local(),
            view.remote()
        );
        let same = |record: &&Value| {
            record["role"] == view.role.name()
                && record["local"] == view.local().to_string()
                && record["remote"] == view.remote().to_string()
                && time(&record["ended_at"]).is_some_and(|ended| ended > view.opened_at)
        };
        let Some(index) = left.iter().position(same) else {
            figures.errors.push(format!("{name}: no record"));
            continue;
        };
        let record = left.remove(index);
        let mut check = Check {
            record,
            view,
            expectation,
            errors: Vec::new(),
            differences: vec![],
        };
        check.all();
        if check.errors.is_empty() {
            figures.right += 1;
            figures.differences.append(&mut check.differences);
        } else {
            figures
                .errors
                .push(format!("{name}: {}\n    {record}", check.errors.join("; ")));
        }
    }
    figures.errors.extend(
        left.iter()
            .map(|record| format!("nothing captured explains {record}")),
    );
    figures
}

struct Check<'a> {
    record: &'a Value,
    view: &'a View,
    expectation: &'a Expectation<'a>,
    errors: Vec<String>,
    differences: Vec<i64>,
}

impl Check<'_> {
    fn all(&mut self) {
        let present: BTreeSet<&str> = self
            .record
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        if present != BTreeSet::from(FIELDS) {
            self.errors.push(format!("fields are {present:?}"));
            return;
        }
        self.same("schema", 1);
        self.same("tls", self.view.tls);
        self.same("server", self.view.server_address.to_string());
        self.same("cgroup", self.expectation.cgroup);
        self.same("adopted", self.is_adopted());
        self.opening();
        self.process();
        let rtt = &self.record["rtt_seconds"];
        if !rtt.is_null() && rtt.as_f64().is_none_or(|rtt| rtt < 0.0) {
            self.errors.push(format!("rtt_seconds is {rtt}"));
        }
        let Some(ended) = time(&self.record["ended_at"]) else {
            self.errors.push("ended_at is no time".to_owned());
            return;
        };
        let client = self.side(Role::Client, self.view.client, ended);
        let server = self.side(Role::Server, self.view.server, ended);
        self.frames("frames_sent", self.view.role, ended);
        self.frames("frames_received", self.other(), ended);
        self.judged(client, server, ended);
    }

    fn other(&self) -> Role {
        match self.view.role {
            Role::Client => Role::Server,
            Role::Server => Role::Client,
        }
    }

    /// Nothing of it is known when it passed before the daemon.
    fn opening(&mut self) {
        let texts = [
            ("host", &self.view.host),
            ("path", &self.view.path),
            ("user_agent", &self.view.user_agent),
            ("subprotocol", &self.view.subprotocol),
            ("server_software", &self.view.server_software),
        ];
        if self.is_adopted() {
            self.same("opened_at", Value::Null);
            for (field, _) in texts {
                self.same(field, Value::Null);
            }
            return;
        }
        self.time("opened_at", self.view.opened_at);
        for (field, text) in texts {
            self.text(field, text);
        }
    }

    fn is_adopted(&self) -> bool {
        self.expectation.adopted_at.is_some()
    }

    /// A Close frame of the end passed before the daemon followed the connection.
    fn passed_before(&self, side: Side) -> bool {
        let close = side.close.map(|(moment, _)| moment.at);
        close
            .zip(self.expectation.adopted_at)
            .is_some_and(|(close, adopted)| close < adopted)
    }

    /// The record says that what the remote end sent could not be followed.
    fn is_lost(&self) -> bool {
        // Frames are never known of an adopted one.
        let unknown = !self.is_adopted() || self.record["outcome"].is_null();
        self.expectation.may_be_lost && self.record["frames_received"].is_null() && unknown
    }

    /// A Close frame may have passed unseen: one of the remote end, or any before the daemon.
    fn hides_close(&self) -> bool {
        let close = format!("{}_close", self.other().name());
        let before = self.passed_before(self.view.client) || self.passed_before(self.view.server);
        before || (self.is_lost() && self.record[close].is_null())
    }

    fn same(&mut self, field: &str, expected: impl Into<Value>) {
        let expected = expected.into();
        let found = &self.record[field];
        if *found != expected {
            self.errors
                .push(format!("{field} is {found}, not {expected}"));
        }
    }

    fn time(&mut self, field: &str, expected: i64) {
        match time(&self.record[field]) {
            Some(found) => self.near(field, found, expected),
            None => self
                .errors
                .push(format!("{field} is {}", self.record[field])),
        }
    }

    fn near(&mut self, field: &str, found: i64, expected: i64) {
        let difference = (found - expected).abs();
        self.differences.push(difference);
        if difference > self.expectation.tolerance {
            self.errors
                .push(format!("{field} is {} µs off", (found - expected) / 1000));
        }
    }

    fn text(&mut self, field: &str, expected: &Text) {
        let found = &self.record[field];
        let known =
            found.as_str() == expected.value.as_deref() && (found.is_null() || found.is_string());
        let unknown = found.is_null() && expected.may_be_unknown;
        if !known && !unknown {
            self.errors
                .push(format!("{field} is {found}, not {:?}", expected.value));
        }
    }

    fn process(&mut self) {
        // Either may be unknown; a process that has gone has no name any more.
        let (pid, name) = (&self.record["pid"], &self.record["process"]);
        let plays = match self.view.role {
            Role::Client => Plays::Client,
            Role::Server => Plays::Server,
        };
        let right = self.expectation.processes.iter().any(|(known, process)| {
            (pid.is_null() || *pid == *known)
                && (name.is_null() || *name == *process.name)
                && (process.plays == Plays::Both || process.plays == plays)
        });
        if !right {
            let known = self.expectation.processes;
            self.errors
                .push(format!("process {name} {pid} is none of {known:?}"));
        }
    }

    /// Compares what an end did, and returns it as the record may know it.
    fn side(&mut self, by: Role, all: Side, ended: i64) -> Side {
        let local = by == self.view.role;
        let unseen = |moment: Moment| moment.at > ended;
        let aborted = |moment: Moment| local && moment.at > ended - ABORT_SLACK;
        let name = by.name();
        let mut known = all;

        let close = &self.record[&format!("{name}_close")];
        match (close.is_null(), all.close) {
            (true, None) => {}
            (true, Some((moment, _))) if unseen(moment) => known.close = None,
            (true, Some(_)) if self.passed_before(all) => known.close = None,
            (true, Some(_)) if !local && self.hides_close() => known.close = None,
            (false, Some((moment, code))) => {
                match time(&close["time"]) {
                    Some(found) => self.near(&format!("{name}_close"), found, moment.at),
                    None => self.errors.push(format!("{name}_close is {close}")),
                }
                if close["code"] != Value::from(code) {
                    self.errors
                        .push(format!("{name}_close is {close}, not {code:?}"));
                }
            }
            (_, expected) => self
                .errors
                .push(format!("{name}_close is {close}, not {expected:?}")),
        }
        let fin = self.segment(&format!("{name}_fin"), all.fin, all.fin.is_some_and(unseen));
        let rst_unseen = all
            .rst
            .is_some_and(|moment| unseen(moment) || aborted(moment));
        let rst = self.segment(&format!("{name}_rst"), all.rst, rst_unseen);
        // The end itself knows that it aborted, whether or not its reset was seen to leave.
        if !fin && !local {
            known.fin = None;
        }
        if !rst && !local {
            known.rst = None;
        }
        known
    }

    /// Whether the record has the segment.
    fn segment(&mut self, field: &str, expected: Option<Moment>, may_be_unseen: bool) -> bool {
        let found = time(&self.record[field]);
        match (found, expected) {
            (Some(found), Some(expected)) => self.near(field, found, expected.at),
            (None, None) => {}
            (None, Some(_)) if may_be_unseen => {}
            (found, expected) => {
                self.errors
                    .push(format!("{field} is {found:?}, not {expected:?}"));
            }
        }
        found.is_some()
    }

    fn frames(&mut self, field: &str, by: Role, ended: i64) {
        if self.is_adopted() {
            self.same(field, Value::Null);
            return;
        }
        let found = &self.record[field];
        let all = self.view.frames(by, i64::MAX);
        let seen = self.view.frames(by, ended);
        let right = if found.is_null() {
            all.is_none() || (by == self.other() && self.is_lost())
        } else {
            [all, seen].contains(&found.as_u64())
        };
        if !right {
            self.errors.push(format!(
                "{field} is {found}, not {all:?} ({seen:?} until it ended)"
            ));
        }
    }

    /// The order of packets that crossed on loopback is each end's own: any will do.
    fn judged(&mut self, client: Side, server: Side, ended: i64) {
        let (local, remote) = match self.view.role {
            Role::Client => (client, server),
            Role::Server => (server, client),
        };
        let mut shifts = vec![0];
        for mine in local.moments() {
            for theirs in remote.moments() {
                let apart = mine.at - theirs.at;
                if mine.crosses(theirs) && apart.abs() <= self.expectation.tolerance {
                    shifts.push(if apart >= 0 { apart + 1 } else { apart - 1 });
                }
            }
        }
        let Some(first_end) = local.end().into_iter().chain(remote.end()).min() else {
            self.errors
                .push("a record of a connection that has not ended".to_owned());
            return;
        };
        if ended < first_end - self.expectation.tolerance {
            self.errors
                .push("ended_at is before the first end".to_owned());
        }
        let mut first = None;
        for shift in shifts {
            let (client, server) = match self.view.role {
                Role::Client => (client, server.shifted(shift)),
                Role::Server => (client.shifted(shift), server),
            };
            let judged = judge(client, server, self.expectation.slow_after);
            let Some(judged) = judged else { continue };
            let (errors, mut differences) = self.against(&judged);
            if errors.is_empty() {
                self.differences.append(&mut differences);
                return;
            }
            first.get_or_insert(errors);
        }
        self.errors.extend(first.unwrap_or_default());
    }

    fn against(&self, judged: &Judged) -> (Vec<String>, Vec<i64>) {
        let (mut errors, mut differences) = (Vec::new(), Vec::new());
        let (initiator, outcome, slow) = if self.hides_close() {
            (Value::Null, Value::Null, Value::Null)
        } else {
            let initiator = judged.initiator.map(Role::name);
            (initiator.into(), judged.outcome.into(), judged.slow.into())
        };
        for (field, expected) in [
            ("initiator", initiator),
            ("time_wait", Value::from(judged.time_wait)),
            ("outcome", outcome),
            ("slow", slow),
        ] {
            if self.record[field] != expected {
                errors.push(format!("{field} is {}, not {expected}", self.record[field]));
            }
        }
        let no_server_end =
            self.record["server_fin"].is_null() && self.record["server_rst"].is_null();
        for (field, expected, may_be_unseen) in [
            ("close_handshake_seconds", judged.close_handshake, false),
            ("close_to_fin_seconds", judged.close_to_fin, false),
            (
                "server_fin_delay_seconds",
                judged.server_fin_delay,
                no_server_end,
            ),
        ] {
            let found = &self.record[field];
            match (found.as_f64(), expected) {
                (Some(seconds), Some(expected)) => {
                    let difference = ((seconds * 1e9) as i64 - expected).abs();
                    differences.push(difference);
                    if difference > self.expectation.tolerance {
                        errors.push(format!("{field} is {found}, not {expected} ns"));
                    }
                }
                (None, None) if found.is_null() => {}
                (None, Some(_)) if found.is_null() && may_be_unseen => {}
                (_, expected) => errors.push(format!("{field} is {found}, not {expected:?} ns")),
            }
        }
        (errors, differences)
    }
}

/// Nanoseconds since 1970.
fn time(value: &Value) -> Option<i64> {
    let timestamp: Timestamp = value.as_str()?.parse().ok()?;
    i64::try_from(timestamp.as_nanosecond()).ok()
}
