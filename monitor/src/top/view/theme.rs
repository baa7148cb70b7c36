//! How things look: the terminal's own colours, which its owner chose to be readable, and never colour
//! alone.

use ratatui::style::{Color, Modifier, Style};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::top) struct Theme {
    colour: bool,
}

impl Theme {
    /// `NO_COLOR` leaves bold, dim and reverse.
    pub(in crate::top) fn new(no_color: bool) -> Self {
        Self { colour: !no_color }
    }

    pub(in crate::top) fn title(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// What explains the rest.
    pub(in crate::top) fn quiet(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub(in crate::top) fn bad(self) -> Style {
        self.colour(Color::Red).add_modifier(Modifier::BOLD)
    }

    pub(in crate::top) fn good(self) -> Style {
        self.colour(Color::Green)
    }

    /// What a client waited for in vain.
    pub(in crate::top) fn patience(self) -> Style {
        self.colour(Color::Magenta)
    }

    pub(in crate::top) fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    fn colour(self, colour: Color) -> Style {
        if self.colour {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    }
}
