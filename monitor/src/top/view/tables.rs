//! The two tables: of servers, and of what hangs.

use ratatui::style::Style;

use super::{
    table::{Head, Kind, Row, Table},
    theme::Theme,
};
use crate::top::{
    answers::Server,
    columns::{Column, Moment},
    hanging::Hang,
    text::Text,
    words::{NONE, age},
};

/// Columns for the longest IPv4 address and its port; longer ones get more where there is room.
const ADDRESS: usize = 21;
const WORDS: usize = 24;

pub(in crate::top) fn servers(
    servers: &[&Server],
    at: Moment,
    sorted: Option<(Column, bool)>,
    theme: Theme,
) -> Table {
    let heads = Column::ALL.iter().map(|column| {
        let mut title = column.title().to_owned();
        if let Some((_, reversed)) = sorted.filter(|(by, _)| by == column) {
            title.push(if column.is_text() == reversed {
                '▼'
            } else {
                '▲'
            });
        }
        Head {
            title,
            group: column.group(),
            full_title: column.full_title(),
            rank: Column::KEPT
                .iter()
                .position(|kept| kept == column)
                .unwrap_or(usize::MAX),
            kind: if *column == Column::Server {
                Kind::Address
            } else if column.is_text() {
                Kind::Words
            } else {
                Kind::Figure
            },
            cap: if *column == Column::Server {
                ADDRESS
            } else if *column == Column::Host {
                WORDS
            } else {
                usize::MAX
            },
        }
    });
    let rows = servers.iter().map(|server| Row {
        bad: server.slow,
        cells: Column::ALL
            .iter()
            .map(|column| {
                let cell = column.cell(server, at);
                let style = style(*column, server, &cell, theme);
                (cell, style)
            })
            .collect(),
    });
    Table::new(heads.collect(), rows.collect())
}

fn style(column: Column, server: &Server, cell: &str, theme: Theme) -> Style {
    let flagged = server.slow && matches!(column, Column::Server | Column::SlowFor);
    if flagged || (column == Column::Hangs && cell != NONE) {
        theme.bad()
    } else if cell == "0" || cell == NONE {
        theme.quiet()
    } else {
        Style::new()
    }
}

/// Without the server where all are of the same.
pub(in crate::top) fn hanging(hanging: &[&Hang], at: Moment, of_one: bool, theme: Theme) -> Table {
    let head = |title: &str, rank, kind, cap| Head {
        title: title.to_owned(),
        group: "",
        full_title: title.to_owned(),
        rank,
        kind,
        cap,
    };
    let mut heads = vec![
        head("for", 0, Kind::Figure, usize::MAX),
        head("phase", 3, Kind::Words, usize::MAX),
        head("server", 1, Kind::Address, ADDRESS),
        head("client", 2, Kind::Address, ADDRESS),
        head("seen by", 5, Kind::Words, usize::MAX),
        head("host and path", 4, Kind::Words, WORDS),
        head("cgroup", 6, Kind::Words, WORDS),
    ];
    if of_one {
        heads.remove(2);
    }
    let rows = hanging.iter().map(|hang| {
        let words = |text: String| {
            if text.is_empty() {
                (NONE.to_owned(), theme.quiet())
            } else {
                (text, Style::new())
            }
        };
        let cgroup = hang.cgroup.as_ref().map_or(String::new(), Text::to_string);
        let mut cells = vec![
            (age(hang.age_seconds + at.since), theme.bad()),
            words(hang.phase().to_owned()),
            words(hang.server.to_string()),
            words(hang.client.to_string()),
            words(hang.seen_by().to_owned()),
            words(hang.target()),
            words(cgroup),
        ];
        if of_one {
            cells.remove(2);
        }
        Row { bad: false, cells }
    });
    Table::new(heads, rows.collect())
}
