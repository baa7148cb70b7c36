//! One server in full: its figures, the histogram, the last hour, and what hangs there.

use jiff::Timestamp;
use ratatui::{
    style::Style,
    text::{Line, Span},
};

use super::{overview::title, tables, theme::Theme};
use crate::top::{
    answers::{Answers, Key, LastHour, Server, Window},
    columns::{Moment, hosts},
    hanging::Hang,
    model::Model,
    text::{left, right, width, wrap},
    words::{NONE, age, count, duration, edge, or_none, percent, share},
};

/// The names of the facts.
const NAMES: usize = 13;
const LEVELS: [&str; 8] = ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];

pub(super) fn lines(
    model: &Model,
    key: &Key,
    answers: &Answers,
    at: Moment,
    room: usize,
    theme: Theme,
) -> Vec<Line<'static>> {
    let name = Line::from(vec![
        Span::styled(key.server.to_string(), theme.title()),
        Span::styled(format!("  role {}", key.role.name()), theme.quiet()),
    ]);
    let Some((server, hanging)) = model.detail(key) else {
        let text =
            "The daemon has forgotten this server: nothing was heard of it for --server-ttl.";
        let mut lines = vec![name];
        lines.extend(wrap(text, room).into_iter().map(Line::raw));
        return lines;
    };
    let mut lines = vec![name, flag(server, at, theme)];
    lines.extend(figures(server, at, room, theme));
    lines.extend(last_hour(&server.last_hour, room, theme));
    lines.push(Line::default());
    lines.extend(histogram(server, answers, room, theme));
    lines.push(Line::default());
    match hanging {
        _ if key.server.as_str() == "other" => lines.extend(
            wrap("\"other\" stands for all servers without figures of their own; what hangs there is on the overview.", room)
                .into_iter()
                .map(|line| Line::styled(line, theme.quiet())),
        ),
        None => lines.push(title("Hanging here", "asking …", &[], room, theme)),
        Some(hanging) if hanging.all.is_empty() => {
            lines.push(title("Hanging here", "nothing", &[], room, theme));
        }
        Some(hanging) => {
            let all: Vec<&Hang> = hanging.all.iter().collect();
            let table = tables::hanging(&all, at, true, theme);
            let fitted = table.fit(room);
            let more = if hanging.more { "the longest of more" } else { "longest first" };
            let what = format!("{}, {more}", count(all.len() as u64));
            lines.push(title("Hanging here", &what, &[], room, theme));
            lines.push(table.titles(&fitted, theme));
            lines.extend((0..table.len()).map(|index| table.row(index, &fitted, false, theme)));
        }
    }
    lines
}

fn flag(server: &Server, at: Moment, theme: Theme) -> Line<'static> {
    let Some(since) = server.slow_since.filter(|_| server.slow) else {
        return Line::styled("closes in time", theme.good());
    };
    let for_now = or_none(server.slow_for(at.time), |seconds| age(seconds + at.since));
    Line::styled(
        format!("SLOW for {for_now}, since {}", clock(since, at.time)),
        theme.bad(),
    )
}

/// The time of day in UTC, and the day if it is another one.
fn clock(moment: Timestamp, now: Timestamp) -> String {
    let [moment, now] = [moment, now].map(|time| format!("{time:.0}"));
    let (day, time) = moment.split_once('T').unwrap_or_default();
    let time = time.trim_end_matches('Z');
    if now.starts_with(day) {
        format!("{time} UTC")
    } else {
        format!("{day} {time} UTC")
    }
}

