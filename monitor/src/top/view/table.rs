//! A table that leaves out columns when there is no room for all.

use ratatui::{
    style::Style,
    text::{Line, Span},
};

use super::theme::Theme;
use crate::top::text::{cut_front, left, right, width};

/// Between two columns.
const GAP: usize = 2;
/// In front of each row: what is selected, and what is bad.
pub(in crate::top) const MARKS: usize = 3;

/// The head of a column.
pub(in crate::top) struct Head {
    pub(in crate::top) title: String,
    /// What stands above columns that belong together.
    pub(in crate::top) group: &'static str,
    /// What it is called when it is left out.
    pub(in crate::top) full_title: String,
    /// The lowest stay longest.
    pub(in crate::top) rank: usize,
    pub(in crate::top) kind: Kind,
    /// It is given more only when there is room to spare.
    pub(in crate::top) cap: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::top) enum Kind {
    Figure,
    Words,
    Address,
}

pub(in crate::top) type Cell = (String, Style);

pub(in crate::top) struct Row {
    pub(in crate::top) bad: bool,
    pub(in crate::top) cells: Vec<Cell>,
}

pub(in crate::top) struct Table {
    heads: Vec<Head>,
    rows: Vec<Row>,
}

/// The columns that fit, by their place, with their widths.
pub(in crate::top) struct Fitted {
    columns: Vec<(usize, usize)>,
    pub(in crate::top) hidden: Vec<String>,
}

impl Table {
    /// Each row has a cell for each head.
    pub(in crate::top) fn new(heads: Vec<Head>, rows: Vec<Row>) -> Self {
        Self { heads, rows }
    }

    /// Chooses among the columns for a line of so many.
    pub(in crate::top) fn fit(&self, room: usize) -> Fitted {
        let wanted: Vec<usize> = self
            .heads
            .iter()
            .enumerate()
            .map(|(index, head)| {
                let cells = self.rows.iter().filter_map(|row| row.cells.get(index));
                let widest = cells.map(|(text, _)| width(text)).max().unwrap_or(0);
                widest.max(width(&head.title))
            })
            .collect();
        let mut ranked: Vec<usize> = (0..self.heads.len()).collect();
        ranked.sort_by_key(|index| self.heads[*index].rank);
        let mut left = (room + GAP).saturating_sub(MARKS);
        let mut columns = Vec::new();
        for index in ranked {
            let first = columns.is_empty();
            let mut taken =
                wanted[index].min(self.heads[index].cap.max(width(&self.heads[index].title)));
            if first {
                // On a narrow screen something must stand beside it.
                taken = taken.min(room / 2);
            }
            if !first && taken + GAP > left {
                break;
            }
            left = left.saturating_sub(taken + GAP);
            columns.push((index, taken));
        }
        for (index, taken) in &mut columns {
            let more = (wanted[*index] - *taken).min(left);
            *taken += more;
            left -= more;
        }
        columns.sort_unstable();
        let shown = |index: &usize| columns.iter().any(|(column, _)| column == index);
        let hidden = (0..self.heads.len()).filter(|index| !shown(index));
        Fitted {
            hidden: hidden
                .map(|index| self.heads[index].full_title.clone())
                .collect(),
            columns,
        }
    }

    /// What stands above the titles.
    pub(in crate::top) fn groups(&self, fitted: &Fitted, theme: Theme) -> Line<'static> {
        let mut groups = Vec::<(&str, usize)>::new();
        for (index, taken) in &fitted.columns {
            let group = self.heads[*index].group;
            match groups.last_mut() {
                Some((last, room)) if *last == group => *room += GAP + taken,
                _ => groups.push((group, *taken)),
            }
        }
        let mut line = " ".repeat(MARKS);
        let mut end = MARKS;
        for (group, room) in groups {
            end += room;
            let group = if width(group) > room {
                group.split([',', ' ']).next().unwrap_or(group)
            } else {
                group
            };
            let around = room.saturating_sub(width(group) + 2);
            let words = match around / 2 {
                _ if group.is_empty() => String::new(),
                0 => group.to_owned(),
                dashes => {
                    format!(
                        "{} {group} {}",
                        "─".repeat(dashes),
                        "─".repeat(around - dashes)
                    )
                }
            };
            // What is wider than its columns begins before them.
            line += &right(&words, end.saturating_sub(width(&line)));
            line += &" ".repeat(GAP);
            end += GAP;
        }
        Line::styled(line, theme.quiet())
    }

    pub(in crate::top) fn titles(&self, fitted: &Fitted, theme: Theme) -> Line<'static> {
        let titles = fitted.columns.iter().map(|(index, taken)| {
            let head = &self.heads[*index];
            fill(&head.title, *taken, head.kind)
        });
        let titles = titles.collect::<Vec<_>>().join("  ");
        Line::styled(" ".repeat(MARKS) + &titles, theme.quiet())
    }

    /// One row; a selected one is so to its end.
    pub(in crate::top) fn row(
        &self,
        index: usize,
        fitted: &Fitted,
        selected: bool,
        theme: Theme,
    ) -> Line<'static> {
        let Some(row) = self.rows.get(index) else {
            return Line::default();
        };
        let mark = |shown: bool, sign: &'static str| if shown { sign } else { " " };
        let mut spans = vec![
            Span::raw(mark(selected, ">")),
            Span::styled(mark(row.bad, "!"), theme.bad()),
        ];
        for (place, (column, taken)) in fitted.columns.iter().enumerate() {
            let (text, style) = &row.cells[*column];
            spans.push(Span::raw(if place == 0 { " " } else { "  " }));
            spans.push(Span::styled(
                fill(text, *taken, self.heads[*column].kind),
                *style,
            ));
        }
        let line = Line::from(spans);
        if selected {
            line.style(theme.selected())
        } else {
            line
        }
    }

    pub(in crate::top) fn len(&self) -> usize {
        self.rows.len()
    }
}

fn fill(text: &str, columns: usize, kind: Kind) -> String {
    match kind {
        Kind::Figure => right(text, columns),
        Kind::Words => left(text, columns),
        Kind::Address => left(&cut_front(text, columns), columns),
    }
}
