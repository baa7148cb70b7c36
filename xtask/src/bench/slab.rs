//! Kernel memory, by the kernel's own books: the allocator's, and those of the maps of a process.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result};

/// Bytes in use of every cache that is for anyone: what BPF programs remember of sockets is there, and sockets
/// themselves are not, which have caches of their own.
pub(super) fn in_use() -> Result<f64> {
    let caches =
        fs::read_to_string("/proc/slabinfo").context("read the books of the kernel's memory")?;
    let sizes = caches
        .lines()
        .filter(|line| line.starts_with("kmalloc-"))
        .map(|line| {
            let mut words = line.split_whitespace().skip(1);
            let active: f64 = words.next()?.parse().ok()?;
            let size: f64 = words.nth(1)?.parse().ok()?;
            Some(active * size)
        });
    sizes
        .sum::<Option<f64>>()
        .context("/proc/slabinfo has another form")
}

/// Bytes of the BPF maps that a process holds, whatever is in them.
pub(super) fn maps(process: u32) -> Result<f64> {
    let mut maps = BTreeMap::new();
    for fact in fs::read_dir(format!("/proc/{process}/fdinfo"))? {
        // A descriptor may be gone again.
        let Ok(facts) = fs::read_to_string(fact?.path()) else {
            continue;
        };
        let fact = |name| facts.lines().find_map(|line| line.strip_prefix(name));
        if let (Some(id), Some(size)) = (fact("map_id:"), fact("memlock:")) {
            maps.insert(id.trim().to_owned(), size.trim().parse::<f64>()?);
        }
    }
    Ok(maps.values().sum())
}
