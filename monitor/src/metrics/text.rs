//! The Prometheus text of the series of all servers (text format 0.0.4).
//!
//! In: a copy of the numbers. Out: families, each with its samples in the order of their labels, a piece
//! at a time. What peers wrote, a host say, is escaped here.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use super::{
    ROLES,
    families::{Family, Numbers, Value, families},
    series::{Histogram, Series, index},
    sink::{Length, Sink},
};
use crate::{outcome::role_name, servers::Label};

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
}

/// One server in one role.
struct Row {
    /// The labels role and server, and [`CLOSE`].
    labels: String,
    /// The bits of the values of which it tells more than 0. Most are 0, and to look at the numbers of all servers
    /// for each value anew would mean to wait for memory each time.
    marks: u64,
    /// Its place among the copied.
    at: usize,
}

/// What follows labels.
const CLOSE: &str = "} ";

/// The text of all series, and how much of it was taken.
pub(super) struct Text {
    servers: Vec<(Label, Series)>,
    /// In the order of labels.
    rows: Vec<Row>,
    length: usize,
    families: Vec<Family>,
    edges: Vec<Edge>,
    next: Place,
}

/// What follows the other labels of a bucket.
struct Edge {
    /// Up to its number.
    open: String,
    /// With the number 0, which most have, to the end of the line.
    zero: String,
}

/// What comes next: of this family, with this value of its label, of this row.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    family: usize,
    value: usize,
    row: usize,
    /// The family's head was written.
    begun: bool,
}

impl Text {
    pub(super) fn of(copied: Copied) -> Self {
        let servers = copied.rows;
        let edges = copied.edges.iter().map(f64::to_string);
        let edges = edges.chain(["+Inf".to_owned()]);
        let edges: Vec<Edge> = edges.map(|edge| Edge::new(&edge)).collect();
        let families = families();
        let mut rows = Vec::with_capacity(servers.len());
        let mut length = Length::default();
        let mut begun = vec![false; families.len()];
        let mut scratch = Scratch::default();
        for (at, (label, series)) in servers.iter().enumerate() {
            // An address, or `other`: nothing to escape.
            let (role, server) = (role_name(label.role), &label.server);
            let mut row = Row {
                labels: format!("role=\"{role}\",server=\"{server}\"{CLOSE}"),
                marks: 0,
                at,
            };
            for (family, begun) in families.iter().zip(&mut begun) {
                let mut samples = Samples {
                    sink: &mut length,
                    family,
                    edges: &edges,
                    begun,
                    scratch: &mut scratch,
                };
                for value in &family.values {
                    if family.numbers.tells(label, series, value.at) {
                        row.marks |= value.bit;
                    }
                    samples.of(&row, value, &servers);
                }
            }
            rows.push(row);
        }
        rows.sort_unstable_by_key(|row: &Row| {
            let label = &servers[row.at].0;
            (role_name(label.role), label.server.as_str())
        });
        Self {
            rows,
            length: length.length(),
            servers,
            families,
            edges,
            next: Place::default(),
        }
    }

    /// How many bytes all of it is.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Adds what comes next to `piece`, until that is as long as `enough` or a little longer. Adds
    /// nothing when all of it was taken.
    pub(super) fn take(&mut self, piece: &mut Vec<u8>, enough: usize) {
        let Self { rows, next, .. } = self;
        let mut scratch = Scratch::default();
        while let Some(family) = self.families.get(next.family) {
            let mut samples = Samples {
                sink: piece,
                family,
                edges: &self.edges,
                begun: &mut next.begun,
                scratch: &mut scratch,
            };
            while let Some(value) = family.values.get(next.value) {
                while let Some(row) = rows.get(next.row) {
                    if samples.sink.len() >= enough {
                        return;
                    }
                    samples.of(row, value, &self.servers);
                    next.row += 1;
                }
                next.row = 0;
                next.value += 1;
            }
            *next = Place {
                family: next.family + 1,
                ..Place::default()
            };
        }
    }
}

impl Edge {
    fn new(edge: &str) -> Self {
        let open = format!(",le=\"{edge}\"{CLOSE}");
        let zero = format!("{open}0\n");
        Self { open, zero }
    }
}

/// The samples of one family, whose head is written with the first: none without a sample.
struct Samples<'a, S> {
    sink: &'a mut S,
    family: &'a Family,
    edges: &'a [Edge],
    begun: &'a mut bool,
    scratch: &'a mut Scratch,
}

/// Memory that is used for one histogram after the other.
#[derive(Default)]
struct Scratch {
    /// What all buckets begin with.
    bucket: String,
    /// The number of the latest.
    number: String,
}

