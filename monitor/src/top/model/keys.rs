//! What a key changes about what is shown.

use std::time::Instant;

use super::{Effect, Focus, Model, Press, Screen};
use crate::top::{
    answers::{Key, Role},
    columns::Column,
};

/// Longer ones find nothing.
const FILTER_MAX: usize = 100;

impl Model {
    /// What a key does.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "what means the same everywhere comes first"
    )]
    pub(in crate::top) fn press(&mut self, press: Press, now: Instant) -> Option<Effect> {
        match press {
            Press::Interrupt => return Some(Effect::Quit),
            Press::Suspend => return Some(Effect::Suspend),
            _ if self.writing => self.write(press),
            Press::Character('q') => return Some(Effect::Quit),
            Press::Character('?') => self.help(),
            Press::Character('p') => self.paused = self.paused.xor(Some(now)),
            Press::Escape if self.screen != Screen::Overview => self.back(),
            _ if self.screen != Screen::Overview => self.read(press),
            _ => self.choose(press),
        }
        None
    }

    /// Writes the filter, which holds at once.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the other keys have no meaning here"
    )]
    fn write(&mut self, press: Press) {
        match press {
            Press::Enter | Press::Tab => self.writing = false,
            Press::Escape => {
                self.writing = false;
                self.filter.clear();
            }
            Press::Backspace => {
                self.filter.pop();
            }
            Press::Clear => self.filter.clear(),
            Press::Character(c) if self.filter.chars().count() < FILTER_MAX => self.filter.push(c),
            _ => {}
        }
    }

    fn help(&mut self) {
        if self.screen == Screen::Help {
            self.back();
        } else {
            self.before = std::mem::replace(&mut self.screen, Screen::Help);
            self.scroll = 0;
        }
    }

    fn back(&mut self) {
        self.screen = std::mem::replace(&mut self.before, Screen::Overview);
        self.scroll = 0;
    }

    /// A key on a screen that is a text.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the other keys have no meaning here"
    )]
    fn read(&mut self, press: Press) {
        let page = self.extent.page.max(1);
        self.scroll = match press {
            Press::Up | Press::Character('k') => self.scroll.saturating_sub(1),
            Press::Down | Press::Character('j') => self.scroll + 1,
            Press::PageUp => self.scroll.saturating_sub(page),
            Press::PageDown | Press::Character(' ') => self.scroll + page,
            Press::Home | Press::Character('g') => 0,
            Press::End | Press::Character('G') => usize::MAX,
            Press::Enter | Press::Backspace => return self.back(),
            Press::Character('h') if self.screen == Screen::Health => return self.back(),
            _ => self.scroll,
        }
        .min(self.extent.scroll_max);
    }

    /// A key on the overview.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the other keys have no meaning here"
    )]
    fn choose(&mut self, press: Press) {
        match press {
            Press::Up | Press::Character('k') => self.step(|at, _| at.saturating_sub(1)),
            Press::Down | Press::Character('j') => self.step(|at, _| at + 1),
            Press::PageUp => self.step(|at, page| at.saturating_sub(page)),
            Press::PageDown | Press::Character(' ') => self.step(|at, page| at + page),
            Press::Home | Press::Character('g') => self.step(|_, _| 0),
            Press::End | Press::Character('G') => self.step(|_, _| usize::MAX),
            Press::Tab => {
                self.focus = match self.focus {
                    Focus::Servers => Focus::Hanging,
                    Focus::Hanging => Focus::Servers,
                }
            }
            Press::Enter => self.open(),
            Press::Escape => self.filter.clear(),
            Press::Character('/') => self.writing = true,
            Press::Character('s') => {
                self.sort = match self.sort {
                    None => Column::SORTABLE.first().copied(),
                    Some(column) => {
                        let mut behind = Column::SORTABLE
                            .iter()
                            .skip_while(|other| **other != column);
                        behind.nth(1).copied()
                    }
                };
                self.reversed = false;
            }
            Press::Character('S') => self.reversed = !self.reversed,
            Press::Character('r') => {
                self.role = match self.role {
                    None => Some(Role::Server),
                    Some(Role::Server) => Some(Role::Client),
                    Some(Role::Client) => None,
                }
            }
            Press::Character('h') => {
                self.screen = Screen::Health;
                self.scroll = 0;
            }
            _ => {}
        }
    }

    /// Moves the selection of the list that has the focus.
    fn step(&mut self, to: impl Fn(usize, usize) -> usize) {
        let page = self.extent.page.max(1);
        match self.focus {
            Focus::Servers => {
                let servers = self.servers();
                let at =
                    to(self.selected_server(&servers), page).min(servers.len().saturating_sub(1));
                self.server = servers.get(at).map(|server| server.key());
            }
            Focus::Hanging => {
                let hanging = self.hanging();
                let at =
                    to(self.selected_hang(&hanging), page).min(hanging.len().saturating_sub(1));
                self.hang = hanging.get(at).map(|hang| (*hang).clone());
            }
        }
    }

    /// Shows the details of what is selected.
    fn open(&mut self) {
        let key = match self.focus {
            Focus::Servers => {
                let servers = self.servers();
                servers
                    .get(self.selected_server(&servers))
                    .map(|server| server.key())
            }
            Focus::Hanging => {
                let hanging = self.hanging();
                hanging.get(self.selected_hang(&hanging)).map(|hang| Key {
                    server: hang.server.clone(),
                    role: if hang.both_ends {
                        Role::Server
                    } else {
                        hang.role
                    },
                })
            }
        };
        if let Some(key) = key {
            self.server = Some(key.clone());
            self.screen = Screen::Detail(key);
            self.before = Screen::Overview;
            self.scroll = 0;
        }
    }
}
