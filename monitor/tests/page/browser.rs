//! Chromium, driven by the DevTools protocol over a pair of pipes.
//!
//! Collects what a page must never do: complain on its console, or ask another host for anything.

use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::peers::end_process;

const PATIENCE: Duration = Duration::from_secs(30);

// Fields are dropped in this order.
pub(crate) struct Browser {
    child: Child,
    commands: File,
    answers: Receiver<Value>,
    session: String,
    number: u64,
    /// Addresses of everything that was asked for.
    pub(crate) requests: Vec<String>,
    /// Errors and warnings of the console, and exceptions that nothing caught.
    pub(crate) complaints: Vec<String>,
    _profile: TempDir,
}

impl Browser {
    pub(crate) fn start() -> Browser {
        let profile = tempfile::tempdir().unwrap();
        let (to_read, commands) = pipe();
        let (answers, to_write) = pipe();
        let mut command = Command::new("chromium");
        command
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--remote-debugging-pipe",
            ])
            .args(["--disable-background-networking", "--disable-dev-shm-usage"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // SAFETY: between fork and exec only async-signal-safe calls are made, on descriptors that the
        // closure owns. They were made above 4, so that none is overwritten before it is used.
        unsafe {
            command.pre_exec(move || {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::dup2(to_read.as_raw_fd(), 3);
                libc::dup2(to_write.as_raw_fd(), 4);
                Ok(())
            });
        }
        let child = command
            .spawn()
            .expect("chromium is missing: `cargo xtask test` installs it");
        // The closure holds the ends that are the browser's: its end would not be seen.
        drop(command);
        let (sender, messages) = channel();
        thread::spawn(move || {
            let mut answers = BufReader::new(File::from(answers));
            let mut message = Vec::new();
            while answers
                .read_until(0, &mut message)
                .is_ok_and(|read| read > 0)
            {
                message.pop();
                let parsed = serde_json::from_slice(&message).unwrap();
                message.clear();
                if sender.send(parsed).is_err() {
                    return;
                }
            }
        });
        let mut browser = Browser {
            child,
            commands: commands.into(),
            answers: messages,
            session: String::new(),
            number: 0,
            requests: Vec::new(),
            complaints: Vec::new(),
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attached = browser.call(
            "Target.attachToTarget",
            json!({"targetId": target["targetId"], "flatten": true}),
        );
        browser.session = attached["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Opens the daemon's page on a screen of this width, and waits until it shows an answer.
    pub(crate) fn open(&mut self, from: SocketAddr, width: u32, scheme: &str) {
        self.screen(width, scheme);
        self.call("Page.navigate", json!({"url": format!("http://{from}/")}));
        self.wait("document.getElementById('freshness')?.textContent === 'Live'");
    }

    pub(crate) fn screen(&mut self, width: u32, scheme: &str) {
        self.call(
            "Emulation.setDeviceMetricsOverride",
            json!({"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600}),
        );
        let features = json!([
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]);
        self.call("Emulation.setEmulatedMedia", json!({"features": features}));
    }

    /// The value of an expression in the page, which may be a promise.
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let answer = self.call(
            "Runtime.evaluate",
            json!({"expression": expression, "returnByValue": true, "awaitPromise": true}),
        );
        assert!(
            answer.get("exceptionDetails").is_none(),
            "{expression}: {answer:#}"
        );
        answer["result"]["value"].clone()
    }

    pub(crate) fn text(&mut self, selector: &str) -> String {
        let value = self.value(&format!(
            "document.querySelector({})?.innerText ?? ''",
            json!(selector)
        ));
        value.as_str().unwrap().to_owned()
    }

    /// Waits until an expression is true.
    pub(crate) fn wait(&mut self, expression: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.value(&format!("Boolean({expression})")) != true {
            if Instant::now() > deadline {
                let page = self.text("body");
                panic!("never true: {expression}\n{:#?}\n{page}", self.complaints);
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Presses a key and lets it go.
    pub(crate) fn press(&mut self, key: &str) {
        let (code, number, text) = match key {
            "Tab" => ("Tab", 9, None),
            "Enter" => ("Enter", 13, Some("\r")),
            " " => ("Space", 32, Some(" ")),
            other => panic!("no such key here: {other}"),
        };
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({
                "type": kind, "key": key, "code": code, "windowsVirtualKeyCode": number,
            });
            if let Some(text) = text.filter(|_| kind == "keyDown") {
                event["text"] = text.into();
            }
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    /// The page did nothing that it must not: it asked only the daemon, and nothing was complained of.
    pub(crate) fn settle(&mut self, daemon: SocketAddr) {
        self.value("0");
        let own = format!("http://{daemon}/");
        let foreign: Vec<_> = self
            .requests
            .iter()
            .filter(|url| !url.starts_with(&own))
            .collect();
        assert_eq!(foreign, [""; 0], "asked others");
        assert_eq!(self.complaints, [""; 0], "complaints");
    }

    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.number += 1;
        let mut command = json!({"id": self.number, "method": method, "params": parameters});
        if !self.session.is_empty() {
            command["sessionId"] = self.session.as_str().into();
        }
        self.commands
            .write_all(format!("{command}\0").as_bytes())
            .unwrap();
        loop {
            let message = self
                .answers
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|error| panic!("chromium: {method}: {error}"));
            if message["id"] == self.number {
                let error = message.get("error");
                assert!(error.is_none(), "{method}: {message:#}");
                return message["result"].clone();
            }
            self.note(&message);
        }
    }

    fn note(&mut self, event: &Value) {
        let what = &event["params"];
        match event["method"].as_str().unwrap_or_default() {
            "Network.requestWillBeSent" => {
                let url = what["request"]["url"].as_str().unwrap();
                self.requests.push(url.to_owned());
            }
            "Runtime.exceptionThrown" | "Runtime.consoleAPICalled" | "Log.entryAdded" => {
                self.complaints.push(what.to_string());
            }
            _ => {}
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        end_process(&mut self.child, libc::SIGTERM, Duration::from_secs(5));
        // Its renderers are in its process group.
        // SAFETY: sends a signal; the group was made for this child and nobody else is in it.
        unsafe { libc::kill(-(self.child.id() as i32), libc::SIGKILL) };
    }
}

/// A pipe whose ends are closed on exec, and lie above the descriptors 3 and 4.
fn pipe() -> (OwnedFd, OwnedFd) {
    let mut ends = [0; 2];
    // SAFETY: fills two descriptors that nobody else owns; each is duplicated and closed once.
    unsafe {
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC), 0);
        let [read, write] = ends.map(|end| {
            let raised = libc::fcntl(end, libc::F_DUPFD_CLOEXEC, 10);
            assert!(raised >= 0);
            libc::close(end);
            OwnedFd::from_raw_fd(raised)
        });
        (read, write)
    }
}
