//! The picture of the state: same state, moment and size, same picture.

mod detail;
mod overview;
mod table;
pub(super) mod tables;
#[cfg(test)]
mod tests;
mod texts;
mod theme;

use std::time::Instant;

use ratatui::{
    Frame,
    buffer::Buffer,
    layout::{Position, Rect},
    text::{Line, Span},
};

pub(super) use self::{table::Table, texts::facts, theme::Theme};
use super::{
    answers::Answers,
    model::{Extent, Model, Screen},
    text::{cut_front, left, width, wrap},
    words::age,
};

/// Below this nothing of use can be shown.
const SMALLEST: (u16, u16) = (30, 6);
/// Below this what is said goes before who says it.
const NARROW: usize = 72;
/// Lines of a sentence about what is wrong, at most.
const TROUBLE_LINES: usize = 3;

/// Lines one below the other, until there is no room.
struct Canvas<'a> {
    buffer: &'a mut Buffer,
    area: Rect,
}

impl Canvas<'_> {
    fn line(&mut self, line: Line<'_>) {
        if self.area.height == 0 {
            return;
        }
        // The style of a line is that of its whole width.
        let whole = Rect {
            height: 1,
            ..self.area
        };
        self.buffer
            .set_line(self.area.x, self.area.y, &line, self.area.width);
        self.buffer.set_style(whole, line.style);
        self.area.y += 1;
        self.area.height -= 1;
    }

    /// Lines that there is still room for.
    fn left(&self) -> usize {
        usize::from(self.area.height)
    }

    fn width(&self) -> usize {
        usize::from(self.area.width)
    }
}

pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, theme: Theme, now: Instant) -> Extent {
    let area = frame.area();
    let (columns, lines) = SMALLEST;
    let buffer = frame.buffer_mut();
    if area.width < columns || area.height < lines {
        let mut canvas = Canvas { buffer, area };
        let needed = format!(
            "closewatch top needs {columns}x{lines}, this is {}x{}",
            area.width, area.height
        );
        for line in wrap(&needed, canvas.width()) {
            canvas.line(Line::raw(line));
        }
        return Extent::default();
    }
    let mut canvas = Canvas {
        buffer,
        area: Rect {
            height: area.height - 1,
            ..area
        },
    };
    canvas.line(head(model, now, canvas.width(), theme));
    for line in trouble(model, now, canvas.width()) {
        canvas.line(Line::styled(line, theme.bad()));
    }
    let roomy = canvas.left() >= 20;
    if roomy {
        canvas.line(Line::default());
    }
    let extent = match (&model.answers, model.moment(now)) {
        (Some(answers), Some(at)) => {
            // The daemon's own line stands below all.
            canvas.area.height -= 1 + u16::from(roomy);
            let health = canvas.area.bottom() + u16::from(roomy);
            let extent = match &model.screen {
                Screen::Overview => overview::draw(&mut canvas, model, answers, at, theme),
                Screen::Detail(key) => scrolled(
                    &mut canvas,
                    model,
                    detail::lines(model, key, answers, at, usize::from(area.width), theme),
                    theme,
                ),
                Screen::Health => scrolled(
                    &mut canvas,
                    model,
                    texts::health(&answers.health, at, usize::from(area.width), theme),
                    theme,
                ),
                Screen::Help => scrolled(
                    &mut canvas,
                    model,
                    texts::help(Some(answers), usize::from(area.width), theme),
                    theme,
                ),
            };
            canvas.area = Rect {
                y: health,
                height: 1,
                ..area
            };
            canvas.line(texts::health_line(
                &answers.health,
                at,
                usize::from(area.width),
                theme,
            ));
            extent
        }
        _ if model.screen == Screen::Help => scrolled(
            &mut canvas,
            model,
            texts::help(None, usize::from(area.width), theme),
            theme,
        ),
        _ => Extent::default(),
    };
    foot(frame, model, theme);
    extent
}

/// What is to be known first, and whether it is still true.
fn head(model: &Model, now: Instant, room: usize, theme: Theme) -> Line<'static> {
    let fresh = match (model.age(now), &model.trouble, model.paused) {
        (None, None, _) => ("asking …".to_owned(), theme.quiet()),
        (None, Some(_), _) => ("NO ANSWER".to_owned(), theme.bad()),
        (Some(old), _, Some(_)) => (format!("PAUSED, {} old", age(old)), theme.title()),
        (Some(old), Some(_), None) => (format!("NO ANSWER, {} old", age(old)), theme.bad()),
        (Some(_), None, None) => ("live".to_owned(), theme.good()),
    };
    let (word, style) = fresh;
    let name = if room < NARROW { "" } else { "closewatch  " };
    let left_of_it = room.saturating_sub(width(name) + width(&word) + 2);
    let said = model.answers.as_ref().map_or(String::new(), said);
    Line::from(vec![
        Span::styled(name, theme.title()),
        Span::raw(left(&said, left_of_it) + "  "),
        Span::styled(word, style),
    ])
}

