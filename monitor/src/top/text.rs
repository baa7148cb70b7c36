//! Text that others wrote, made harmless, and text that fits its place.

use std::fmt;

use serde::{Deserialize, Deserializer};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// What a daemon or a peer wrote: nothing in it steers a terminal or reorders what is around it.
///
/// The one way in is [`Text::clean`], so text that was not cleaned cannot be shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Text(String);

impl Text {
    pub(super) fn clean(raw: &str) -> Self {
        let harmless = |c| if steers(c) { '\u{fffd}' } else { c };
        Self(raw.chars().map(harmless).collect())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not borrowed: JSON with an escape in it cannot be.
        String::deserialize(deserializer).map(|raw| Self::clean(&raw))
    }
}

/// Control characters (C0, DEL, C1), line separators, and what changes the direction of text or is
/// not there to be seen.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// Columns that a text takes on a terminal.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// The text in exactly `columns` columns, at their left.
pub(super) fn left(text: &str, columns: usize) -> String {
    let cut = cut(text, columns);
    let rest = columns - width(&cut);
    cut + &" ".repeat(rest)
}

/// The same at their right.
pub(super) fn right(text: &str, columns: usize) -> String {
    let cut = cut(text, columns);
    " ".repeat(columns - width(&cut)) + &cut
}

/// The text in at most `columns` columns, with a mark where it was cut.
pub(super) fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let Some(room) = columns.checked_sub(1) else {
        return String::new();
    };
    beginning(text.chars(), room)
        .into_iter()
        .collect::<String>()
        + "…"
}

/// The same for an address: its end, the port, is what tells it from others.
pub(super) fn cut_front(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let Some(room) = columns.checked_sub(1) else {
        return String::new();
    };
    let mut end = beginning(text.chars().rev(), room);
    end.reverse();
    "…".chars().chain(end).collect()
}

/// The text in lines of at most `columns` columns, broken between words; a word that is longer is cut.
pub(super) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is always one");
        if line.is_empty() {
            *line = cut(word, columns);
        } else if width(line) + 1 + width(word) <= columns {
            *line += " ";
            *line += word;
        } else {
            lines.push(cut(word, columns));
        }
    }
    lines
}

/// As many characters as fit.
fn beginning(of: impl Iterator<Item = char>, columns: usize) -> Vec<char> {
    let mut taken = 0;
    of.take_while(|c| {
        taken += c.width().unwrap_or(0);
        taken <= columns
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn nothing_that_steers_a_terminal_is_left() {
        for (raw, shown) in [
            ("chat.example.com", "chat.example.com"),
            ("\u{1b}]0;owned\u{7}", "\u{fffd}]0;owned\u{fffd}"),
            ("\u{1b}[2J\r\n", "\u{fffd}[2J\u{fffd}\u{fffd}"),
            ("\u{9b}31m", "\u{fffd}31m"),
            ("a\u{202e}b", "a\u{fffd}b"),
            ("a\u{200b}b\u{2028}", "a\u{fffd}b\u{fffd}"),
            ("größe 漢字 e\u{301}", "größe 漢字 e\u{301}"),
        ] {
            assert_eq!(Text::clean(raw).as_str(), shown, "{raw:?}");
            let encoded = serde_json::to_string(raw).unwrap();
            let decoded: Text = serde_json::from_str(&encoded).unwrap();
            assert_eq!(decoded.as_str(), shown, "{raw:?}");
        }
    }

    #[test]
    fn wide_and_combining_characters_take_the_columns_that_they_take() {
        assert_eq!(left("漢字", 6), "漢字  ");
        assert_eq!(left("漢字漢字", 6), "漢字… ");
        assert_eq!(right("e\u{301}", 3), "  e\u{301}");
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut("abcdef", 0), "");
        assert_eq!(cut_front("[2001:db8::1]:8080", 8), "…1]:8080");
    }

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("incomprehensible yes", 7), ["incomp…", "yes"]);
    }

    proptest! {
        #[test]
        fn every_text_fits(text in any::<String>(), columns in 0_usize..40) {
            let text = Text::clean(&text);
            prop_assert!(!text.as_str().chars().any(char::is_control));
            prop_assert_eq!(width(&left(text.as_str(), columns)), columns);
            prop_assert_eq!(width(&right(text.as_str(), columns)), columns);
            prop_assert!(width(&cut_front(text.as_str(), columns)) <= columns);
        }
    }
}
