//! A cgroup and network namespaces for one test.
//!
//! Processes started here are in both from their first instruction on. Whatever way the test ends,
//! they are ended, and cgroup, namespaces and files are removed.

use std::{
    collections::BTreeMap,
    ffi::CString,
    fs, io,
    net::UdpSocket,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{ffi::OsStrExt, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

static SANDBOXES: AtomicU32 = AtomicU32::new(0);

/// The end that a peer's process may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plays {
    Client,
    Server,
    Both,
}

#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) plays: Plays,
}

pub(crate) struct Sandbox {
    /// The path of the cgroup from the root of the cgroup v2 hierarchy, as a record says it.
    pub(crate) cgroup: String,
    pub(crate) directory: TempDir,
    cgroup_directory: PathBuf,
    namespaces: Vec<String>,
    processes: Mutex<BTreeMap<u32, Process>>,
    cpu: usize,
}

impl Sandbox {
    pub(crate) fn new(namespaces: usize) -> Sandbox {
        // SAFETY: geteuid takes nothing, cannot fail and touches no memory of ours.
        let user = unsafe { libc::geteuid() };
        assert_eq!(
            user, 0,
            "the end-to-end tests need root: run `cargo xtask test`"
        );
        let number = SANDBOXES.fetch_add(1, Ordering::Relaxed);
        let name = format!("closewatch-test-{}-{number}", std::process::id());
        let cgroup_directory = cgroup_mount().join(&name);
        let mut sandbox = Sandbox {
            cgroup: format!("/{name}"),
            directory: tempfile::tempdir().unwrap(),
            cgroup_directory,
            namespaces: Vec::new(),
            processes: Mutex::default(),
            cpu: cpu(number as usize),
        };
        fs::create_dir(&sandbox.cgroup_directory).unwrap();
        for index in 0..namespaces {
            let namespace = format!("{name}-{index}");
            ip(&["netns", "add", &namespace]);
            sandbox.namespaces.push(namespace);
            ip(&["-n", &sandbox.namespaces[index], "link", "set", "lo", "up"]);
        }
        sandbox
    }