fn figures(server: &Server, at: Moment, room: usize, theme: Theme) -> Vec<Line<'static>> {
    let live = server.live;
    let held = server.time_wait.entered;
    let mut outcomes: Vec<_> = server
        .outcomes
        .iter()
        .filter(|(_, ended)| **ended > 0)
        .collect();
    outcomes.sort_by_key(|(_, ended)| std::cmp::Reverse(**ended));
    let outcomes: Vec<String> = outcomes
        .into_iter()
        .map(|(outcome, ended)| format!("{} {outcome}", count(*ended)))
        .collect();
    let hangs = server.hangs().map_or(String::new(), |seconds| {
        format!("; the longest hangs for {}", age(seconds + at.since))
    });
    let slow = or_none(share(server.slow_closes, server.ended), percent);
    let facts = [
        ("hosts", or_dash(hosts(server))),
        (
            "software",
            or_none(server.software.as_ref(), ToString::to_string),
        ),
        (
            "live",
            format!(
                "{} open, {} closing, {} without FIN, {} half closed{hangs}",
                count(live.open),
                count(live.awaiting_close_frame),
                count(live.awaiting_fin),
                count(live.half_closed)
            ),
        ),
        (
            "ended",
            format!("{}: {}", count(server.ended), or_dash(outcomes.join(", "))),
        ),
        (
            "slow closes",
            format!(
                "{} of {}, {slow}",
                count(server.slow_closes),
                count(server.ended)
            ),
        ),
        ("recently", or_none(server.window, recently)),
        (
            "TIME_WAIT",
            format!(
                "by client {}, server {}, both {}, none {}; now in this kernel: {}",
                count(held.client),
                count(held.server),
                count(held.both),
                count(held.none),
                or_none(server.time_wait.current, count)
            ),
        ),
    ];
    facts
        .into_iter()
        .flat_map(|(name, value)| {
            let lines = wrap(&value, room.saturating_sub(NAMES));
            lines.into_iter().enumerate().map(move |(index, line)| {
                let name = left(if index == 0 { name } else { "" }, NAMES);
                Line::from(vec![Span::styled(name, theme.quiet()), Span::raw(line)])
            })
        })
        .collect()
}

fn or_dash(text: String) -> String {
    if text.is_empty() {
        NONE.to_owned()
    } else {
        text
    }
}

fn recently(window: Window) -> String {
    let beginning = format!(
        "{} ended in {}, {} of them slow",
        count(window.ended),
        age(window.seconds),
        count(window.slow)
    );
    if window.slow == 0 {
        return beginning;
    }
    let word = |seconds| or_none(seconds, duration);
    format!(
        "{beginning}: waits p50 {}, p99 {}, longest {}",
        word(window.p50_seconds),
        word(window.p99_seconds),
        word(window.longest_seconds)
    )
}

/// The share of slow closes in each minute.
fn last_hour(hour: &LastHour, room: usize, theme: Theme) -> Vec<Line<'static>> {
    let minutes: Vec<(u64, u64)> = hour
        .slow
        .iter()
        .copied()
        .zip(hour.ended.iter().copied())
        .collect();
    let (slow, ended) = minutes.iter().fold((0, 0), |(slow, ended), minute| {
        (slow + minute.0, ended + minute.1)
    });
    let shown = minutes.len().min(room.saturating_sub(NAMES));
    let bars = minutes[minutes.len() - shown..]
        .iter()
        .map(|(slow, ended)| match (slow, ended) {
            (_, 0) => Span::styled("·", theme.quiet()),
            (0, _) => Span::raw("▁"),
            (slow, ended) => {
                // Any slow close is seen above the line of none.
                let level = (*slow * 7).div_ceil(*ended).min(7) as usize;
                Span::styled(LEVELS[level], theme.bad())
            }
        });
    let mut line = vec![Span::styled(left("last hour", NAMES), theme.quiet())];
    line.extend(bars);
    let words = match share(slow, ended) {
        None => "nothing ended".to_owned(),
        Some(share) => format!(
            "{} of {} slow, {}; a minute each, █ all, ▁ none, · nothing ended",
            count(slow),
            count(ended),
            percent(share)
        ),
    };
    let mut lines = vec![Line::from(line)];
    let explained = wrap(&words, room.saturating_sub(NAMES));
    lines.extend(
        explained
            .into_iter()
            .map(|line| Line::styled(" ".repeat(NAMES) + &line, theme.quiet())),
    );
    lines
}

