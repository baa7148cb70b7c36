//! The `closewatch` binary of this build, as a user would start it.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{peers::end_process, sandbox::Sandbox};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_closewatch");
/// A port of the kernel's choice.
pub(crate) const ANYWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// Who the kernel says is nobody.
const NOBODY: u32 = 65534;

pub(crate) struct Daemon {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    pub(crate) listen: SocketAddr,
    pub(crate) records: PathBuf,
    /// The folder of one that is not root.
    home: Option<TempDir>,
}

impl Daemon {
    /// Starts the daemon outside the namespaces, and returns when it sees every packet of the cgroup.
    pub(crate) fn start(sandbox: &Sandbox, records: &Path) -> Daemon {
        Daemon::start_at(sandbox, records, ANYWHERE)
    }

    /// The same where it is to listen.
    pub(crate) fn start_at(sandbox: &Sandbox, records: &Path, listen: SocketAddr) -> Daemon {
        Daemon::launch(Command::new(BINARY), sandbox, records, listen)
    }

    /// The same as the systemd unit starts it: as another user than root, with three of root's powers.
    pub(crate) fn start_confined(sandbox: &Sandbox) -> Daemon {
        Daemon::start_confined_with(sandbox, "", |_| {})
    }

    /// The same with more powers, as `+sys_ptrace`, and settings.
    pub(crate) fn start_confined_with(
        sandbox: &Sandbox,
        more: &str,
        set: impl FnOnce(&mut Command),
    ) -> Daemon {
        let powers = ["-all,+bpf,+perfmon,+net_admin", more];
        let powers = powers.join(if more.is_empty() { "" } else { "," });
        // Neither the sandbox nor the folder of the build need be open to that user.
        let home = tempfile::tempdir().unwrap();
        let binary = home.path().join("closewatch");
        fs::copy(BINARY, &binary).unwrap();
        chown(home.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        let records = home.path().join("records.jsonl");
        let mut command = Command::new("setpriv");
        command
            .arg(format!("--reuid={NOBODY}"))
            .arg(format!("--regid={NOBODY}"))
            .arg("--clear-groups")
            .arg(format!("--bounding-set={powers}"))
            .arg(format!("--inh-caps={powers}"))
            .arg(format!("--ambient-caps={powers}"))
            .arg("--no-new-privs")
            .arg(binary);
        set(&mut command);
        let mut daemon = Daemon::launch(command, sandbox, &records, ANYWHERE);
        daemon.home = Some(home);
        daemon
    }

    /// What `/proc` says of each of its threads: the thread's name, and the file `status`.
    pub(crate) fn threads(&self) -> Vec<(String, String)> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let threads = tasks.filter_map(|task| {
            let status = fs::read_to_string(task.ok()?.path().join("status")).ok()?;
            let name = status.lines().next()?.strip_prefix("Name:")?.trim();
            Some((name.to_owned(), status))
        });
        threads.collect()
    }

    pub(crate) fn launch(
        command: Command,
        sandbox: &Sandbox,
        records: &Path,
        listen: SocketAddr,
    ) -> Daemon {
        let daemon = Daemon::begin(command, sandbox, records, listen);
        let deadline = Instant::now() + Duration::from_secs(20);
        while !daemon.get("/readyz").starts_with("HTTP/1.1 200") {
            assert!(
                Instant::now() < deadline,
                "never ready: {:#?}",
                daemon.log()
            );
            thread::sleep(Duration::from_millis(10));
        }
        daemon
    }

