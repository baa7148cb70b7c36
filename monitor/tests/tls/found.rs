//! Where `--tls` has probes placed: in which files, of which processes, and for how long.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::{
    code::{await_probes, await_probes_within, library, probes},
    daemon::{ANYWHERE, BINARY, Daemon},
    peers::{Peer, node_modules, peer_file, python},
    sandbox::{Plays, Sandbox},
    turn,
};

/// The functions that probes are placed at: of OpenSSL's two libraries, and of both in one program. Of a pair that
/// reads or writes it is the one behind both, where that begins with what the kernel carries out itself and they do not.
const IN_LIBSSL: usize = if cfg!(target_arch = "x86_64") { 4 } else { 6 };
const IN_LIBCRYPTO: usize = 1;
const IN_PROGRAM: usize = 7;
const LIBRARIES: [&str; 2] = ["libssl", "libcrypto"];
/// Nobody runs a file any more: that is noticed each minute.
const NOTICED_WITHIN: Duration = Duration::from_secs(75);
/// The kernel takes a tenth of a second for each of the probes that a daemon leaves, of which there are some seventy.
const REMOVED_WITHIN: Duration = Duration::from_secs(30);

fn daemon(sandbox: &Sandbox, tls: &str) -> Daemon {
    let mut command = Command::new(BINARY);
    command.env("CLOSEWATCH_TLS", tls);
    Daemon::launch(command, sandbox, &sandbox.path("records.jsonl"), ANYWHERE)
}

/// Python with OpenSSL's libraries, in the sandbox's cgroup or outside.
fn loaded(sandbox: &Sandbox, inside: bool) -> Peer {
    let mut command = sandbox.command(python(), 0, inside);
    command.arg(peer_file("loaded.py"));
    Peer::start(sandbox, command, Plays::Both)
}

/// Node, with OpenSSL in the program.
fn node(sandbox: &Sandbox) -> Peer {
    let mut command = sandbox.command("node", 0, true);
    let script = "console.log('ready'); process.stdin.resume()";
    command
        .env("NODE_PATH", node_modules())
        .args(["-e", script]);
    Peer::start(sandbox, command, Plays::Both)
}

/// Python in a mount namespace of its own, with copies of the libraries on a file system that nobody else sees. Says also
/// where they are.
fn hidden(sandbox: &Sandbox, libraries: &[PathBuf; 2], is_deleted: bool) -> (Peer, PathBuf) {
    let folder = sandbox.path("hidden");
    fs::create_dir_all(&folder).unwrap();
    let [ssl, crypto] = libraries
        .each_ref()
        .map(|library| library.to_str().unwrap());
    let [shown, python] = [&folder, &python()].map(|path| path.to_str().unwrap().to_owned());
    let script = peer_file("loaded.py");
    let mut run = format!(
        "mount -t tmpfs none {shown} && cp {ssl} {crypto} {shown} && LD_LIBRARY_PATH={shown} exec {python} {}",
        script.display()
    );
    if is_deleted {
        for library in libraries {
            let copy = folder.join(library.file_name().unwrap());
            run += &format!(" {}", copy.display());
        }
    }
    let mut command = sandbox.command("/usr/bin/unshare", 0, true);
    command.args(["--mount", "/bin/sh", "-c", &run]);
    let peer = Peer::start(sandbox, command, Plays::Both);
    assert!(library(peer.pid(), "libssl").starts_with(&folder));
    (peer, folder)
}

fn follows_libraries(peer: &Peer) {
    await_probes(peer.pid(), "libssl", IN_LIBSSL);
    await_probes(peer.pid(), "libcrypto", IN_LIBCRYPTO);
}

/// Those of a daemon that has just ended go one by one.
fn leaves_alone(peer: &Peer) {
    for name in LIBRARIES {
        await_probes_within(peer.pid(), name, 0, REMOVED_WITHIN);
    }
}

