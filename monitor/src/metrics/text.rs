//! The Prometheus text of the series of all servers (text format 0.0.4).
//!
//! In: a copy of the numbers. Out: families, each with its samples in the order of their labels. What
//! peers wrote, a host say, is escaped here.

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt::{Display, Write as _},
    sync::Arc,
};

use itoa::Buffer;
use monitor_ebpf::event::Role;

use super::{
    ROLES,
    series::{Histogram, Series, index},
};
use crate::{
    labels::{codes, outcome_name, outcomes},
    outcome::role_name,
    servers::Label,
    tracker::Phase,
};

/// About what a server in one role takes: with thousands of them, growing the text by and by would take
/// twice the memory.
const ROW_BYTES: usize = 9_200;

/// The series of all servers at one moment.
#[derive(Debug)]
pub(super) struct Copied {
    edges: Arc<[f64]>,
    rows: Vec<(Label, Series)>,
}

impl Copied {
    pub(super) fn of(series: &HashMap<Label, Series>, edges: &Arc<[f64]>) -> Self {
        let rows = series
            .iter()
            .map(|(label, series)| (label.clone(), series.clone()));
        Self {
            edges: Arc::clone(edges),
            rows: rows.collect(),
        }
    }

    pub(super) fn encode(&self, out: &mut String) {
        out.reserve(self.rows.len() * ROW_BYTES);
        let mut rows: Vec<Row<'_>> = self.rows.iter().map(Row::new).collect();
        rows.sort_unstable_by_key(|row| (role_name(row.role), row.server));
        let edges = self.edges.iter().map(f64::to_string);
        let edges = edges.chain(["+Inf".to_owned()]);
        let edges = edges.map(|edge| format!(",le=\"{edge}\"}} ")).collect();
        Text { out, rows, edges }.write();
    }
}

/// One server in one role.
struct Row<'a> {
    role: Role,
    server: &'a str,
    /// The labels role and server.
    labels: String,
    is_other: bool,
    series: &'a Series,
}

impl<'a> Row<'a> {
    fn new((label, series): &'a (Label, Series)) -> Self {
        // An address, or `other`: nothing to escape.
        let (role, server) = (role_name(label.role), label.server.as_str());
        Self {
            role: label.role,
            server,
            labels: format!("role=\"{role}\",server=\"{server}\""),
            is_other: label.is_other(),
            series,
        }
    }
}

/// A label's value as text, and the place of what it stands for.
type Value = (String, usize);

/// The values of a label that comes before role and server, in order.
fn values(label: &str, values: impl Iterator<Item = impl Display>) -> Vec<Value> {
    let values = values.zip(0..);
    let mut values: Vec<Value> = values
        .map(|(value, at)| (format!("{label}=\"{value}\","), at))
        .collect();
    values.sort_unstable();
    values
}

/// For a family that has no label but role and server.
fn no_more() -> Vec<Value> {
    vec![(String::new(), 0)]
}

struct Text<'a> {
    out: &'a mut String,
    rows: Vec<Row<'a>>,
    /// What follows the other labels of a bucket, up to its number.
    edges: Vec<String>,
}

