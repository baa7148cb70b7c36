//! The daemon itself, and the help.

use ratatui::text::{Line, Span};

use super::theme::Theme;
use crate::top::{
    answers::{Answers, Health},
    columns::Moment,
    text::{left, width, wrap},
    words::{age, count, duration},
};

/// The daemon in a line: as much as there is room for, what is wrong first.
pub(super) fn health_line(health: &Health, at: Moment, room: usize, theme: Theme) -> Line<'static> {
    let mut parts: Vec<(String, bool)> = vec![(format!("closewatch {}", health.version), false)];
    parts.extend(facts(health, at));
    parts[1..].sort_by_key(|(_, bad)| !bad);
    let mut left = room;
    let mut spans = Vec::new();
    for (part, bad) in parts {
        let part = if spans.is_empty() {
            part
        } else {
            format!(" · {part}")
        };
        if width(&part) > left {
            break;
        }
        left -= width(&part);
        spans.push(Span::styled(
            part,
            if bad { theme.bad() } else { theme.quiet() },
        ));
    }
    Line::from(spans)
}

/// Each with whether it is bad.
pub(in crate::top) fn facts(health: &Health, at: Moment) -> Vec<(String, bool)> {
    let lost = health.unseen("_lost_total");
    let folded = health.unseen("_folded_total");
    let gaps = health
        .unseen("_swept_total")
        .saturating_add(health.unseen("_failed_total"))
        .saturating_add(health.unseen("_unparsed_total"));
    let attached = health.attached();
    let probes = health.probes.len();
    let mut facts = vec![
        (format!("lost {}", count(lost)), lost > 0),
        (format!("folded {}", count(folded)), folded > 0),
        (
            format!("up {}", age(health.uptime_seconds + at.since)),
            false,
        ),
    ];
    if attached < probes {
        facts.push((format!("{attached} of {probes} probes attached"), true));
    } else {
        facts.push((format!("{probes} probes"), false));
    }
    facts.push((format!("{} live", count(health.connections)), false));
    let servers = &health.servers;
    facts.push((
        format!("{} of {} servers", count(servers.known), count(servers.max)),
        servers.known >= servers.max,
    ));
    if gaps > 0 {
        facts.push((format!("gaps {} (h)", count(gaps)), false));
    }
    match &health.records {
        None => facts.push(("no records".to_owned(), false)),
        Some(records) if records.lost > 0 => {
            facts.push((format!("{} records lost", count(records.lost)), true))
        }
        Some(records) => facts.push((format!("{} records", count(records.written)), false)),
    }
    facts
}

/// The daemon in full.
pub(super) fn health(health: &Health, at: Moment, room: usize, theme: Theme) -> Vec<Line<'static>> {
    let fact = |name: &str, value: String, bad: bool| {
        Line::from(vec![
            Span::styled(left(name, 13), theme.quiet()),
            Span::styled(
                value,
                if bad {
                    theme.bad()
                } else {
                    theme
                        .title()
                        .remove_modifier(ratatui::style::Modifier::BOLD)
                },
            ),
        ])
    };
    let detached: Vec<&str> = health
        .probes
        .iter()
        .filter(|probe| !probe.attached)
        .map(|probe| probe.name.as_str())
        .collect();
    let mut lines = vec![
        Line::styled("The daemon itself", theme.title()),
        fact("version", health.version.to_string(), false),
        fact("up", age(health.uptime_seconds + at.since), false),
        fact(
            "connections",
            format!("{} live", count(health.connections)),
            false,
        ),
        fact(
            "servers",
            format!(
                "{} with figures of their own, {} at most",
                count(health.servers.known),
                count(health.servers.max)
            ),
            health.servers.known >= health.servers.max,
        ),
        match &health.records {
            None => fact("records", "none are written".to_owned(), false),
            Some(records) => fact(
                "records",
                format!(
                    "{} written, {} lost",
                    count(records.written),
                    count(records.lost)
                ),
                records.lost > 0,
            ),
        },
        fact(
            "probes",
            format!("{} of {} attached", health.attached(), health.probes.len()),
            !detached.is_empty(),
        ),
    ];
    if !detached.is_empty() {
        lines.push(fact(
            "",
            format!("not attached: {}", detached.join(", ")),
            true,
        ));
    }
    lines.push(Line::default());
    let mut above: Vec<_> = health
        .unseen
        .iter()
        .filter(|counter| counter.count > 0)
        .collect();
    above.sort_by_key(|counter| std::cmp::Reverse(counter.count));
    if above.is_empty() {
        lines.push(Line::styled(
            "Nothing was missed: all that is seen is told.",
            theme.good(),
        ));
        return lines;
    }
    lines.push(Line::styled(
        "What could not be seen or told",
        theme.title(),
    ));
    for counter in above {
        let labels: Vec<String> = counter
            .labels
            .iter()
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        let metric = counter
            .metric
            .as_str()
            .trim_start_matches("closewatch_")
            .trim_end_matches("_total");
        let text = format!("{} {}", metric.replace('_', " "), labels.join(", "));
        let number = count(counter.count);
        let beginning = format!("{number:>12}  ");
        for (index, line) in wrap(text.trim_end(), room.saturating_sub(14))
            .into_iter()
            .enumerate()
        {
            let beginning = if index == 0 {
                beginning.clone()
            } else {
                " ".repeat(14)
            };
            lines.push(Line::raw(beginning + &line));
        }
    }
    lines
}

