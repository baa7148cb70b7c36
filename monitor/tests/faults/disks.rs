//! Records on a disk that hangs, breaks, or is taken away, and rotated under load.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{
    daemon::read_records,
    disk::Disk,
    stage::{Observed, Stage},
    turn, visit,
};

const WAITING: &str = "closewatch_records_waiting";
const LOST: &str = "closewatch_records_lost_total";

fn staged(name: &'static str) -> (Stage, Disk) {
    let mut disk = None;
    let stage = Stage::with_records(name, |sandbox| {
        let mounted = Disk::mount(sandbox.directory.path());
        let records = mounted.at.join("records.jsonl");
        disk = Some(mounted);
        records
    });
    (stage, disk.unwrap())
}

fn await_written(stage: &Stage, records: usize) {
    let written = "closewatch_records_written_total";
    stage.daemon.await_metric(written, &[], records as f64);
}

/// How many ends have no record; everything else must be right.
fn missing(observed: &Observed) -> usize {
    let figures = observed.compare();
    let is_missing = |error: &&String| error.ends_with("no record");
    let missing = figures.errors.iter().filter(is_missing).count();
    assert_eq!(missing, figures.errors.len(), "{:#?}", figures.errors);
    missing
}

#[test]
#[ignore = "needs root"]
fn a_disk_that_hangs_holds_nothing_else_up() {
    let _turn = turn();
    let (mut stage, mut disk) = staged("a_disk_that_hangs_holds_nothing_else_up");
    visit(&stage, 5, 5);
    await_written(&stage, 10);

    disk.freeze();
    visit(&stage, 20, 25);
    assert_eq!(stage.daemon.metric(WAITING, &[]), 40.0);
    let told = stage.daemon.await_log("the disk does not take records");
    assert_eq!(told["level"], "WARN", "{told}");
    for _ in 0..10 {
        let began = Instant::now();
        assert!(stage.daemon.get("/livez").starts_with("HTTP/1.1 200"));
        assert!(began.elapsed() < Duration::from_secs(1));
    }

    disk.thaw();
    await_written(&stage, 50);
    stage.daemon.await_log("records are written again");
    assert_eq!(stage.daemon.metric(WAITING, &[]), 0.0);
    assert_eq!(stage.daemon.metric(LOST, &[]), 0.0);
    visit(&stage, 5, 30);
    await_written(&stage, 60);
    let observed = stage.observe(30);
    assert_eq!(missing(&observed), 0);
}

/// An error of the disk has made it read-only, and it stays so.
#[test]
#[ignore = "needs root"]
fn what_a_broken_disk_did_not_take_is_told_at_the_end() {
    let _turn = turn();
    let (mut stage, disk) = staged("what_a_broken_disk_did_not_take_is_told_at_the_end");
    visit(&stage, 5, 5);
    await_written(&stage, 10);
    disk.fail();
    visit(&stage, 10, 15);
    let told = stage.daemon.await_log("cannot write records");
    assert!(told.to_string().contains("Read-only file system"), "{told}");
    assert_eq!(stage.daemon.metric(WAITING, &[]), 20.0);
    let path = stage.daemon.records.clone();
    stage.daemon.terminate();
    let told = stage.daemon.log().join("\n");
    assert!(
        told.contains("records that could not be written") && told.contains("\"records\":20"),
        "{told}"
    );
    assert_eq!(read_records(&path).len(), 10);
}

#[test]
#[ignore = "needs root"]
fn a_file_that_was_removed_is_replaced() {
    let _turn = turn();
    let mut stage = Stage::loopback("a_file_that_was_removed_is_replaced");
    let path = stage.daemon.records.clone();
    visit(&stage, 3, 3);
    await_written(&stage, 6);
    let kept = read_records(&path);

    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    visit(&stage, 3, 6);
    let told = stage.daemon.await_log("cannot write records");
    assert!(told.to_string().contains("removed"), "{told}");

    fs::remove_dir(&path).unwrap();
    await_written(&stage, 12);
    stage.daemon.await_log("records are written again");
    visit(&stage, 3, 9);
    await_written(&stage, 18);
    let mut observed = stage.observe(9);
    assert_eq!(observed.records.len(), 12);
    observed.records.extend(kept);
    assert_eq!(missing(&observed), 0);
}

#[test]
#[ignore = "needs root"]
fn a_rotation_under_load_loses_and_doubles_nothing() {
    let _turn = turn();
    let stage = Stage::loopback("a_rotation_under_load_loses_and_doubles_nothing");
    let current = stage.daemon.records.clone();
    let (folder, pid) = (stage.sandbox.path("."), stage.daemon.pid() as i32);
    let is_over = AtomicBool::new(false);
    let rotated = thread::scope(|scope| {
        let rotating = scope.spawn(|| {
            let mut rotated = Vec::new();
            // Should the other thread fail, this one ends all the same.
            let deadline = Instant::now() + Duration::from_secs(60);
            while !is_over.load(Ordering::Relaxed) && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(50));
                if !current.exists() {
                    continue;
                }
                let old = folder.join(format!("records.{}", rotated.len()));
                fs::rename(&current, &old).unwrap();
                rotated.push(old);
                // A storm of them does no harm.
                for _ in 0..3 {
                    // SAFETY: signals a child that has not been waited for, so the id is still its own.
                    unsafe { libc::kill(pid, libc::SIGHUP) };
                }
            }
            rotated
        });
        for round in 1..=4 {
            visit(&stage, 50, 50 * round);
        }
        is_over.store(true, Ordering::Relaxed);
        rotating.join().unwrap()
    });
    assert!(rotated.len() > 2, "{} rotations", rotated.len());
    let mut observed = stage.observe(200);
    for old in &rotated {
        observed.records.extend(read_records(old));
    }
    assert_eq!(observed.records.len(), 400);
    assert_eq!(missing(&observed), 0);
}
