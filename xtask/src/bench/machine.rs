//! What it ran on: figures mean nothing without.

use std::{fs, process::Command, thread};

use serde_json::{Value, json};

use crate::shell::{repository, run_quietly};

pub(super) struct Machine(Value);

impl Machine {
    pub(super) fn look() -> Self {
        let command = |program: &str, words: &[&str]| {
            let said = run_quietly(Command::new(program).args(words).current_dir(repository()));
            said.map_or(Value::Null, |said| said.trim().into())
        };
        let cpus = thread::available_parallelism().map_or(0, usize::from);
        let memory = field("/proc/meminfo", "MemTotal").and_then(|size| {
            let kib: u64 = size.split_whitespace().next()?.parse().ok()?;
            Some(kib * 1024)
        });
        Self(json!({
            "time": command("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]),
            "commit": command("git", &["-c", "safe.directory=*", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]),
            "kernel": command("uname", &["-r"]),
            "machine": command("uname", &["-m"]),
            "cpu": field("/proc/cpuinfo", "model name"),
            "cpus": cpus,
            "hypervisor": field("/proc/cpuinfo", "flags").map(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
            "memory_bytes": memory,
            "bpf_jit": read("/proc/sys/net/core/bpf_jit_enable").map(|on| on != "0"),
            "spectre_v2": read("/sys/devices/system/cpu/vulnerabilities/spectre_v2"),
            "load_average": read("/proc/loadavg").and_then(|load| Some(load.split_once(' ')?.0.to_owned())),
        }))
    }

    pub(super) fn json(&self) -> &Value {
        &self.0
    }

    pub(super) fn line(&self) -> String {
        let word = |name: &str| self.0[name].as_str().unwrap_or("unknown").to_owned();
        let is_virtual = self.0["hypervisor"].as_bool() == Some(true);
        format!(
            "{}, commit {}: Linux {} {}, {} × {}{}, {:.0} GiB; load average at the start {}",
            word("time"),
            word("commit"),
            word("kernel"),
            word("machine"),
            self.0["cpus"],
            word("cpu"),
            if is_virtual { ", virtual" } else { "" },
            self.0["memory_bytes"].as_f64().unwrap_or_default() / f64::from(1 << 30),
            word("load_average"),
        )
    }
}

fn read(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// The value in the first line `name : value`.
fn field(path: &str, name: &str) -> Option<String> {
    let lines = fs::read_to_string(path).ok()?;
    let mut fields = lines.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = fields.find(|(key, _)| key.trim() == name)?;
    Some(value.trim().to_owned())
}