const KEYS: [(&str, &str); 13] = [
    ("↑ ↓  k j", "select, or scroll"),
    ("PgUp PgDn", "a page; Home and End (g and G): to the ends"),
    ("Enter", "the details of the selected server, and back"),
    ("Tab", "from the servers to what hangs, and back"),
    ("Esc", "back; on the overview: takes the filter away"),
    ("/", "show only servers and hosts with this text in them"),
    (
        "s",
        "sort by the next column; after the last one: worst first",
    ),
    ("S", "the other way round"),
    (
        "r",
        "only servers of this host (role server), only those called from it (role client), or both",
    ),
    (
        "p",
        "pause: nothing changes and nothing is asked; again: go on",
    ),
    ("h", "the daemon itself, and what it could not see"),
    ("?", "this help"),
    ("q Ctrl-C", "quit; Ctrl-Z: to the shell"),
];

/// The columns in words. `{slow}` is the threshold.
const COLUMNS: [(&str, &str); 9] = [
    ("!", "the server is flagged: it delays closing"),
    ("slow for", "how long it is flagged already"),
    (
        "live",
        "connections: open; closing (one Close frame); no FIN (both Close frames, and no end closed TCP); half (one end closed)",
    ),
    (
        "hangs",
        "how long the connection that hangs longest does so: without FIN, or half closed",
    ),
    (
        "closes",
        "connections that ended since the daemon began, and the share of slow closes: longer than {slow}, and the server's fault",
    ),
    (
        "waits",
        "of the slow closes of the last 5 minutes: between the second Close frame and the first FIN or RST. Where the client gave up it is the client's patience, less than the server's delay",
    ),
    (
        "TIME_WAIT",
        "connections by who closed TCP first and took TIME_WAIT; it should be the server. now: in this kernel at present",
    ),
    ("host", "Host of the latest openings"),
    ("–", "not known, or there is none"),
];

pub(super) fn help(answers: Option<&Answers>, room: usize, theme: Theme) -> Vec<Line<'static>> {
    let slow = answers.map_or_else(
        || "slow-after".to_owned(),
        |answers| duration(answers.servers.slow_after_seconds),
    );
    let mut lines = vec![Line::styled("Keys", theme.title())];
    let explain = |lines: &mut Vec<Line<'static>>, word: &str, text: &str| {
        for (index, line) in wrap(text, room.saturating_sub(12)).into_iter().enumerate() {
            let word = left(if index == 0 { word } else { "" }, 12);
            lines.push(Line::from(vec![
                Span::styled(word, theme.title()),
                Span::raw(line),
            ]));
        }
    };
    for (key, text) in KEYS {
        explain(&mut lines, key, text);
    }
    lines.push(Line::default());
    lines.push(Line::styled("Columns", theme.title()));
    for (column, text) in COLUMNS {
        explain(&mut lines, column, &text.replace("{slow}", &slow));
    }
    lines
}
