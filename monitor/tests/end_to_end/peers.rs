//! The programs that play the ends, from `tests/peers`.
//!
//! A peer says `ready` when it may be counted on (a server: when it listens) and begins when it is
//! told `go`, so that its name and pid are known before its first packet.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use crate::sandbox::{Plays, Sandbox};

pub(crate) struct Peer {
    child: Child,
    lines: Receiver<String>,
    messages: PathBuf,
}

impl Peer {
    /// Starts a program of ours that says `ready`.
    pub(crate) fn start(sandbox: &Sandbox, mut command: Command, plays: Plays) -> Peer {
        let mut peer = Peer::spawn(sandbox, &mut command);
        peer.await_line("ready");
        sandbox.note_processes(peer.pid(), plays);
        peer.tell("go");
        peer
    }

    /// Starts any program.
    pub(crate) fn spawn(sandbox: &Sandbox, command: &mut Command) -> Peer {
        let messages = tempfile::Builder::new()
            .tempfile_in(sandbox.directory.path())
            .unwrap();
        let (messages, path) = messages.keep().unwrap();
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(messages);
        let mut child = command.spawn().unwrap_or_else(|error| {
            panic!(
                "{:?}: {error}; `cargo xtask test` installs it",
                command.get_program()
            )
        });
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Peer {
            child,
            lines,
            messages: path,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn await_line(&self, text: &str) {
        self.await_line_within(text, Duration::from_secs(30));
    }

    pub(crate) fn await_line_within(&self, text: &str, patience: Duration) -> String {
        let deadline = Instant::now() + patience;
        loop {
            let line = self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()));
            match line {
                Ok(line) if line.contains(text) => return line,
                Ok(_) => {}
                Err(error) => panic!("a peer never said {text:?} ({error}): {}", self.messages()),
            }
        }
    }

    pub(crate) fn tell(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        // In one write: a peer that has what it waits for may close its end.
        let told = stdin.write_all(format!("{text}\n").as_bytes());
        let ended = self.child.try_wait();
        assert!(
            told.is_ok(),
            "a peer is gone ({ended:?}): {}",
            self.messages()
        );
    }

    /// Waits for the program to end by itself, and well.
    pub(crate) fn finish(self) {
        self.finish_within(Duration::from_secs(60));
    }

    pub(crate) fn finish_within(mut self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                Instant::now() < deadline,
                "a peer does not end: {}",
                self.messages()
            );
            thread::sleep(Duration::from_millis(5));
        };
        assert!(
            status.success(),
            "a peer failed with {status}: {}",
            self.messages()
        );
    }

    pub(crate) fn stop(mut self) {
        end_process(&mut self.child, libc::SIGTERM, Duration::from_secs(15));
    }

    pub(crate) fn kill(mut self) {
        end_process(&mut self.child, libc::SIGKILL, Duration::from_secs(5));
    }

    pub(crate) fn messages(&self) -> String {
        fs::read_to_string(&self.messages).unwrap_or_default()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        end_process(&mut self.child, libc::SIGKILL, Duration::from_secs(5));
    }
}

/// Signals a child and waits for it; none when it had to be killed for lack of patience.
pub(crate) fn end_process(
    child: &mut Child,
    signal: i32,
    patience: Duration,
) -> Option<ExitStatus> {
    if let Ok(Some(status)) = child.try_wait() {
        return Some(status);
    }
    // SAFETY: the child has not been waited for, so the id is still its own.
    unsafe { libc::kill(child.id() as i32, signal) };
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        thread::sleep(Duration::from_millis(2));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

pub(crate) fn peer_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/peers")
        .join(name)
}

/// The Python that has the peers' packages.
pub(crate) fn python() -> PathBuf {
    PathBuf::from(provided("CLOSEWATCH_TEST_PYTHON"))
}

/// Where node finds the peers' packages.
pub(crate) fn node_modules() -> PathBuf {
    provided("CLOSEWATCH_TEST_NODE_MODULES").into()
}

fn provided(variable: &str) -> String {
    env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set: `cargo xtask test` provides it"))
}