/// From the second Close frame to the first FIN or RST, by who sent it: what the server does, and what
/// clients bear.
fn histogram(server: &Server, answers: &Answers, room: usize, theme: Theme) -> Vec<Line<'static>> {
    let edges = &answers.servers.edges_seconds;
    let slow_after = answers.servers.slow_after_seconds;
    let at = |counts: &[u64], index: usize| counts.get(index).copied().unwrap_or(0);
    let buckets: Vec<(u64, u64)> = (0..=edges.len())
        .map(|index| {
            let by = &server.close_to_fin;
            (at(&by.server.counts, index), at(&by.client.counts, index))
        })
        .collect();
    let filled = |bucket: &(u64, u64)| bucket.0 + bucket.1 > 0;
    let (Some(first), Some(last)) = (
        buckets.iter().position(filled),
        buckets.iter().rposition(filled),
    ) else {
        return vec![title(
            "Close to FIN",
            "no close has been measured yet",
            &[],
            room,
            theme,
        )];
    };
    let largest = buckets
        .iter()
        .map(|bucket| bucket.0 + bucket.1)
        .max()
        .unwrap_or(1);
    let figures = buckets
        .iter()
        .map(|bucket| count(bucket.0.max(bucket.1)).len());
    let figure = figures.max().unwrap_or(0).max("server".len());
    // Marks, range, two figures, and what is between them.
    let bars = room.saturating_sub(2 + 17 + 2 * (figure + 2) + 2).min(60);

    let mut lines = vec![title(
        "Close to FIN",
        "by who closed TCP first",
        &[],
        room,
        theme,
    )];
    lines.push(Line::from(vec![
        Span::styled(
            format!(
                "{}  {}  {}  ",
                " ".repeat(19),
                right("server", figure),
                right("client", figure)
            ),
            theme.quiet(),
        ),
        Span::raw("█"),
        Span::styled(" server's delay   ", theme.quiet()),
        Span::styled("░", theme.patience()),
        Span::styled(" client's patience", theme.quiet()),
    ]));
    let late =
        |index: usize| index > 0 && edges.get(index - 1).is_some_and(|from| *from >= slow_after);
    for (index, (by_server, by_client)) in buckets.iter().enumerate().take(last + 1).skip(first) {
        if late(index) && (index == first || !late(index - 1)) {
            let rule = format!("── slow from {} on ", edge(slow_after));
            let length = 19 + 2 + 2 * (figure + 2) + bars;
            let rest = length.min(room).saturating_sub(width(&rule));
            let rule = rule + &"─".repeat(rest);
            lines.push(Line::styled(rule, theme.quiet()));
        }
        let from = index.checked_sub(1).and_then(|before| edges.get(before));
        let range = match (from, edges.get(index)) {
            (None, Some(to)) => format!("up to {}", edge(*to)),
            (Some(from), Some(to)) => format!("{} – {}", edge(*from), edge(*to)),
            (Some(from), None) => format!("over {}", edge(*from)),
            (None, None) => "any".to_owned(),
        };
        let length = |part: u64| {
            // What is there is seen.
            let exact = part as f64 / largest as f64 * bars as f64;
            if part == 0 {
                0
            } else {
                (exact.round() as usize).max(1)
            }
        };
        let whole = length(by_server + by_client);
        let own = length(*by_server).min(whole.saturating_sub(usize::from(*by_client > 0)));
        let mark = if late(index) { "! " } else { "  " };
        let own_style = if late(index) {
            theme.bad()
        } else {
            Style::new()
        };
        let number = |figures: u64| match figures {
            0 => Span::styled(right("0", figure) + "  ", theme.quiet()),
            figures => Span::raw(right(&count(figures), figure) + "  "),
        };
        lines.push(Line::from(vec![
            Span::styled(mark, theme.bad()),
            Span::raw(right(&range, 17) + "  "),
            number(*by_server),
            number(*by_client),
            Span::styled("█".repeat(own), own_style),
            Span::styled("░".repeat(whole - own), theme.patience()),
        ]));
    }
    lines
}