    /// Returns once its log says that it serves.
    pub(crate) fn begin(
        mut command: Command,
        sandbox: &Sandbox,
        records: &Path,
        listen: SocketAddr,
    ) -> Daemon {
        command
            .args([
                "run",
                "--listen",
                &listen.to_string(),
                "--slow-after",
                "1s",
                "--log-format",
                "json",
            ])
            .arg("--cgroup")
            .arg(sandbox.cgroup_directory())
            .arg("--records")
            .arg(records)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&log);
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        let records = records.to_owned();
        let mut daemon = Daemon {
            child,
            log,
            listen,
            records,
            home: None,
        };
        let said = daemon.await_log("serving metrics");
        let field = said.get("listen").unwrap_or(&said["fields"]["listen"]);
        daemon.listen = field
            .as_str()
            .and_then(|listen| listen.parse().ok())
            .unwrap();
        daemon
    }

    /// The first log line that contains the text, once there is one.
    pub(crate) fn await_log(&mut self, text: &str) -> Value {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let ended = self.child.try_wait().unwrap();
            let log = self.log();
            if let Some(line) = log.iter().find(|line| line.contains(text)) {
                return serde_json::from_str(line).expect("a JSON log line");
            }
            let waiting = ended.is_none() && Instant::now() < deadline;
            assert!(
                waiting,
                "no log line says {text:?} (daemon ended: {ended:?}): {log:#?}"
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The whole response to a request for the path; empty when there was none.
    pub(crate) fn get(&self, path: &str) -> String {
        http_get(self.listen, path)
    }

    pub(crate) fn metrics(&self) -> String {
        let response = self.get("/metrics");
        let (head, body) = response
            .split_once("\r\n\r\n")
            .expect("a response from /metrics");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        body.to_owned()
    }

    /// What it knows just now, but for histograms and its own process: for whoever looks for what is missing.
    pub(crate) fn knows(&self) -> Vec<String> {
        let metrics = self.metrics();
        let of_interest = |line: &&str| {
            line.starts_with("closewatch_") && !line.contains("_bucket{") && !line.ends_with(" 0")
        };
        metrics
            .lines()
            .filter(of_interest)
            .map(str::to_owned)
            .collect()
    }

    /// The samples that say what the daemon could not see.
    pub(crate) fn losses(&self) -> Vec<String> {
        let kinds = [
            "_lost_total",
            "_unparsed_total",
            "_swept_total",
            "_folded_total",
            "_failed_total",
        ];
        let metrics = self.metrics();
        let lines = metrics
            .lines()
            .filter(|line| !line.starts_with('#') && !line.ends_with(" 0"));
        lines
            .filter(|line| kinds.iter().any(|kind| line.contains(kind)))
            .map(str::to_owned)
            .collect()
    }

    /// The sum of the samples of a metric whose labels contain every one of the given.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let metrics = self.metrics();
        let samples = metrics.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let (found, value) = rest.rsplit_once(' ')?;
            let same = found.is_empty() || found.starts_with('{');
            (same && labels.iter().all(|label| found.contains(label))).then_some(value)
        });
        samples.map(|value| value.parse::<f64>().unwrap()).sum()
    }

    pub(crate) fn await_metric(&self, name: &str, labels: &[&str], at_least: f64) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.metric(name, labels) < at_least {
            let metrics = self.metrics();
            let waiting = Instant::now() < deadline;
            assert!(
                waiting,
                "{name} {labels:?} never reached {at_least}:\n{metrics}"
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn hang_up(&self) {
        self.signal(libc::SIGHUP);
    }

    pub(crate) fn signal(&self, signal: i32) {
        // SAFETY: signals a child that has not been waited for, so the id is still its own.
        unsafe { libc::kill(self.pid() as i32, signal) };
    }

    /// SIGTERM; everything must be written and the daemon gone with status 0 within a second.
    /// Returns the log.
    pub(crate) fn stop(mut self) -> Vec<String> {
        self.terminate();
        self.log()
    }

    /// The same for one that is kept.
    pub(crate) fn terminate(&mut self) {
        let status = end_process(&mut self.child, libc::SIGTERM, Duration::from_secs(1));
        let code = status.and_then(|status| status.code());
        assert_eq!(
            code,
            Some(0),
            "status {status:?} (none: not within 1 s): {:#?}",
            self.log()
        );
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        end_process(&mut self.child, libc::SIGTERM, Duration::from_secs(2));
        if thread::panicking() {
            eprintln!("the daemon's log: {:#?}", self.log());
        }
    }
}

pub(crate) fn http_get(from: SocketAddr, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {from}\r\nConnection: close\r\n\r\n");
    let Ok(mut stream) = TcpStream::connect(from) else {
        return String::new();
    };
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let mut response = Vec::new();
    if stream.write_all(request.as_bytes()).is_ok() {
        let _ = stream.read_to_end(&mut response);
    }
    String::from_utf8_lossy(&response).into_owned()
}

pub(crate) fn read_records(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}