/// Whoever runs a file, wherever its path is seen, and also where it has none any more.
#[test]
#[ignore = "needs root"]
fn every_process_of_the_host() {
    let _turn = turn();
    let sandbox = Sandbox::new(1);
    let [before, outside] = [true, false].map(|inside| loaded(&sandbox, inside));
    let program = node(&sandbox);
    let libraries = LIBRARIES.map(|name| library(before.pid(), name));
    let (deleted, _) = hidden(&sandbox, &libraries, true);

    let daemon = daemon(&sandbox, "auto");
    for peer in [&before, &outside, &deleted] {
        follows_libraries(peer);
    }
    await_probes(program.pid(), "node", IN_PROGRAM);
    // What runs the same files has the probes from its first instruction on.
    let after = loaded(&sandbox, true);
    assert_eq!(probes(after.pid(), "libssl"), IN_LIBSSL);
    assert_eq!(probes(after.pid(), "libcrypto"), IN_LIBCRYPTO);
    let (elsewhere, _) = hidden(&sandbox, &libraries, false);
    follows_libraries(&elsewhere);

    let lost = daemon.metric("closewatch_tls_files_unsupported_total", &[]);
    assert_eq!(lost, 0.0, "{:#?}", daemon.log());
    assert!(daemon.metric("closewatch_tls_libraries", &[]) >= 7.0);
    assert!(daemon.metric("closewatch_tls_processes", &[]) >= 6.0);
    let log = daemon.stop();
    assert!(log.iter().all(|line| !line.contains("refuse")), "{log:#?}");
    for peer in [&before, &outside, &after, &elsewhere, &deleted] {
        await_probes_within(peer.pid(), "libssl", 0, REMOVED_WITHIN);
    }
    await_probes_within(program.pid(), "node", 0, REMOVED_WITHIN);
}

/// The kernel's probes are on the file of the layer: on each of two overlays they would be there twice.
#[test]
#[ignore = "needs root"]
fn one_layer_below_two_overlays() {
    let _turn = turn();
    let sandbox = Sandbox::new(1);
    let model = loaded(&sandbox, false);
    let [ssl, crypto] = LIBRARIES.map(|name| library(model.pid(), name));
    model.kill();
    let layer = sandbox.path("layer");
    fs::create_dir(&layer).unwrap();
    for library in [&ssl, &crypto] {
        fs::copy(library, layer.join(library.file_name().unwrap())).unwrap();
    }
    let container = |name: &str| {
        let folder = sandbox.path(name);
        fs::create_dir(&folder).unwrap();
        let [python, script] = [python(), peer_file("loaded.py")];
        let [folder, layer] = [&folder, &layer].map(|path| path.display());
        let run = format!(
            "mount -t tmpfs none {folder} && cd {folder} && mkdir upper work root && \
             mount -t overlay overlay -o lowerdir={layer},upperdir=upper,workdir=work root && \
             LD_LIBRARY_PATH={folder}/root exec {} {}",
            python.display(),
            script.display()
        );
        let mut command = sandbox.command("/usr/bin/unshare", 0, true);
        command.args(["--mount", "/bin/sh", "-c", &run]);
        let peer = Peer::start(&sandbox, command, Plays::Both);
        assert!(library(peer.pid(), "libssl").starts_with(sandbox.path(name)));
        peer
    };
    let [one, other] = ["one", "other"].map(container);
    let daemon = daemon(&sandbox, "auto");
    follows_libraries(&one);
    follows_libraries(&other);
    let folder = sandbox.directory.path().to_str().unwrap();
    let log = daemon.stop();
    let told = log
        .iter()
        .filter(|line| line.contains("TLS is followed") && line.contains(folder));
    assert_eq!(told.count(), LIBRARIES.len(), "{log:#?}");
}

#[test]
#[ignore = "needs root"]
fn nobody_pays_who_is_in_no_chosen_cgroup() {
    let _turn = turn();
    let sandbox = Sandbox::new(1);
    let before = loaded(&sandbox, true);
    let outside = loaded(&sandbox, false);
    let program = node(&sandbox);
    let daemon = daemon(&sandbox, &sandbox.cgroup);
    follows_libraries(&before);
    await_probes(program.pid(), "node", IN_PROGRAM);
    let after = loaded(&sandbox, true);
    follows_libraries(&after);
    leaves_alone(&outside);
    assert_eq!(daemon.metric("closewatch_tls_libraries", &[]), 3.0);
    assert_eq!(daemon.metric("closewatch_tls_processes", &[]), 3.0);

    // The probes of a process go with it.
    program.kill();
    before.kill();
    let deadline = Instant::now() + Duration::from_secs(10);
    while daemon.metric("closewatch_tls_processes", &[]) != 1.0
        || daemon.metric("closewatch_tls_libraries", &[]) != 2.0
    {
        assert!(Instant::now() < deadline, "{}", daemon.metrics());
        thread::sleep(Duration::from_millis(50));
    }
    follows_libraries(&after);
    leaves_alone(&outside);
    daemon.stop();
}

