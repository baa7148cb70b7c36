//! What was measured: many turns in, a median, its quartiles and a ratio out; the table, and the same as JSON.

use std::iter;

use serde_json::{Value, json};

/// What one thing was in every turn.
#[derive(Clone, Default)]
pub(super) struct Turns(pub(super) Vec<f64>);

/// The median, and the quartiles around it: between them lay half of the turns.
#[derive(Clone, Copy)]
pub(super) struct Spread {
    median: f64,
    quartiles: [f64; 2],
}

/// One line of the table.
pub(super) struct Figure {
    what: String,
    unit: &'static str,
    under: &'static str,
    /// None where it could not be measured: then the note says why.
    value: Option<Spread>,
    turns: Turns,
    compared: Option<Compared>,
    note: String,
}

struct Compared {
    with: &'static str,
    value: Spread,
    ratio: Spread,
}

impl Turns {
    pub(super) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    fn spread(&self) -> Option<Spread> {
        let mut sorted: Vec<_> = self.0.iter().copied().filter(|x| x.is_finite()).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        let at = |part: f64| {
            let place = part * last as f64;
            let (below, above) = (
                sorted[place.floor() as usize],
                sorted[place.ceil() as usize],
            );
            below + (above - below) * place.fract()
        };
        Some(Spread {
            median: at(0.5),
            quartiles: [at(0.25), at(0.75)],
        })
    }

    /// Turn by turn: what a noisy moment did to both of a turn cancels out.
    fn over(&self, base: &Self) -> Self {
        let pairs = iter::zip(&self.0, &base.0);
        Self(pairs.map(|(one, other)| one / other).collect())
    }
}

impl Figure {
    pub(super) fn new(
        what: impl Into<String>,
        unit: &'static str,
        under: &'static str,
        turns: &Turns,
    ) -> Self {
        Self {
            what: what.into(),
            unit,
            under,
            value: turns.spread(),
            turns: turns.clone(),
            compared: None,
            note: String::new(),
        }
    }

    /// Something that has no turns: it is what it is.
    pub(super) fn once(
        what: impl Into<String>,
        unit: &'static str,
        under: &'static str,
        value: f64,
    ) -> Self {
        Self::new(what, unit, under, &Turns(vec![value]))
    }

    pub(super) fn missing(
        what: impl Into<String>,
        unit: &'static str,
        under: &'static str,
        why: String,
    ) -> Self {
        let figure = Self::new(what, unit, under, &Turns::default());
        figure.note(why)
    }

    pub(super) fn compared(mut self, with: &'static str, base: &Turns) -> Self {
        if let (Some(value), Some(ratio)) = (base.spread(), self.turns.over(base).spread()) {
            self.compared = Some(Compared { with, value, ratio });
        }
        self
    }

    pub(super) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    fn cells(&self) -> [String; 7] {
        let compared = self.compared.as_ref();
        [
            self.what.clone(),
            self.unit.to_owned(),
            self.under.to_owned(),
            self.value.map_or("–".to_owned(), Spread::cell),
            compared.map_or(String::new(), |base| base.value.cell()),
            compared.map_or(String::new(), |base| base.with.to_owned()),
            compared.map_or(String::new(), |base| base.ratio.cell()),
        ]
    }

    fn json(&self) -> Value {
        let compared = self.compared.as_ref();
        json!({
            "what": self.what, "unit": self.unit, "under": self.under,
            "value": self.value.map(Spread::json),
            "compared_with": compared.map(|base| base.with),
            "compared_value": compared.map(|base| base.value.json()),
            "ratio": compared.map(|base| base.ratio.json()),
            "note": self.note,
        })
    }
}

impl Spread {
    fn cell(self) -> String {
        let [low, high] = self.quartiles;
        if low == high {
            return number(self.median);
        }
        format!(
            "{} ({} – {})",
            number(self.median),
            number(low),
            number(high)
        )
    }

    fn json(self) -> Value {
        json!({ "median": self.median, "quartiles": self.quartiles })
    }
}

/// With three digits at least: more are noise.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 || size == 0.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 4,
    };
    format!("{value:.digits$}")
}

const HEADER: [&str; 7] = [
    "what",
    "unit",
    "under",
    "median (quartiles)",
    "compared with",
    "",
    "ratio (quartiles)",
];

pub(super) fn table(figures: &[Figure]) -> String {
    let header = HEADER.map(str::to_owned);
    let lines: Vec<_> = figures
        .iter()
        .map(|figure| (figure.cells(), &figure.note))
        .collect();
    let widths: [usize; 7] = std::array::from_fn(|column| {
        let cells = iter::once(&header).chain(lines.iter().map(|line| &line.0));
        let widths = cells.map(|cells| cells[column].chars().count());
        widths.max().unwrap_or_default()
    });
    let mut table = String::new();
    let no_note = String::new();
    let all =
        iter::once((&header, &no_note)).chain(lines.iter().map(|(cells, note)| (cells, *note)));
    for (cells, note) in all {
        let mut line = String::new();
        for (cell, width) in iter::zip(cells, widths) {
            line += &format!("{cell:<width$}  ");
        }
        line += note;
        table += line.trim_end();
        table += "\n";
    }
    table
}

pub(super) fn json(figures: &[Figure]) -> Value {
    figures.iter().map(Figure::json).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_lie_between_the_turns() {
        let spread = Turns(vec![4.0, 1.0, 2.0, 3.0]).spread().unwrap();
        assert_eq!(spread.median, 2.5);
        assert_eq!(spread.quartiles, [1.75, 3.25]);
        assert!(Turns::default().spread().is_none());
    }

    #[test]
    fn ratios_are_of_the_same_turn() {
        let (turns, base) = (Turns(vec![10.0, 300.0]), Turns(vec![5.0, 150.0]));
        let figure = Figure::new("it", "ns", "us", &turns).compared("them", &base);
        assert_eq!(figure.cells()[6], "2.00");
    }
}
