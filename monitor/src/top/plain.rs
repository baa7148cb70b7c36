//! What a person looks at, as a text for a file, a pipe or a mail: every column, nothing cut, no colour.

use super::{
    answers::Answers,
    columns::Moment,
    hanging::Hang,
    view::{Table, Theme, facts, said, tables},
};

/// Wider than any table is.
const NO_END: usize = 100_000;

/// The tables of the overview, in the daemon's order, and the daemon itself.
pub(super) fn tables(answers: &Answers) -> String {
    let theme = Theme::new(true);
    let at = Moment {
        time: answers.servers.time,
        since: 0.0,
    };
    let mut lines = vec![format!("{:.0}  {}", at.time, said(answers)), String::new()];
    let servers: Vec<_> = answers.servers.servers.iter().collect();
    if !servers.is_empty() {
        let table = tables::servers(&servers, at, None, theme);
        let fitted = table.fit(NO_END);
        lines.push(table.groups(&fitted, theme).to_string());
        lines.extend(rows(&table, theme));
        lines.push(String::new());
    }
    let hanging: Vec<&Hang> = answers.hanging.all.iter().collect();
    let more = if answers.hanging.more {
        ", the longest"
    } else {
        ""
    };
    if hanging.is_empty() {
        lines.push("Hanging now: nothing".to_owned());
    } else {
        lines.push(format!("Hanging now{more}:"));
        lines.extend(rows(&tables::hanging(&hanging, at, false, theme), theme));
    }
    lines.push(String::new());
    let facts = facts(&answers.health, at).into_iter().map(|(fact, _)| fact);
    let health: Vec<String> = [format!("closewatch {}", answers.health.version)]
        .into_iter()
        .chain(facts)
        .collect();
    lines.push(health.join(", "));
    lines
        .iter()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect()
}

fn rows(table: &Table, theme: Theme) -> Vec<String> {
    let fitted = table.fit(NO_END);
    let rows = (0..table.len()).map(|index| table.row(index, &fitted, false, theme));
    [table.titles(&fitted, theme)]
        .into_iter()
        .chain(rows)
        .map(|line| line.to_string())
        .collect()
}