#[test]
#[ignore = "needs root"]
fn nobody_pays_who_runs_no_chosen_program() {
    let _turn = turn();
    let sandbox = Sandbox::new(1);
    let program = node(&sandbox);
    let runs = fs::read_link(format!("/proc/{}/exe", program.pid())).unwrap();
    let other = loaded(&sandbox, true);
    let python = fs::canonicalize(python()).unwrap();

    let only_node = daemon(&sandbox, runs.to_str().unwrap());
    await_probes(program.pid(), "node", IN_PROGRAM);
    leaves_alone(&other);
    // The file is the program's own, so that the next one to run it has the probes at once.
    let next = node(&sandbox);
    assert_eq!(probes(next.pid(), "node"), IN_PROGRAM);
    only_node.stop();
    await_probes_within(program.pid(), "node", 0, REMOVED_WITHIN);

    // Libraries belong to others, too.
    let mut command = sandbox.command("/usr/bin/openssl", 0, true);
    let others = Peer::spawn(
        &sandbox,
        command.arg("s_server").args(["-nocert", "-accept", "9300"]),
    );
    let only_python = daemon(&sandbox, python.to_str().unwrap());
    follows_libraries(&other);
    let next = loaded(&sandbox, true);
    follows_libraries(&next);
    leaves_alone(&others);
    await_probes_within(program.pid(), "node", 0, REMOVED_WITHIN);
    only_python.stop();
}

/// It waits for most of a minute, in which others have their turns: what it follows nobody else runs.
#[test]
#[ignore = "needs root"]
fn probes_go_when_nobody_runs_a_file_any_more() {
    let sandbox = Sandbox::new(1);
    let model = node(&sandbox);
    let program = sandbox.path("node-of-its-own");
    fs::copy(format!("/proc/{}/exe", model.pid()), &program).unwrap();
    model.kill();
    let mut command = sandbox.command(&program, 0, true);
    command.args(["-e", "console.log('ready'); process.stdin.resume()"]);
    let last = Peer::start(&sandbox, command, Plays::Both);
    let daemon = daemon(&sandbox, program.to_str().unwrap());
    await_probes(last.pid(), "node-of-its-own", IN_PROGRAM);
    last.kill();
    let deadline = Instant::now() + NOTICED_WITHIN;
    let gone =
        |line: &String| line.contains("any more") && line.contains(program.to_str().unwrap());
    while !daemon.log().iter().any(gone) {
        assert!(Instant::now() < deadline, "{:#?}", daemon.log());
        thread::sleep(Duration::from_millis(100));
    }
    daemon.stop();
}

/// As the systemd unit starts it with its drop-in: as another user than root.
#[test]
#[ignore = "needs root"]
fn another_user_with_the_privileges_for_it() {
    let _turn = turn();
    let sandbox = Sandbox::new(1);
    let before = loaded(&sandbox, true);
    let libraries = LIBRARIES.map(|name| library(before.pid(), name));
    let (deleted, _) = hidden(&sandbox, &libraries, true);
    let daemon = Daemon::start_confined_with(
        &sandbox,
        "+sys_admin,+sys_ptrace,+dac_read_search",
        |command| {
            command.env("CLOSEWATCH_TLS", &sandbox.cgroup);
        },
    );
    follows_libraries(&before);
    follows_libraries(&deleted);
    for (name, status) in daemon.threads() {
        let kept = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let kept = u64::from_str_radix(kept.unwrap().trim(), 16).unwrap();
        // Kernel: include/uapi/linux/capability.h, CAP_SYS_PTRACE and CAP_SYS_ADMIN, and CAP_DAC_READ_SEARCH.
        let (both, search) = (1 << 19 | 1 << 21, 1 << 2);
        let expected = match name.as_str() {
            "tls" => both | search,
            "time-wait" => both,
            "closewatch" => kept & !(both | search),
            _ => 0,
        };
        assert_eq!(kept, expected, "{name}");
    }
    daemon.stop();
}

/// Without them it says at once what it lacks.
#[test]
#[ignore = "needs root"]
fn what_is_missing_is_said_at_once() {
    let check = |caps: &str, tls: &str| {
        let mut command = Command::new("setpriv");
        command
            .args([
                &format!("--bounding-set=-all,{caps}"),
                &format!("--inh-caps=-all,{caps}"),
            ])
            .args([BINARY, "check", "--tls", tls]);
        let output = command.output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    let usual = "+bpf,+perfmon,+net_admin";
    let (code, told) = check(usual, "auto");
    assert_eq!(code, Some(3), "{told}");
    assert!(
        told.contains("missing  TLS cannot be followed") && told.contains("CAP_SYS_PTRACE"),
        "{told}"
    );
    let (code, told) = check(usual, "off");
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("TLS is not followed"), "{told}");
    let (code, told) = check(&format!("{usual},+sys_admin,+sys_ptrace"), "auto");
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("1 to 16 µs"), "{told}");
}
