//! What a daemon takes of the machine's memory: its own, and what the kernel keeps for it.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

const EVERY: Duration = Duration::from_millis(200);

/// Looks at a daemon's resident memory until it is asked.
pub(crate) struct Watch {
    pid: u32,
    first: u64,
    peak: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<(Duration, u64)>>>,
}

impl Watch {
    pub(crate) fn start(pid: u32) -> Self {
        let first = resident(pid);
        let peak = Arc::new(AtomicU64::new(first));
        let done = Arc::new(AtomicBool::new(false));
        let (its_peak, its_done) = (Arc::clone(&peak), Arc::clone(&done));
        let thread = thread::spawn(move || {
            let began = Instant::now();
            let mut samples = Vec::new();
            while !its_done.load(Ordering::Relaxed) {
                let now = resident(pid);
                its_peak.fetch_max(now, Ordering::Relaxed);
                samples.push((began.elapsed(), now));
                thread::sleep(EVERY);
            }
            samples
        });
        Self {
            pid,
            first,
            peak,
            done,
            thread: Some(thread),
        }
    }

    /// Ends the watch, tells what was seen, and returns by how much the daemon grew at most, in bytes.
    pub(crate) fn settle(mut self, what: &str) -> u64 {
        self.done.store(true, Ordering::Relaxed);
        let samples = self.thread.take().unwrap().join().unwrap();
        let peak = self.peak.load(Ordering::Relaxed);
        let step = samples.len().div_ceil(12).max(1);
        let over_time: Vec<String> = samples
            .iter()
            .step_by(step)
            .map(|(at, bytes)| format!("{:.0} s {}", at.as_secs_f64(), mebibytes(*bytes)))
            .collect();
        eprintln!(
            "{what}: resident {} MiB before, {} at most, {} after; maps {} MiB; {}",
            mebibytes(self.first),
            mebibytes(peak),
            mebibytes(resident(self.pid)),
            mebibytes(maps(self.pid)),
            over_time.join(", ")
        );
        peak - self.first
    }
}

pub(crate) fn mebibytes(bytes: u64) -> u64 {
    bytes >> 20
}

/// Bytes of a process that are in memory.
pub(crate) fn resident(pid: u32) -> u64 {
    field(&format!("/proc/{pid}/status"), "VmRSS:") * 1024
}

/// What the kernel charges for the maps that a process holds.
pub(crate) fn maps(pid: u32) -> u64 {
    let files = fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap();
    let files = files.map(|file| file.unwrap().path());
    let of_maps = files.filter(|file| {
        let facts = fs::read_to_string(file).unwrap_or_default();
        facts.contains("map_type:")
    });
    of_maps
        .map(|file| field(file.to_str().unwrap(), "memlock:"))
        .sum()
}

/// The number behind a name in a file of the kernel's.
fn field(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or_default()
}
