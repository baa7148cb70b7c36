//! `closewatch top`: the daemon's page in a terminal, or as a plain table where there is none.
//!
//! In: the answers of the API ([`answers`], asked for by [`client`]) and keys. Both change the state
//! ([`model`]), which is drawn ([`view`]). Only [`terminal`] and [`client`] touch the outside.

mod answers;
mod client;
mod columns;
mod hanging;
mod model;
mod plain;
#[cfg(test)]
mod samples;
mod terminal;
mod text;
mod view;
mod words;

use std::{
    env,
    io::{self, IsTerminal as _, Write as _},
    sync::mpsc::{RecvTimeoutError, channel, sync_channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

pub(crate) use self::client::DaemonUrl;
use self::{
    answers::Answers,
    client::{Client, Trouble},
    model::{Effect, Model, Press},
    terminal::Screen,
    view::Theme,
};
use crate::config::Top;

/// Ages are counted up this often.
const TICK: Duration = Duration::from_secs(1);
/// What happens while one picture is drawn.
const HAPPENINGS: usize = 64;

/// What the state changes with.
enum Happening {
    Answer(Box<Result<Answers, Trouble>>),
    Press(Press),
    Resize,
    /// A signal, or the terminal is gone.
    End,
}

/// Shows what the daemon sees until it is told to end; where no person looks at it, once.
pub(crate) fn show(top: Top) -> Result<()> {
    if top.once || !io::stdout().is_terminal() {
        print(&top)
    } else {
        watch(&top)
    }
}

fn print(top: &Top) -> Result<()> {
    let answers = match Client::new(top)?.ask(None) {
        Ok(answers) => answers,
        Err(trouble) => bail!("{} {trouble}", top.url),
    };
    match io::stdout().write_all(plain::tables(&answers).as_bytes()) {
        // Who reads it has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("write to stdout"),
    }
}

fn watch(top: &Top) -> Result<()> {
    let client = Client::new(top)?;
    let theme = Theme::new(env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()));
    let mut model = Model::new(top.url.clone());
    let (sender, happenings) = sync_channel(HAPPENINGS);
    let (wishes, wished) = channel();
    let mut screen = Screen::take()?;
    terminal::listen(&sender)?;
    thread::spawn(move || {
        client.keep_asking(&wished, |answer| {
            sender.send(Happening::Answer(Box::new(answer))).is_ok()
        });
    });
    let mut wish = model.wish();
    loop {
        let now = Instant::now();
        screen
            .terminal
            .draw(|frame| model.extent = view::draw(frame, &model, theme, now))?;
        let mut happening = match happenings.recv_timeout(TICK) {
            Ok(happening) => Some(happening),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        // A paste is many keys: they are drawn together.
        while let Some(one) = happening {
            let now = Instant::now();
            match one {
                Happening::Answer(answer) => model.take(*answer, now),
                Happening::Press(press) => match model.press(press, now) {
                    Some(Effect::Quit) => return Ok(()),
                    Some(Effect::Suspend) => screen.suspend()?,
                    None => {}
                },
                Happening::Resize => {}
                Happening::End => return Ok(()),
            }
            happening = happenings.try_recv().ok();
        }
        let wished = model.wish();
        if wished != wish {
            wish = wished;
            // It ends only with this loop.
            let _ = wishes.send(wish.clone());
        }
    }
}
