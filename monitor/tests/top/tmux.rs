//! A terminal that can be read: a tmux server of its own, with a shell in it.

use std::{
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Terminal {
    socket: PathBuf,
    _directory: TempDir,
}

impl Terminal {
    /// A shell that says `$` when it waits for a command.
    pub(crate) fn shell(columns: u16, lines: u16) -> Terminal {
        let directory = tempfile::tempdir().unwrap();
        let terminal = Terminal {
            socket: directory.path().join("tmux"),
            _directory: directory,
        };
        let [columns, lines] = [columns, lines].map(|size| size.to_string());
        let size = ["-x", &columns, "-y", &lines];
        let shell = "env -i PATH=/usr/bin:/bin TERM=screen-256color LANG=C.UTF-8 PS1='$ ' sh";
        let created = [
            &["-f", "/dev/null", "new-session", "-d"],
            &size[..],
            &[shell],
        ]
        .concat();
        terminal.tmux(&created);
        terminal.wait("the shell", |screen| screen.starts_with('$'));
        terminal
    }

    /// The view of the daemon that serves there, once it shows an answer.
    pub(crate) fn top(columns: u16, lines: u16, url: &str) -> Terminal {
        let terminal = Terminal::shell(columns, lines);
        terminal.command(&format!("{} top --url {url}", program()));
        terminal.wait("the first answer", |screen| screen.contains(" live\n"));
        terminal
    }

    /// Types a line.
    pub(crate) fn command(&self, line: &str) {
        self.tmux(&["send-keys", "-l", line]);
        self.keys(&["Enter"]);
    }

    /// Presses keys, by tmux's names.
    pub(crate) fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    pub(crate) fn resize(&self, columns: u16, lines: u16) {
        let [columns, lines] = [columns, lines].map(|size| size.to_string());
        self.tmux(&["resize-window", "-x", &columns, "-y", &lines]);
    }

    /// What is on the screen, without what is behind the last letter of each line.
    pub(crate) fn screen(&self) -> String {
        let screen = self.tmux(&["capture-pane", "-p"]);
        screen
            .lines()
            .map(|line| format!("{}\n", line.trim_end()))
            .collect()
    }

    /// The same with its colours, as escape sequences.
    pub(crate) fn colours(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-e"])
    }

    /// What tmux knows of it.
    pub(crate) fn is(&self, what: &str) -> String {
        let told = self.tmux(&["display-message", "-p", &format!("#{{{what}}}")]);
        told.trim_end().to_owned()
    }

    /// Waits until the screen is like this, and returns it.
    pub(crate) fn wait(&self, what: &str, like: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let screen = self.screen();
            if like(&screen) {
                return screen;
            }
            assert!(Instant::now() < deadline, "never came: {what}\n{screen}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn wait_for(&self, text: &str) -> String {
        self.wait(text, |screen| screen.contains(text))
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("tmux");
        // As in no other tmux.
        command.env_remove("TMUX").env("LC_ALL", "C.UTF-8");
        let output = command.arg("-S").arg(&self.socket).args(arguments).output();
        let output = output.expect("tmux is missing: `cargo xtask test` installs it");
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "tmux {arguments:?}: {complaints}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the terminal:\n{}", self.screen());
        }
        let mut command = Command::new("tmux");
        let _ = command
            .arg("-S")
            .arg(&self.socket)
            .arg("kill-server")
            .status();
    }
}

pub(crate) fn program() -> &'static str {
    env!("CARGO_BIN_EXE_closewatch")
}

/// The line of the screen that has all these texts in it, cut into words.
pub(crate) fn words<'s>(screen: &'s str, of: &[&str]) -> Vec<&'s str> {
    let line = screen
        .lines()
        .find(|line| of.iter().all(|text| line.contains(text)));
    let line = line.unwrap_or_else(|| panic!("no line has {of:?}:\n{screen}"));
    line.split_whitespace().collect()
}
