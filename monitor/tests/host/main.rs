//! Hosts on which closewatch cannot run, as near as one comes on one that it can run on: `check` and `run`
//! refuse with the same sentence and exit code 3.
//!
//! Mounts are hidden in a mount namespace of the process alone. The scenarios need root and are ignored by a
//! plain `cargo test`; `cargo xtask test` runs them, `cargo xtask vm` on other kernels, too.

#![expect(
    clippy::unwrap_used,
    reason = "what goes wrong in a helper fails its test"
)]

use std::{
    io,
    os::unix::process::CommandExt as _,
    process::{Command, Output},
};

const BINARY: &str = env!("CARGO_BIN_EXE_closewatch");
const UNFIT: i32 = 3;

#[test]
#[ignore = "needs root"]
fn no_cgroup_v2() {
    refuses(
        &hidden("umount --all --types cgroup2"),
        "cgroup v",
        "mount -t cgroup2",
    );
}

#[test]
#[ignore = "needs root"]
fn only_cgroup_v1() {
    let hidden = hidden(
        "umount --all --types cgroup2; mkdir -p /run/closewatch-v1; \
         mount -t cgroup -o none,name=closewatch-test v1 /run/closewatch-v1",
    );
    refuses(
        &hidden,
        "only cgroup v1 is mounted",
        "systemd.unified_cgroup_hierarchy=1",
    );
}

#[test]
#[ignore = "needs root"]
fn no_btf() {
    refuses(
        &hidden("mount -t tmpfs none /sys/kernel/btf"),
        "/sys/kernel/btf/vmlinux is not there",
        "CONFIG_DEBUG_INFO_BTF=y",
    );
}

#[test]
#[ignore = "needs root"]
fn an_old_kernel() {
    let hidden = hidden(
        "echo 4.19.0-27-amd64 >/dev/shm/closewatch-release; \
         mount --bind /dev/shm/closewatch-release /proc/sys/kernel/osrelease; rm /dev/shm/closewatch-release",
    );
    refuses(&hidden, "Linux 4.19 is too old", "boot 5.10 or newer");
}

#[test]
#[ignore = "needs root"]
fn each_capability() {
    for (kept, missing) in [
        ("+perfmon,+net_admin", "CAP_BPF"),
        ("+bpf,+net_admin", "CAP_PERFMON"),
        ("+bpf,+perfmon", "CAP_NET_ADMIN"),
    ] {
        let bounded = format!("--bounding-set=-all,{kept}");
        refuses(
            &["setpriv", &bounded, BINARY],
            &format!("this process needs {missing} to"),
            "AmbientCapabilities=",
        );
    }
}

#[test]
#[ignore = "needs root"]
fn no_root() {
    refuses(
        &["setpriv", "--reuid=65534", "--clear-groups", BINARY],
        "needs CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN",
        "run it as root",
    );
}

#[test]
#[ignore = "needs root"]
fn root_of_a_user_namespace() {
    refuses(
        &["unshare", "--user", "--map-root-user", BINARY],
        "in a user namespace",
        "host's user namespace",
    );
}

#[test]
#[ignore = "needs root"]
fn a_filter_of_system_calls() {
    for words in [&["check"][..], &["run", "--listen", "127.0.0.1:0"]] {
        let mut command = Command::new(BINARY);
        command.args(words);
        // SAFETY: between fork and exec only prctl is called, on what lives on its stack.
        unsafe { command.pre_exec(forbid_bpf) };
        let told = told(&command.output().unwrap());
        assert!(told.contains("filter of system calls"), "{told}");
        assert!(told.contains("SystemCallFilter=bpf"), "{told}");
    }
}

/// Words before which a shell hides what it is told to, in a mount namespace of its own.
fn hidden(what: &str) -> [&str; 7] {
    let [unshare, mount, shell, option] = ["unshare", "--mount", "sh", "-ec"];
    let script = Box::leak(format!("{what}\nexec \"$0\" \"$@\"").into_boxed_str());
    [unshare, mount, shell, option, script, BINARY, ""]
}

fn refuses(words: &[&str], sentence: &str, remedy: &str) {
    let words = words.iter().filter(|word| !word.is_empty());
    let words: Vec<&str> = words.copied().collect();
    for command in [&["check"][..], &["run", "--listen", "127.0.0.1:0"]] {
        let output = Command::new(words[0])
            .args(&words[1..])
            .args(command)
            .output()
            .unwrap();
        let told = told(&output);
        assert!(told.contains(sentence), "{command:?}: {told}");
        assert!(told.contains(remedy), "{command:?}: {told}");
    }
}

/// What a process that ended with code 3 said.
fn told(output: &Output) -> String {
    let told = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(output.status.code(), Some(UNFIT), "{told}");
    told
}

/// From now on this process and what it starts are refused `bpf` with EPERM.
fn forbid_bpf() -> io::Result<()> {
    let number = libc::SYS_bpf as u32;
    let step = |code: u32, jt, jf, k| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, number),
        step(
            libc::BPF_RET | libc::BPF_K,
            0,
            0,
            libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
        ),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel copies the program, which outlives the call.
    let result = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