impl<S: Sink> Samples<'_, S> {
    /// What `row` has of the family with this value of its label.
    fn of(&mut self, row: &Row, value: &Value, servers: &[(Label, Series)]) {
        if row.marks & value.bit == 0 {
            if self.family.numbers.has_zeros() {
                self.zero(row, value);
            }
            return;
        }
        let ((label, series), at) = (&servers[row.at], value.at);
        match self.family.numbers {
            Numbers::Integer(number) => self.integer(row, value, number(series, at)),
            Numbers::Seconds(number) => {
                self.open(&value.opens[0], row);
                self.sink.float(number(series));
            }
            Numbers::Histogram(of) => self.histogram(row, value, of(series, at)),
            Numbers::Slow if label.is_other() => {}
            Numbers::Slow => self.integer(row, value, u64::from(series.slow)),
            Numbers::TimeWaitSockets => {
                if let Some(count) = series.time_wait_sockets {
                    self.integer(row, value, count);
                }
            }
            Numbers::CloseFrames => self.close_frames(label, series, value),
            Numbers::Info => self.info(label, series, value),
        }
    }

    fn zero(&mut self, row: &Row, value: &Value) {
        let mut opens = value.opens.as_slice();
        if let Numbers::Histogram(_) = self.family.numbers {
            self.begin();
            self.bucket(&value.opens[0], row);
            for edge in self.edges {
                self.sink.push(&self.scratch.bucket);
                self.sink.push(&edge.zero);
            }
            opens = &opens[1..];
        }
        for open in opens {
            self.open(open, row);
            self.sink.integer(0);
        }
    }

    fn integer(&mut self, row: &Row, value: &Value, number: u64) {
        self.open(&value.opens[0], row);
        self.sink.integer(number);
    }

    /// A sample up to its number.
    fn open(&mut self, open: &str, row: &Row) {
        self.begin();
        self.sink.push(open);
        self.sink.push(&row.labels);
    }

    /// Makes what all buckets of a histogram begin with.
    fn bucket(&mut self, open: &str, row: &Row) {
        let bucket = &mut self.scratch.bucket;
        bucket.clear();
        let labels = row.labels.strip_suffix(CLOSE);
        push(bucket, &[open, labels.unwrap_or_default()]);
    }

    fn histogram(&mut self, row: &Row, value: &Value, histogram: &Histogram) {
        self.begin();
        self.bucket(&value.opens[0], row);
        let Scratch { bucket, number } = &mut *self.scratch;
        let mut count = 0;
        for (edge, more) in self.edges.iter().zip(&histogram.buckets) {
            if *more > 0 {
                count += more;
                number.clear();
                number.integer(count);
            }
            self.sink.push(bucket);
            if count == 0 {
                self.sink.push(&edge.zero);
            } else {
                push(self.sink, &[&edge.open, number]);
            }
        }
        self.open(&value.opens[1], row);
        self.sink.float(histogram.sum.as_secs_f64());
        self.open(&value.opens[2], row);
        self.sink.integer(count);
    }

    /// Codes come as they are seen.
    fn close_frames(&mut self, label: &Label, series: &Series, value: &Value) {
        for sender in ROLES {
            let count = series.close_frames[index(sender)][value.at];
            if count > 0 {
                self.begin();
                let labels = [
                    &value.opens[0],
                    "role=\"",
                    role_name(label.role),
                    "\",sender=\"",
                    role_name(sender),
                    "\",server=\"",
                    &label.server,
                    "\"",
                    CLOSE,
                ];
                push(self.sink, &labels);
                self.sink.integer(count);
            }
        }
    }

    fn info(&mut self, label: &Label, series: &Series, value: &Value) {
        if let Some([host, software]) = &series.info {
            self.begin();
            let labels = [
                &value.opens[0],
                "host=\"",
                &escape(host),
                "\",server=\"",
                &label.server,
                "\",software=\"",
                &escape(software),
                "\"",
                CLOSE,
            ];
            push(self.sink, &labels);
            self.sink.integer(1);
        }
    }

    fn begin(&mut self) {
        let Family {
            name, kind, help, ..
        } = self.family;
        if !*self.begun {
            *self.begun = true;
            push(self.sink, &["# HELP closewatch_", name, " ", help, "\n"]);
            push(self.sink, &["# TYPE closewatch_", name, " ", kind, "\n"]);
        }
    }
}

fn push(sink: &mut impl Sink, parts: &[&str]) {
    for part in parts {
        sink.push(part);
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
