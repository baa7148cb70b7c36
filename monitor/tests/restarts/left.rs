//! What is left in the kernel, and who may have it.

use std::{fs, thread, time::Duration};

use crate::{
    daemon::{ANYWHERE, Daemon, read_records},
    late::{Case, Late},
    pinned::{Bpffs, bpftool, command, exists, kill, run_to_end, start},
    turn,
    verdict::Expect,
};

fn talkative() -> Case {
    Case {
        name: "talkative",
        address: "127.0.0.1",
        server: "accept; say:open; await-word:go-on; turns:4; await-close; close; end".to_owned(),
        client: "upgrade; say:open; await-word:go-on; turns:4; close; await-close; await-eof; end"
            .to_owned(),
        expect: Expect::Adopted,
    }
}

#[test]
#[ignore = "needs root"]
fn another_layout_is_removed_and_its_connections_are_adopted() {
    let _turn = turn();
    let mut late = Late::new();
    let bpffs = Bpffs::mount(late.sandbox());
    let daemon = start(&late, &bpffs);
    late.raw("127.0.0.1", 9400, &[&talkative()]);
    daemon.await_metric("closewatch_connections_opened_total", &[], 2.0);
    kill(daemon);
    let objects = bpffs.objects();
    let before = bpffs.layout();
    let other = before.with_file_name("1-0123456789abcdef");
    fs::rename(&before, &other).unwrap();

    let daemon = start(&late, &bpffs);
    assert_eq!(bpffs.layouts(), [before], "{:#?}", daemon.log());
    assert!(!exists(&other));
    await_gone(&objects);
    let log = daemon.log();
    assert!(
        log.iter().any(|line| line.contains("of another version")),
        "{log:#?}"
    );
    late.go_on();
    daemon.await_metric("closewatch_connections_adopted_total", &[], 2.0);
    let observed = late.finish(daemon);
    assert_eq!(observed.records.len(), 2);
    for record in &observed.records {
        assert_eq!(record["adopted"], true, "{record}");
    }
}

#[test]
#[ignore = "needs root"]
fn unpin_removes_everything_and_only_from_a_stopped_daemon() {
    let _turn = turn();
    let late = Late::new();
    let bpffs = Bpffs::mount(late.sandbox());
    let unpin = || {
        let output = run_to_end(command(late.sandbox(), &bpffs), &["unpin"]);
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    let daemon = start(&late, &bpffs);
    let (code, said) = unpin();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("another closewatch has the pins"), "{said}");
    let second = run_to_end(
        command(late.sandbox(), &bpffs),
        &["run", "--listen", "127.0.0.1:0"],
    );
    let said = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("another closewatch has the pins"), "{said}");
    daemon.stop();

    let objects = bpffs.objects();
    assert_eq!(objects.len(), 10, "{objects:?}");
    assert!(objects.iter().all(|(kind, id)| is_there(kind, id)));
    let (code, said) = unpin();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("removed 4 links and 6 maps"), "{said}");
    assert!(said.contains("removed the journal"), "{said}");
    assert!(!exists(&bpffs.pins()));
    await_gone(&objects);
    let (code, said) = unpin();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("nothing was pinned"), "{said}");
}

#[test]
#[ignore = "needs root"]
fn nothing_is_left_without_pins() {
    let _turn = turn();
    let late = Late::new();
    let daemon = Daemon::start(late.sandbox(), &late.records());
    let facts = fs::read_dir(format!("/proc/{}/fdinfo", daemon.pid())).unwrap();
    let mut objects = Vec::new();
    for fact in facts {
        let text = fs::read_to_string(fact.unwrap().path()).unwrap_or_default();
        for (kind, label) in [("link", "link_id:"), ("map", "map_id:")] {
            let ids = text.lines().filter_map(|line| line.strip_prefix(label));
            objects.extend(ids.map(|id| (kind, id.trim().to_owned())));
        }
    }
    assert!(objects.len() >= 10, "{objects:?}");
    assert!(objects.iter().all(|(kind, id)| is_there(kind, id)));
    daemon.stop();
    await_gone(&objects);
}

#[test]
#[ignore = "needs root"]
fn records_that_a_full_disk_refused_are_written_by_the_next_daemon() {
    let _turn = turn();
    let mut late = Late::new();
    let bpffs = Bpffs::mount(late.sandbox());
    late.raw("127.0.0.1", 9450, &[&talkative()]);
    let full = std::path::Path::new("/dev/full");
    let sandbox = late.sandbox();
    let daemon = Daemon::launch(command(sandbox, &bpffs), sandbox, full, ANYWHERE);
    late.go_on();
    daemon.await_metric("closewatch_connections_ended_total", &[], 2.0);
    daemon.await_metric("closewatch_records_waiting", &[], 2.0);
    let log = daemon.stop();
    assert!(
        log.iter()
            .any(|line| line.contains("for the next daemon to write")),
        "{log:#?}"
    );
    let daemon = start(&late, &bpffs);
    daemon.await_metric("closewatch_records_written_total", &[], 2.0);
    kill(daemon);
    // And by that one only.
    let daemon = start(&late, &bpffs);
    thread::sleep(Duration::from_millis(200));
    daemon.stop();
    assert_eq!(read_records(&late.records()).len(), 2);
}

fn is_there(kind: &str, id: &str) -> bool {
    bpftool(&[kind, "show", "id", id]).is_some()
}

/// The kernel frees what nobody holds after a moment.
fn await_gone(objects: &[(&'static str, String)]) {
    for _ in 0..500 {
        if !objects.iter().any(|(kind, id)| is_there(kind, id)) {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("still in the kernel: {objects:?}");
}
