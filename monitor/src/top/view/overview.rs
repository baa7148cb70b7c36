//! The overview: the servers, the worst first, and what hangs.

use std::ops::Range;

use ratatui::text::{Line, Span};

use super::{
    Canvas, NARROW,
    table::{Fitted, MARKS, Table},
    tables,
    theme::Theme,
};
use crate::top::{
    answers::Answers,
    columns::Moment,
    model::{Extent, Focus, Model},
    text::{cut, width, wrap},
    words::count,
};

/// From this height on the table of servers has a second head, and what is apart is set apart.
const TALL: usize = 14;

pub(super) fn draw(
    canvas: &mut Canvas<'_>,
    model: &Model,
    answers: &Answers,
    at: Moment,
    theme: Theme,
) -> Extent {
    let servers = model.servers();
    let hanging = model.hanging();
    let sorted = model.sort.map(|column| (column, model.reversed));
    let above = tables::servers(&servers, at, sorted, theme);
    let below = tables::hanging(&hanging, at, false, theme);

    let tall = canvas.left() >= TALL;
    let heads = if tall { 6 } else { 3 };
    let room = canvas.left().saturating_sub(heads);
    let wanted = above.len().max(1);
    let for_hanging = below.len().min(room.saturating_sub(wanted).max(room / 3));
    let for_servers = room - for_hanging;

    let fitted = above.fit(canvas.width());
    let selected = model.selected_server(&servers);
    let shown = window(selected, above.len(), for_servers);
    let mut notes = part_of(&shown, above.len());
    let untold = answers
        .servers
        .total
        .saturating_sub(answers.servers.servers.len() as u64);
    if untold > 0 {
        notes.push(format!("{} more are not told", count(untold)));
    }
    notes.extend(no_room_for(&fitted, canvas.width()));
    canvas.line(title(
        "Servers",
        &order(model, canvas.width() < NARROW),
        &notes,
        canvas.width(),
        theme,
    ));
    if above.len() == 0 {
        let lines = wrap(
            &nothing(model, answers),
            canvas.width().saturating_sub(MARKS),
        );
        for line in lines.into_iter().take(for_servers) {
            canvas.line(Line::raw(" ".repeat(MARKS) + &line));
        }
    } else {
        if tall {
            canvas.line(above.groups(&fitted, theme));
        }
        canvas.line(above.titles(&fitted, theme));
        let selected = Some(selected).filter(|_| model.focus == Focus::Servers);
        rows(canvas, &above, &fitted, shown, selected, theme);
    }

    if tall {
        canvas.line(Line::default());
    }
    let fitted = below.fit(canvas.width());
    let selected = model.selected_hang(&hanging);
    let shown = window(selected, below.len(), for_hanging);
    let mut notes = part_of(&shown, below.len());
    if answers.hanging.more {
        notes.push("the longest only".to_owned());
    }
    let what = match (below.len(), answers.hanging.all.len()) {
        (0, 0) => "nothing",
        (0, _) => "nothing that is not filtered",
        _ => "longest first",
    };
    if tall && below.len() > 0 {
        notes.extend(no_room_for(&fitted, canvas.width()));
    }
    canvas.line(title("Hanging now", what, &notes, canvas.width(), theme));
    if below.len() > 0 {
        if tall {
            canvas.line(below.titles(&fitted, theme));
        }
        let selected = Some(selected).filter(|_| model.focus == Focus::Hanging);
        rows(canvas, &below, &fitted, shown, selected, theme);
    }
    Extent {
        page: match model.focus {
            Focus::Servers => for_servers,
            Focus::Hanging => for_hanging,
        },
        scroll_max: 0,
    }
}

/// Which rows are in sight, unless all are.
fn part_of(shown: &Range<usize>, all: usize) -> Vec<String> {
    let part = || format!("{}–{} of {all}", shown.start + 1, shown.end);
    Vec::from_iter((shown.len() < all).then(part))
}

/// By name where there is room for the names.
fn no_room_for(fitted: &Fitted, room: usize) -> Option<String> {
    let hidden = &fitted.hidden;
    let names = format!("hidden: {}", hidden.join(", "));
    let number = || format!("{} columns hidden", hidden.len());
    let fits = hidden.len() == 1 || width(&names) <= room / 2;
    (!hidden.is_empty()).then(|| if fits { names } else { number() })
}

fn rows(
    canvas: &mut Canvas<'_>,
    table: &Table,
    fitted: &Fitted,
    shown: Range<usize>,
    selected: Option<usize>,
    theme: Theme,
) {
    for index in shown {
        canvas.line(table.row(index, fitted, selected == Some(index), theme));
    }
}

/// What is in sight of a list, so that the selected is.
fn window(selected: usize, all: usize, room: usize) -> Range<usize> {
    let first = (selected + 1).saturating_sub(room);
    first..all.min(first + room)
}

/// In which order, and what is left out on purpose.
fn order(model: &Model, narrow: bool) -> String {
    let mut words = vec![match (model.sort, model.reversed) {
        (None, false) if narrow => String::new(),
        (None, false) => "worst first".to_owned(),
        (None, true) => "worst last".to_owned(),
        (Some(column), reversed) => {
            let mark = if column.is_text() == reversed {
                '▼'
            } else {
                '▲'
            };
            format!("by {} {mark}", column.full_title())
        }
    }];
    if let Some(role) = model.role {
        words.push(format!("role {}", role.name()));
    }
    if !model.filter.is_empty() {
        words.push(format!("filter \"{}\"", model.filter));
    }
    words.retain(|word| !word.is_empty());
    words.join(" · ")
}

fn nothing(model: &Model, answers: &Answers) -> String {
    if answers.servers.servers.is_empty() {
        return "No WebSocket has been seen yet. A server appears here with the first connection that \
                opens while the daemon runs."
            .to_owned();
    }
    match (&*model.filter, model.role) {
        ("", _) => "No server was seen in this role; r shows the others.".to_owned(),
        (filter, _) => {
            format!("No server or host has \"{filter}\" in it; Esc takes the filter away.")
        }
    }
}

/// The name of a list, what is in it, and what is not.
pub(super) fn title(
    name: &str,
    what: &str,
    notes: &[String],
    room: usize,
    theme: Theme,
) -> Line<'static> {
    let beginning = format!("{name}  ");
    let left = room.saturating_sub(width(&beginning));
    let what = cut(what, left);
    let left = left.saturating_sub(width(&what));
    let note = cut(&notes.join(" · "), left.saturating_sub(2));
    let gap = " ".repeat(left - width(&note));
    Line::from(vec![
        Span::styled(cut(&beginning, room), theme.title()),
        Span::raw(what),
        Span::styled(gap + &note, theme.quiet()),
    ])
}