    pub(crate) fn cgroup_directory(&self) -> &Path {
        &self.cgroup_directory
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    pub(crate) fn namespace(&self, index: usize) -> &str {
        &self.namespaces[index]
    }

    /// A command that will run inside the namespace, and inside the cgroup when it is a peer.
    ///
    /// The peers of a test share one CPU, because loopback keeps packets in order only within one,
    /// and nothing but each other preempts them: a sender that lost the CPU between the hook and
    /// the device would make the capture late, not the record early.
    pub(crate) fn command(
        &self,
        program: impl AsRef<Path>,
        namespace: usize,
        peer: bool,
    ) -> Command {
        let network = self.open_namespace(namespace);
        let cgroup = CString::new(
            self.cgroup_directory
                .join("cgroup.procs")
                .as_os_str()
                .as_bytes(),
        );
        let cgroup = cgroup.unwrap();
        let cpu = self.cpu;
        let mut command = Command::new(program.as_ref());
        // Nothing of the caller (a proxy, say) reaches the peers.
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
        command
            .stdin(Stdio::null())
            .current_dir(self.directory.path());
        // SAFETY: between fork and exec only async-signal-safe calls are made, on descriptors and
        // a C string that the closure owns; nothing is allocated.
        unsafe {
            command.pre_exec(move || {
                check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
                check(libc::setns(network.as_raw_fd(), libc::CLONE_NEWNET))?;
                if peer {
                    let file = libc::open(cgroup.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
                    check(file)?;
                    // "0" moves the process that writes it.
                    check(libc::write(file, c"0".as_ptr().cast(), 1) as i32)?;
                    let mut cpus: libc::cpu_set_t = std::mem::zeroed();
                    libc::CPU_SET(cpu, &mut cpus);
                    check(libc::sched_setaffinity(
                        0,
                        size_of_val(&cpus),
                        &raw const cpus,
                    ))?;
                    let priority = libc::sched_param { sched_priority: 1 };
                    // Not every container allows it; the peers run without it as well.
                    libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority);
                }
                Ok(())
            });
        }
        command
    }

    /// Runs a shell command inside the namespace, as no peer.
    pub(crate) fn run(&self, namespace: usize, text: &str) {
        let mut command = self.command("/bin/sh", namespace, false);
        let status = command.args(["-c", text]).status();
        assert!(status.unwrap().success(), "{text}");
    }

    /// Sends one datagram inside the namespace, so that a capture there has something to end with.
    pub(crate) fn send_datagram(&self, namespace: usize, text: &str, to: &str) {
        let network = self.open_namespace(namespace);
        thread::scope(|scope| {
            scope.spawn(|| {
                // SAFETY: moves only this thread, which ends with this closure.
                check(unsafe { libc::setns(network.as_raw_fd(), libc::CLONE_NEWNET) }).unwrap();
                UdpSocket::bind("0.0.0.0:0")
                    .unwrap()
                    .send_to(text.as_bytes(), to)
                    .unwrap();
            });
        });
    }

    /// Remembers the true name of every process now in the cgroup.
    pub(crate) fn note_processes(&self, pid: u32, plays: Plays) {
        let mut processes = self.processes.lock().unwrap();
        let listed = fs::read_to_string(self.cgroup_directory.join("cgroup.procs")).unwrap();
        for other in listed.lines().filter_map(|line| line.parse::<u32>().ok()) {
            let Ok(name) = fs::read_to_string(format!("/proc/{other}/comm")) else {
                continue;
            };
            let plays = if other == pid { plays } else { Plays::Both };
            let process = Process {
                name: name.trim_end().to_owned(),
                plays,
            };
            processes.entry(other).or_insert(process);
        }
    }

    pub(crate) fn processes(&self) -> BTreeMap<u32, Process> {
        self.processes.lock().unwrap().clone()
    }

    /// Waits until no TCP socket of the namespaces is more than a listener or a TIME_WAIT entry.
    /// `inside` is a process in each namespace.
    pub(crate) fn await_quiet(&self, inside: &[u32]) {
        // A FIN that is lost again and again is sent for the seventh time after 25 s.
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let live: Vec<String> = inside.iter().flat_map(|&pid| live_sockets(pid)).collect();
            if live.is_empty() {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "sockets that do not end: {live:#?}"
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn open_namespace(&self, index: usize) -> OwnedFd {
        fs::File::open(format!("/run/netns/{}", self.namespaces[index]))
            .unwrap()
            .into()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // Peers end themselves when their handles go; this is for what they started.
        let _ = fs::write(self.cgroup_directory.join("cgroup.kill"), "1");
        for namespace in &self.namespaces {
            let _ = Command::new("ip")
                .args(["netns", "del", namespace])
                .status();
        }
        let deadline = Instant::now() + Duration::from_secs(2);
        while fs::remove_dir(&self.cgroup_directory).is_err() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

pub(crate) fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status();
    let status = status.expect("`ip` is missing: `cargo xtask test` installs iproute2");
    assert!(status.success(), "ip {arguments:?}");
}

/// Where the cgroup v2 hierarchy is mounted; hybrid hosts have it below /sys/fs/cgroup.
fn cgroup_mount() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 "));
    let line = line.expect("no cgroup v2 hierarchy is mounted");
    PathBuf::from(line.split(' ').nth(4).unwrap())
}

/// One of the CPUs that this process may use.
fn cpu(number: usize) -> usize {
    // SAFETY: a cpu_set_t is plain bits, and the kernel writes no more than its size.
    let cpus = unsafe {
        let mut cpus: libc::cpu_set_t = std::mem::zeroed();
        check(libc::sched_getaffinity(
            0,
            size_of_val(&cpus),
            &raw mut cpus,
        ))
        .unwrap();
        cpus
    };
    // SAFETY: only reads the set.
    let usable = |cpu: &usize| unsafe { libc::CPU_ISSET(*cpu, &cpus) };
    let cpus: Vec<usize> = (0..libc::CPU_SETSIZE as usize).filter(usable).collect();
    cpus[number % cpus.len()]
}

/// Lines of the kernel's socket list that are full sockets other than listeners.
fn live_sockets(pid: u32) -> Vec<String> {
    let list = |file: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{file}")).unwrap_or_default();
        let lines: Vec<String> = text.lines().skip(1).map(str::to_owned).collect();
        lines
    };
    let mut lines = list("tcp");
    lines.extend(list("tcp6"));
    lines.retain(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let (state, timer) = (columns[3], columns[5]);
        // 06 is TIME_WAIT, 0A LISTEN; timer 03 marks the small entry that outlives a closed socket.
        state != "06" && state != "0A" && !timer.starts_with("03")
    });
    lines
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
