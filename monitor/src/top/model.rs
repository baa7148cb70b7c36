//! What is shown, and (in `top/model/keys.rs`) what a key changes about it: values in, values out. No clock, no
//! terminal, no network.

use std::time::Instant;

use super::{
    answers::{Answers, Key, Role, Server},
    client::{DaemonUrl, Trouble, Wish},
    columns::{Column, Moment},
    hanging::{Hang, Hanging},
};

mod keys;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Press {
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Enter,
    Escape,
    Tab,
    Backspace,
    /// Ctrl-U
    Clear,
    /// Ctrl-C
    Interrupt,
    /// Ctrl-Z
    Suspend,
    Character(char),
}

/// What only the outside can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Quit,
    Suspend,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Screen {
    Overview,
    Detail(Key),
    Health,
    Help,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Focus {
    Servers,
    Hanging,
}

/// What the last drawing found out about the room it had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extent {
    /// Lines that are turned over at once.
    pub(super) page: usize,
    /// How far the text can be scrolled.
    pub(super) scroll_max: usize,
}

#[derive(Debug)]
pub(super) struct Model {
    pub(super) url: DaemonUrl,
    pub(super) answers: Option<Answers>,
    /// Why the last question had no answer, and since when there is none.
    pub(super) trouble: Option<(Trouble, Instant)>,
    pub(super) screen: Screen,
    /// Where help was asked for.
    before: Screen,
    pub(super) focus: Focus,
    server: Option<Key>,
    hang: Option<Hang>,
    /// None is the daemon's order: the worst first.
    pub(super) sort: Option<Column>,
    pub(super) reversed: bool,
    pub(super) role: Option<Role>,
    pub(super) filter: String,
    /// The filter is being written.
    pub(super) writing: bool,
    pub(super) paused: Option<Instant>,
    pub(super) scroll: usize,
    pub(super) extent: Extent,
}

impl Model {
    pub(super) fn new(url: DaemonUrl) -> Self {
        Self {
            url,
            answers: None,
            trouble: None,
            screen: Screen::Overview,
            before: Screen::Overview,
            focus: Focus::Servers,
            server: None,
            hang: None,
            sort: None,
            reversed: false,
            role: None,
            filter: String::new(),
            writing: false,
            paused: None,
            scroll: 0,
            extent: Extent::default(),
        }
    }

    /// Takes what the daemon answered, or why it did not.
    pub(super) fn take(&mut self, answer: Result<Answers, Trouble>, now: Instant) {
        if self.paused.is_some() {
            return;
        }
        match answer {
            Ok(answers) => {
                self.answers = Some(answers);
                self.trouble = None;
            }
            Err(trouble) => {
                let since = self.trouble.as_ref().map_or(now, |(_, since)| *since);
                self.trouble = Some((trouble, since));
            }
        }
    }

    pub(super) fn wish(&self) -> Wish {
        let screen = if self.screen == Screen::Help {
            &self.before
        } else {
            &self.screen
        };
        Wish {
            detail: match screen {
                Screen::Detail(key) => Some(key.clone()),
                Screen::Overview | Screen::Health | Screen::Help => None,
            },
            paused: self.paused.is_some(),
        }
    }

    /// The servers that are shown, in their order.
    pub(super) fn servers(&self) -> Vec<&Server> {
        let Some(answers) = &self.answers else {
            return Vec::new();
        };
        let mut servers: Vec<&Server> = answers.servers.servers.iter().collect();
        servers.retain(|server| {
            self.role.is_none_or(|role| role == server.role)
                && self.finds(
                    std::iter::once(server.server.as_str())
                        .chain(server.hosts.iter().map(|host| host.as_str())),
                )
        });
        match self.sort {
            Some(column) => {
                let time = answers.servers.time;
                servers.sort_by(|a, b| column.compare(a, b, self.reversed, time));
            }
            None if self.reversed => servers.reverse(),
            None => {}
        }
        servers
    }

    /// What hangs and is shown.
    pub(super) fn hanging(&self) -> Vec<&Hang> {
        let all = self.answers.iter().flat_map(|answers| &answers.hanging.all);
        all.filter(|hang| {
            self.role
                .is_none_or(|role| hang.both_ends || role == hang.role)
                && self.finds([hang.server.as_str(), hang.client.as_str(), &hang.target()])
        })
        .collect()
    }

    fn finds<'a>(&self, texts: impl IntoIterator<Item = &'a str>) -> bool {
        let filter = self.filter.trim().to_lowercase();
        filter.is_empty()
            || texts
                .into_iter()
                .any(|text| text.to_lowercase().contains(&filter))
    }

    /// The place of the selected server; the first when it is not shown.
    pub(super) fn selected_server(&self, among: &[&Server]) -> usize {
        let is_it = |server: &&Server| {
            self.server
                .as_ref()
                .is_some_and(|key| key.role == server.role && key.server == server.server)
        };
        among.iter().position(is_it).unwrap_or(0)
    }

    pub(super) fn selected_hang(&self, among: &[&Hang]) -> usize {
        let is_it = |hang: &&Hang| self.hang.as_ref().is_some_and(|selected| selected.is(hang));
        among.iter().position(is_it).unwrap_or(0)
    }

    /// The figures of a server, and what hangs there if that is known already.
    pub(super) fn detail(&self, key: &Key) -> Option<(&Server, Option<&Hanging>)> {
        let answers = self.answers.as_ref()?;
        let is_it = |server: &&Server| server.role == key.role && server.server == key.server;
        let server = answers.servers.servers.iter().find(is_it)?;
        let hanging = answers.detail.as_ref();
        Some((
            server,
            hanging
                .filter(|(of, _)| of == key)
                .map(|(_, hanging)| hanging),
        ))
    }

    /// When what is shown was true, counted on for as long as it is known to go on.
    pub(super) fn moment(&self, now: Instant) -> Option<Moment> {
        let answers = self.answers.as_ref()?;
        let failed = self.trouble.as_ref().map(|(_, since)| *since);
        let until = [self.paused, failed]
            .into_iter()
            .flatten()
            .fold(now, Instant::min);
        Some(Moment {
            time: answers.servers.time,
            since: until.saturating_duration_since(answers.at).as_secs_f64(),
        })
    }

    /// How old what is shown is.
    pub(super) fn age(&self, now: Instant) -> Option<f64> {
        let answers = self.answers.as_ref()?;
        Some(now.saturating_duration_since(answers.at).as_secs_f64())
    }
}

#[cfg(test)]
mod tests;