impl Text<'_> {
    fn write(mut self) {
        self.family(
            "awaiting_fin_oldest_seconds",
            "gauge",
            "How long the connection that awaits the first FIN for longest does so already; 0 when none does.",
            &no_more(),
            |row, _| Some(row.series.awaiting_fin_oldest.as_secs_f64()),
        );
        self.close_frames();
        self.histograms(
            "close_handshake_seconds",
            "From the first Close frame to the second.",
            &no_more(),
            |series, _| &series.close_handshake,
        );
        self.histograms(
            "close_to_fin_seconds",
            "From the second Close frame to the first FIN or RST, by the end that sent it. With first_end=\"client\" it is the client's patience: a lower bound of the server's delay.",
            &values("first_end", ROLES.map(role_name).into_iter()),
            |series, end| &series.close_to_fin[end],
        );
        self.family(
            "connections",
            "gauge",
            "Live WebSocket connections by phase: open, awaiting_close_frame (one Close frame), awaiting_fin (closing handshake complete, no FIN), half_closed (a FIN, the socket still there).",
            &values("phase", Phase::ALL.map(Phase::name).into_iter()),
            |row, phase| Some(row.series.phases[phase]),
        );
        self.family(
            "connections_adopted_total",
            "counter",
            "WebSocket connections found by their frames, because their opening was not seen: most were open before closewatch started.",
            &no_more(),
            |row, _| Some(row.series.adopted),
        );
        self.family(
            "connections_ended_total",
            "counter",
            "WebSocket connections whose socket is gone, by outcome.",
            &values("outcome", outcomes().map(outcome_name)),
            |row, outcome| Some(row.series.ended[outcome]),
        );
        self.family(
            "connections_opened_total",
            "counter",
            "WebSocket openings (HTTP 101) seen.",
            &no_more(),
            |row, _| Some(row.series.opened),
        );
        self.family(
            "half_closed_oldest_seconds",
            "gauge",
            "How long ago the first FIN or RST came, of the connection of which that is longest and whose socket is still there; 0 when there is none. With role=\"server\" and growing: a CLOSE_WAIT leak.",
            &no_more(),
            |row, _| Some(row.series.half_closed_oldest.as_secs_f64()),
        );
        self.server_info();
        self.family(
            "server_slow",
            "gauge",
            "1 while the server is flagged: 3 or more ended connections in 5 minutes and a tenth of them slow closes, or one that awaits the FIN for longer than 10 s and slow-after; lowered when for 5 minutes none did and less than a twentieth were slow.",
            &no_more(),
            |row, _| (!row.is_other).then_some(u64::from(row.series.slow)),
        );
        self.family(
            "time_wait_entered_total",
            "counter",
            "Ended connections by the end that took TIME_WAIT: it sent the first FIN, and no RST passed before the second; both ends when their FINs crossed.",
            &values("holder", ROLES.map(role_name).into_iter()),
            |row, holder| Some(row.series.time_wait_entered[holder]),
        );
        self.family(
            "time_wait_sockets",
            "gauge",
            "Sockets of connections with the server that are in TIME_WAIT in this kernel now, at most 5 s old: held by the server with role=\"server\", by clients with role=\"client\".",
            &no_more(),
            |row, _| row.series.time_wait_sockets,
        );
    }

    /// A sample for each value of one more label and each row, where there is a number.
    fn family<N: Number>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        more: &[Value],
        number: impl Fn(&Row<'_>, usize) -> Option<N>,
    ) {
        let mut family = Family::new(self.out, name, kind, help);
        for (label, at) in more {
            for row in &self.rows {
                if let Some(number) = number(row, *at) {
                    family.sample("", &[label, &row.labels], number);
                }
            }
        }
    }

    fn histograms(
        &mut self,
        name: &str,
        help: &str,
        more: &[Value],
        histogram: impl Fn(&Series, usize) -> &Histogram,
    ) {
        let mut family = Family::new(self.out, name, "histogram", help);
        for (label, at) in more {
            for row in &self.rows {
                let histogram = histogram(row.series, *at);
                let count = family.buckets(&[label, &row.labels], &self.edges, histogram);
                family.sample("_sum", &[label, &row.labels], histogram.sum.as_secs_f64());
                family.sample("_count", &[label, &row.labels], count);
            }
        }
    }

    /// Codes come as they are seen.
    fn close_frames(&mut self) {
        let mut family = Family::new(
            self.out,
            "close_frames_total",
            "counter",
            "First Close frames by sender and status code (1000 to 1015, 3xxx, 4xxx, none, invalid).",
        );
        for (code, at) in values("code", codes()) {
            for row in &self.rows {
                for sender in ROLES {
                    let count = row.series.close_frames[index(sender)][at];
                    if count > 0 {
                        let labels = format!(
                            "{code}role=\"{}\",sender=\"{}\",server=\"{}\"",
                            role_name(row.role),
                            role_name(sender),
                            row.server
                        );
                        family.sample("", &[&labels], count);
                    }
                }
            }
        }
    }

    fn server_info(&mut self) {
        let mut family = Family::new(
            self.out,
            "server_info",
            "gauge",
            "1, with the Host and the Server header of the first opening to a server that clients on this host connect to.",
        );
        for row in &self.rows {
            if let Some([host, software]) = &row.series.info {
                let labels = format!(
                    "host=\"{}\",server=\"{}\",software=\"{}\"",
                    escape(host),
                    row.server,
                    escape(software)
                );
                family.sample("", &[&labels], 1u64);
            }
        }
    }
}

/// A family whose head is written with its first sample: none without a sample.
struct Family<'a> {
    out: &'a mut String,
    name: &'a str,
    kind: &'a str,
    help: &'a str,
    begun: bool,
    /// What all buckets of a histogram begin with.
    bucket: String,
}

impl<'a> Family<'a> {
    fn new(out: &'a mut String, name: &'a str, kind: &'a str, help: &'a str) -> Self {
        Self {
            out,
            name,
            kind,
            help,
            begun: false,
            bucket: String::new(),
        }
    }

    fn sample(&mut self, suffix: &str, labels: &[&str], number: impl Number) {
        self.begin();
        push(self.out, &["closewatch_", self.name, suffix, "{"]);
        push(self.out, labels);
        self.out.push_str("} ");
        number.push_to(self.out);
        self.out.push('\n');
    }

    /// A histogram's buckets, up to each edge. Returns the count of the last, which is all.
    fn buckets(&mut self, labels: &[&str], edges: &[String], histogram: &Histogram) -> u64 {
        self.begin();
        self.bucket.clear();
        push(
            &mut self.bucket,
            &["closewatch_", self.name, "_bucket", "{"],
        );
        push(&mut self.bucket, labels);
        let mut count = 0;
        for (edge, bucket) in edges.iter().zip(&histogram.buckets) {
            count += bucket;
            push(self.out, &[&self.bucket, edge]);
            count.push_to(self.out);
            self.out.push('\n');
        }
        count
    }

    fn begin(&mut self) {
        let Self {
            name, kind, help, ..
        } = *self;
        if !self.begun {
            self.begun = true;
            push(self.out, &["# HELP closewatch_", name, " ", help, "\n"]);
            push(self.out, &["# TYPE closewatch_", name, " ", kind, "\n"]);
        }
    }
}

fn push(out: &mut String, parts: &[&str]) {
    for part in parts {
        out.push_str(part);
    }
}

/// What a sample says. Most of a scrape's numbers are 0: they must cost next to nothing.
trait Number: Copy {
    fn push_to(self, out: &mut String);
}

impl Number for u64 {
    fn push_to(self, out: &mut String) {
        out.push_str(Buffer::new().format(self));
    }
}

impl Number for f64 {
    fn push_to(self, out: &mut String) {
        if self == 0.0 {
            out.push('0');
        } else {
            // Writing to a string does not fail.
            let _ = write!(out, "{self}");
        }
    }
}

/// A label's value, as the format wants it.
fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['\\', '"', '\n']) {
        return text.into();
    }
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    text.replace('\n', "\\n").into()
}
