//! The terminal: taken, and given back as it was, whatever way the program ends.

use std::{
    io::{self, Stdout, Write as _},
    panic, process,
    sync::atomic::{AtomicBool, Ordering},
    sync::mpsc::SyncSender,
    thread,
};

use anyhow::{Context as _, Result};
use ratatui::{
    Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::{Hide, Show},
        event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
        execute,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
};
use tokio::signal::unix::{SignalKind, signal};

use super::{Happening, model::Press};

static TAKEN: AtomicBool = AtomicBool::new(false);

/// The screen of our own; dropping gives the terminal back.
pub(super) struct Screen {
    pub(super) terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    pub(super) fn take() -> Result<Self> {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            // A message on a screen that is about to go would be lost, and any thread may panic.
            give_back();
            before(panic);
            process::exit(101);
        }));
        take().context("use this terminal")?;
        let screen = Terminal::new(CrosstermBackend::new(io::stdout()));
        Ok(Self {
            terminal: screen
                .inspect_err(|_| give_back())
                .context("use this terminal")?,
        })
    }

    /// Lets the shell go on, and comes back when it says so.
    pub(super) fn suspend(&mut self) -> Result<()> {
        give_back();
        // SAFETY: signals this process, which stops here until it is continued.
        unsafe { libc::raise(libc::SIGTSTP) };
        take().context("use this terminal again")?;
        // A new one draws everything. `clear` would ask the terminal for its cursor, and the thread that
        // waits for keys would get the answer.
        self.terminal = Terminal::new(CrosstermBackend::new(io::stdout()))?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn take() -> io::Result<()> {
    TAKEN.store(true, Ordering::SeqCst);
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen, Hide)
}

fn give_back() {
    if !TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    // A terminal that is gone cannot be told, and that is no matter.
    let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
    let _ = io::stdout().flush();
    let _ = disable_raw_mode();
}

/// Tells of keys, resizes and signals, each on a thread that ends with the process.
pub(super) fn listen(to: &SyncSender<Happening>) -> Result<()> {
    let signals = to.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .context("start the runtime")?;
    let (mut terminate, mut hang_up, mut interrupt) = {
        let _inside = runtime.enter();
        (
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
            signal(SignalKind::interrupt())?,
        )
    };
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        let _ = signals.send(Happening::End);
    });
    let keys = to.clone();
    thread::spawn(move || {
        loop {
            let happening = match event::read() {
                Ok(Event::Key(key)) => match press(key) {
                    Some(press) => Happening::Press(press),
                    None => continue,
                },
                Ok(Event::Resize(..)) => Happening::Resize,
                Ok(Event::FocusGained | Event::FocusLost | Event::Mouse(_) | Event::Paste(_)) => {
                    continue;
                }
                // The terminal is gone.
                Err(_) => Happening::End,
            };
            let end = matches!(happening, Happening::End);
            if keys.send(happening).is_err() || end {
                return;
            }
        }
    });
    Ok(())
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "of the many keys of keyboards these have a meaning"
)]
fn press(key: KeyEvent) -> Option<Press> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Some(Press::Interrupt),
            KeyCode::Char('z') => Some(Press::Suspend),
            KeyCode::Char('u') => Some(Press::Clear),
            // How some terminals send Backspace.
            KeyCode::Char('h') => Some(Press::Backspace),
            _ => None,
        };
    }
    match key.code {
        KeyCode::Up => Some(Press::Up),
        KeyCode::Down => Some(Press::Down),
        KeyCode::PageUp => Some(Press::PageUp),
        KeyCode::PageDown => Some(Press::PageDown),
        KeyCode::Home => Some(Press::Home),
        KeyCode::End => Some(Press::End),
        KeyCode::Enter => Some(Press::Enter),
        KeyCode::Esc => Some(Press::Escape),
        KeyCode::Tab | KeyCode::BackTab => Some(Press::Tab),
        KeyCode::Backspace => Some(Press::Backspace),
        KeyCode::Char(c) if !key.modifiers.contains(KeyModifiers::ALT) => Some(Press::Character(c)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        env,
        fs::File,
        io::Read as _,
        os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        process::{Command, Stdio},
    };

    use super::*;

    const PANICS: &str = "CLOSEWATCH_TEST_PANICS";

    /// The half of the test below that runs on a terminal.
    #[test]
    fn panics_on_a_terminal() {
        if env::var_os(PANICS).is_none() {
            return;
        }
        let _screen = Screen::take().unwrap();
        let other = thread::spawn(|| panic!("on a thread of its own"));
        let _ = other.join();
        unreachable!("the whole program ends");
    }

    #[test]
    fn panic_gives_the_terminal_back_and_is_told() {
        let (master, slave) = pty();
        let before = settings(&slave);
        let stdio = || Stdio::from(slave.try_clone().unwrap());
        let mut child = Command::new(env::current_exe().unwrap())
            .args([
                "--exact",
                "top::terminal::tests::panics_on_a_terminal",
                "--nocapture",
            ])
            .env(PANICS, "1")
            .stdin(stdio())
            .stdout(stdio())
            .stderr(stdio())
            .spawn()
            .unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(101));
        assert_eq!(settings(&slave), before, "echo and lines are back");
        // SAFETY: asks for bytes that wait to be read, into a number of ours.
        let waiting = unsafe {
            let mut waiting: libc::c_int = 0;
            assert_eq!(
                libc::ioctl(master.as_raw_fd(), libc::FIONREAD, &raw mut waiting),
                0
            );
            waiting as usize
        };
        let mut told = vec![0; waiting];
        File::from(master).read_exact(&mut told).unwrap();
        let told = String::from_utf8(told).unwrap();
        let [taken, left, shown, panic] = [
            "\u{1b}[?1049h",
            "\u{1b}[?1049l",
            "\u{1b}[?25h",
            "on a thread of its own",
        ]
        .map(|text| {
            told.find(text)
                .unwrap_or_else(|| panic!("no {text:?} in {told:?}"))
        });
        assert!(taken < left && left < panic && shown < panic, "{told:?}");
    }

    fn pty() -> (OwnedFd, OwnedFd) {
        let mut ends = [0; 2];
        let [master, slave] = &mut ends;
        // SAFETY: fills two descriptors that nobody else owns; name, settings and size are not given.
        unsafe {
            let opened = libc::openpty(
                master,
                slave,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            );
            assert_eq!(opened, 0);
            (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))
        }
    }

    /// The flags of input, output, control and lines.
    fn settings(terminal: &OwnedFd) -> [libc::tcflag_t; 4] {
        // SAFETY: fills settings that are plain numbers.
        let settings = unsafe {
            let mut settings: libc::termios = std::mem::zeroed();
            assert_eq!(libc::tcgetattr(terminal.as_raw_fd(), &raw mut settings), 0);
            settings
        };
        [
            settings.c_iflag,
            settings.c_oflag,
            settings.c_cflag,
            settings.c_lflag,
        ]
    }
}