/// The answer to the question that this program is for.
pub(super) fn said(answers: &Answers) -> String {
    // On loopback a server is seen from both ends, and is one all the same.
    let distinct = |only_slow: bool| {
        let servers = answers.servers.servers.iter();
        let slow = servers.filter(|server| server.slow || !only_slow);
        let addresses: std::collections::HashSet<_> = slow.map(|server| &server.server).collect();
        addresses.len()
    };
    let servers = match (distinct(true), distinct(false)) {
        (_, 0) => return "waiting for the first WebSocket".to_owned(),
        (0, 1) => "the one server closes in time".to_owned(),
        (0, all) => format!("none of {all} servers delays closing"),
        (1, 1) => "the one server delays closing".to_owned(),
        (1, all) => format!("1 of {all} servers delays closing"),
        (slow, all) => format!("{slow} of {all} servers delay closing"),
    };
    let more = if answers.hanging.more {
        "more than "
    } else {
        ""
    };
    match answers.hanging.all.len() {
        0 => servers,
        1 => format!("{servers}, 1 connection hangs"),
        many => format!("{servers}, {more}{many} connections hang"),
    }
}

/// Why there is no answer, and what that means.
fn trouble(model: &Model, now: Instant, room: usize) -> Vec<String> {
    let Some((trouble, _)) = &model.trouble else {
        return Vec::new();
    };
    let what = match (model.paused, model.age(now)) {
        (Some(_), _) => "Paused: it is not asked again.".to_owned(),
        (None, Some(old)) => format!("Asking again; what is shown is {} old.", age(old)),
        (None, None) => "Asking again.".to_owned(),
    };
    let mut lines = wrap(&format!("{} {trouble}. {what}", model.url), room);
    lines.truncate(TROUBLE_LINES);
    lines
}

/// A text that may be longer than the screen.
fn scrolled(
    canvas: &mut Canvas<'_>,
    model: &Model,
    lines: Vec<Line<'static>>,
    theme: Theme,
) -> Extent {
    let room = canvas.left();
    let (all, page) = if lines.len() > room {
        (lines.len(), room.saturating_sub(1))
    } else {
        (lines.len(), room)
    };
    let scroll_max = all.saturating_sub(page);
    let first = model.scroll.min(scroll_max);
    for line in lines.into_iter().skip(first).take(page) {
        canvas.line(line);
    }
    if scroll_max > 0 {
        let below = all - first - page;
        let word = match (first, below) {
            (_, 0) => format!("── {first} lines above ──"),
            (0, below) => format!("── {below} lines below ──"),
            (above, below) => format!("── {above} lines above, {below} below ──"),
        };
        canvas.line(Line::styled(word, theme.quiet()));
    }
    Extent { page, scroll_max }
}

/// The keys that have a meaning now, or the filter that is being written.
fn foot(frame: &mut Frame<'_>, model: &Model, theme: Theme) {
    let area = frame.area();
    let y = area.bottom() - 1;
    if model.writing {
        let prompt = "filter: ";
        let room = usize::from(area.width).saturating_sub(width(prompt) + 1);
        let shown = cut_front(&model.filter, room);
        let at = (width(prompt) + width(&shown)) as u16;
        let mut line = vec![Span::styled(prompt, theme.title()), Span::raw(shown)];
        line.push(Span::styled(
            "   Enter keeps it, Esc takes it away",
            theme.quiet(),
        ));
        frame
            .buffer_mut()
            .set_line(area.x, y, &Line::from(line), area.width);
        frame.set_cursor_position(Position::new(area.x + at, y));
        return;
    }
    let pause = if model.paused.is_some() {
        "go on"
    } else {
        "pause"
    };
    let overview = [
        ("q", "quit"),
        ("?", "help"),
        ("Enter", "open"),
        ("/", "filter"),
        ("s", "sort"),
        ("r", "role"),
        ("Tab", "what hangs"),
        ("p", pause),
        ("h", "health"),
        ("S", "reverse"),
    ];
    let text = [
        ("q", "quit"),
        ("Esc", "back"),
        ("↑↓", "scroll"),
        ("?", "help"),
        ("p", pause),
    ];
    let keys: &[(&str, &str)] = if model.screen == Screen::Overview {
        &overview
    } else {
        &text
    };
    let mut room = usize::from(area.width);
    let mut spans = Vec::new();
    for (key, word) in keys {
        let taken = width(key) + 1 + width(word);
        if taken > room {
            break;
        }
        room = room.saturating_sub(taken + 2);
        spans.push(Span::styled((*key).to_owned(), theme.title()));
        spans.push(Span::styled(format!(" {word}  "), theme.quiet()));
    }
    frame
        .buffer_mut()
        .set_line(area.x, y, &Line::from(spans), area.width);
}
