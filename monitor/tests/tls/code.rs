//! Where the kernel has probes in a process: its code differs there from the file that it was mapped from.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

/// Read at once.
const SOME: usize = 1 << 20;

/// Code that a process has mapped from a file.
struct Mapping {
    range: String,
    start: u64,
    length: usize,
    offset: u64,
    path: String,
}

fn mappings(pid: u32) -> Vec<Mapping> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let code = maps.lines().filter_map(|line| {
        let columns: Vec<_> = line.split_whitespace().collect();
        let path = columns.get(5).filter(|path| path.starts_with('/'))?;
        if !columns[1].contains('x') {
            return None;
        }
        let (start, end) = columns[0].split_once('-')?;
        let [start, end] = [start, end].map(|text| u64::from_str_radix(text, 16).unwrap());
        Some(Mapping {
            range: format!("{start:x}-{end:x}"),
            start,
            length: (end - start) as usize,
            offset: u64::from_str_radix(columns[2], 16).unwrap(),
            path: (*path).to_owned(),
        })
    });
    code.collect()
}

/// The file by this name that a process has code of, as it sees it.
pub(crate) fn library(pid: u32, name: &str) -> PathBuf {
    let mappings = mappings(pid);
    let found = mappings.iter().find(|mapping| mapping.path.contains(name));
    found
        .unwrap_or_else(|| panic!("process {pid} has no code of {name}"))
        .path
        .clone()
        .into()
}

/// How many probes a process has in the code of what has `name` in its path.
pub(crate) fn probes(pid: u32, name: &str) -> usize {
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut probes = 0;
    let mut found = false;
    for mapping in mappings(pid)
        .iter()
        .filter(|mapping| mapping.path.contains(name))
    {
        found = true;
        let file = File::open(format!("/proc/{pid}/map_files/{}", mapping.range)).unwrap();
        let size = file.metadata().unwrap().len();
        let length = mapping
            .length
            .min(size.saturating_sub(mapping.offset) as usize);
        let mut was_other = false;
        for begin in (0..length).step_by(SOME) {
            let mut pair = [
                vec![0; SOME.min(length - begin)],
                vec![0; SOME.min(length - begin)],
            ];
            let [is, was] = &mut pair;
            memory
                .read_exact_at(is, mapping.start + begin as u64)
                .unwrap();
            file.read_exact_at(was, mapping.offset + begin as u64)
                .unwrap();
            if is == was {
                was_other = false;
                continue;
            }
            for (is, was) in is.iter().zip(was) {
                let is_other = is != was;
                probes += usize::from(is_other && !was_other);
                was_other = is_other;
            }
        }
    }
    assert!(found, "process {pid} has no code of {name}");
    probes
}

pub(crate) fn await_probes(pid: u32, name: &str, expected: usize) {
    await_probes_within(pid, name, expected, Duration::from_secs(10));
}

pub(crate) fn await_probes_within(pid: u32, name: &str, expected: usize, patience: Duration) {
    let deadline = Instant::now() + patience;
    loop {
        let found = probes(pid, name);
        if found == expected {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "process {pid} has {found} probes in {name}, and not {expected}"
        );
        thread::sleep(Duration::from_millis(50));
    }
}
