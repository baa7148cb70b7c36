//! A virtual machine in QEMU: its serial console read line by line, its time limited, its process ended with us.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// What its packages are called in Debian.
pub(crate) const PACKAGES: [&str; 1] = ["qemu-system-x86"];

/// What a virtual machine's time is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Where other processes want this machine's CPUs, the guest's time stands still meanwhile:
    /// a nanosecond passes with each of its instructions, and with nothing else but waiting.
    Steady,
    /// As fast as can be, with two CPUs: time is ours.
    Fast,
}

/// How a virtual machine is made. It has no network.
pub(crate) struct Machine {
    pub(crate) pace: Pace,
    pub(crate) kernel: PathBuf,
    pub(crate) initramfs: PathBuf,
    /// Added to the kernel's command line.
    pub(crate) command_line: String,
    pub(crate) memory_mib: u32,
    /// Devices, in QEMU's words.
    pub(crate) devices: Vec<String>,
    /// Keeps all that the console said.
    pub(crate) log: PathBuf,
    /// It is ended when it runs for longer.
    pub(crate) limit: Duration,
}

/// The process, ended when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail when it has ended, which is what is wanted.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

impl Machine {
    /// Boots it and hands over each line of its serial console until it powers off, reboots or panics.
    ///
    /// # Errors
    ///
    /// When QEMU does not start or ends with an error, when the time is over, or when a line is an
    /// error for `each`.
    pub(crate) fn run(&self, mut each: impl FnMut(&str) -> Result<()>) -> Result<()> {
        let mut log =
            File::create(&self.log).with_context(|| format!("create {}", self.log.display()))?;
        let mut running = Running(self.command().spawn().context("start QEMU")?);
        let console = running.0.stdout.take().context("the console is ours")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let end = Instant::now() + self.limit;
        loop {
            match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let line = String::from_utf8_lossy(&line);
                    let line = line.trim_end_matches('\r');
                    writeln!(log, "{line}")?;
                    each(line)?;
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => bail!(
                    "the VM did not end within {} s; its console is in {}",
                    self.limit.as_secs(),
                    self.log.display()
                ),
            }
        }
        let status = running.0.wait()?;
        if !status.success() {
            bail!("QEMU ended with {status}");
        }
        Ok(())
    }

    fn command(&self) -> Command {
        // setpriv becomes QEMU; the signal comes when we end in whatever way.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
        command.args(["-nodefaults", "-no-user-config", "-no-reboot"]);
        command.args(["-display", "none", "-serial", "stdio", "-monitor", "none"]);
        command.args(["-accel", "tcg", "-cpu", "max"]);
        match self.pace {
            Pace::Steady => command.args(["-icount", "shift=0,sleep=on", "-rtc", "clock=vm"]),
            Pace::Fast => command.args(["-smp", "2"]),
        };
        command.args(["-m", &self.memory_mib.to_string()]);
        command.arg("-kernel").arg(&self.kernel);
        command.arg("-initrd").arg(&self.initramfs);
        let own = "console=ttyS0 quiet panic=-1";
        command.args(["-append", &format!("{own} {}", self.command_line)]);
        command.args(&self.devices);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        command
    }
}
