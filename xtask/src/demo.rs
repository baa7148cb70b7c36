//! `cargo xtask demo`: real connections to three servers, watched by a daemon of our own.
//!
//! Everything it starts lives in a cgroup of its own and ends with it, whatever happens.

use std::{
    env,
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::{
    cgroup::OwnCgroup,
    daemon::{self, Daemon},
    peers,
    report::{BEHAVIOURS, CONNECTIONS, Report},
    scrape::scrape,
    setup,
    shell::{as_root, repository},
};

pub(crate) fn prepare_and_watch() -> Result<()> {
    setup::setup()?;
    daemon::build()?;
    Err(watching()?.exec()).context("start the demo as root")
}

/// The second half of the command, the one that needs root.
pub(crate) fn watching() -> Result<Command> {
    peers::python()?;
    // By way of the process: a build meanwhile may have put another file in the place of ours.
    let mut watching = as_root(format!("/proc/{}/exe", std::process::id()))?;
    watching.args(["demo", "--prepared"]);
    Ok(watching)
}

pub(crate) fn watch() -> Result<()> {
    let interrupt = Interrupt::catch()?;
    let folder = tempfile::tempdir()?;
    let records = folder.path().join("records.jsonl");
    let cgroup = OwnCgroup::create()?;
    let mut daemon = Daemon::start(
        Command::new(daemon::binary())
            .args([
                OsStr::new("run"),
                OsStr::new("--cgroup"),
                cgroup.path().as_os_str(),
            ])
            .args([OsStr::new("--slow-after"), OsStr::new("1s")])
            .args([OsStr::new("--records"), records.as_os_str()]),
        &folder.path().join("log"),
    )?;
    let address = interrupt
        .wait(Duration::from_secs(10), || daemon.address())?
        .with_context(|| format!("closewatch did not say where it serves:\n{}", daemon.log()))?;

    cgroup.enter()?;
    println!("{CONNECTIONS} clients visit each of three servers and close; close_timeout is 4 s …");
    let mut servers = Vec::new();
    for behaviour in &BEHAVIOURS {
        servers.push(server(behaviour.name)?);
    }
    let addresses: Vec<_> = servers.iter().map(|(_, address)| address.clone()).collect();
    visit(&interrupt, &addresses)?;
    // A server that never closes TCP lets go when it is ended, and only then do its sockets end.
    drop(servers);

    let expected = |samples: &_| Report::new(&addresses, samples, "").counted();
    let samples = interrupt.wait(Duration::from_secs(5), || {
        let samples = scrape(address)?;
        Ok(expected(&samples).then_some(samples))
    })?;
    let samples = match samples {
        Some(samples) => samples,
        None => scrape(address)?,
    };
    daemon.stop()?;

    let records = fs::read_to_string(&records).context("read the records")?;
    let report = Report::new(&addresses, &samples, &records);
    report.print();
    let problems = report.problems();
    ensure!(
        problems.is_empty(),
        "this is not what the servers did:\n  {}\nclosewatch said:\n{}",
        problems.join("\n  "),
        daemon.log()
    );
    Ok(())
}

fn server(behaviour: &str) -> Result<(Peer, String)> {
    let mut process = python("server.py")?
        .arg(behaviour)
        .stdout(Stdio::piped())
        .spawn()
        .context("start a demo server")?;
    let output = process
        .stdout
        .take()
        .context("the server's output is ours")?;
    let server = Peer(process);
    let mut port = String::new();
    BufReader::new(output).read_line(&mut port)?;
    ensure!(
        !port.is_empty(),
        "the demo server '{behaviour}' did not start"
    );
    Ok((server, format!("127.0.0.1:{}", port.trim_end())))
}

fn visit(interrupt: &Interrupt, addresses: &[String]) -> Result<()> {
    let uris = addresses
        .iter()
        .map(|address| format!("ws://{address}/demo"));
    let mut clients = Peer(
        python("clients.py")?
            .arg(CONNECTIONS.to_string())
            .args(uris)
            .spawn()
            .context("start the demo clients")?,
    );
    let status = interrupt
        .wait(Duration::from_secs(20), || Ok(clients.0.try_wait()?))?
        .context("the demo clients did not finish within 20 s")?;
    ensure!(status.success(), "the demo clients failed ({status})");
    Ok(())
}

/// A program of `xtask/demo`, not as root: as the user who called sudo, where one did.
fn python(program: &str) -> Result<Command> {
    let mut python = Command::new(peers::interpreter());
    python.arg(repository().join("xtask/demo").join(program));
    // Out of the terminal's group: Ctrl-C reaches only us, and we end them.
    python.stdin(Stdio::null()).process_group(0);
    if let (Ok(user), Ok(group)) = (env::var("SUDO_UID"), env::var("SUDO_GID")) {
        python.uid(user.parse()?).gid(group.parse()?);
    }
    Ok(python)
}

/// A process that ends when dropped.
struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        // Both fail when it has ended, which is what is wanted.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// Ctrl-C and its kin end the waiting, so that dropping can clean up.
struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    fn catch() -> Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&flag))?;
        }
        Ok(Self(flag))
    }

    /// Asks again until there is an answer; none when `limit` has passed.
    fn wait<T>(
        &self,
        limit: Duration,
        mut ask: impl FnMut() -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let began = Instant::now();
        loop {
            if let Some(answer) = ask()? {
                return Ok(Some(answer));
            }
            if self.0.load(Ordering::Relaxed) {
                bail!("interrupted");
            }
            if began.elapsed() > limit {
                return Ok(None);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}
