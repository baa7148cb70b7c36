use std::{fs, io::Read, os::unix::fs::OpenOptionsExt, time::Instant};

use super::*;

const LINE: &[u8] = b"{\"schema\":1}\n";

fn open(target: Target) -> RecordFile {
    Opened::open(target).unwrap().start().unwrap()
}

fn await_that(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn device_that_is_always_full_is_survived() {
    let mut records = open(Target::File("/dev/full".into()));
    assert!(records.push(LINE));
    records.flush();
    await_that("an error", || {
        records.shared.state(Duration::ZERO).error.is_some()
    });
    assert_eq!(
        (records.written(), records.lost(), records.waiting()),
        (0, 0, 1)
    );
    assert_eq!(records.close(), 1);
}

#[test]
fn reopening_writes_to_the_path_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("records");
    let moved = directory.path().join("records.1");
    let mut records = open(Target::File(path.clone()));
    fs::rename(&path, &moved).unwrap();
    records.push(LINE);
    records.reopen();
    await_that("a new file", || path.exists());
    records.push(LINE);
    assert_eq!(records.close(), 0);
    assert_eq!(fs::read(&moved).unwrap(), LINE);
    assert_eq!(fs::read(&path).unwrap(), LINE);
}

/// A FIFO whose reader stops takes a pipe's worth; the rest waits, is dropped when memory is full, and what was
/// taken in comes out whole and in order once the reader goes on.
#[test]
fn a_reader_that_stops_holds_nothing_up() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("records");
    let status = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(status.unwrap().success());
    let mut reader = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(&path)
        .unwrap();
    let mut records = open(Target::File(path.clone()));
    let lines = WAITING_MAX / 10 + 20_000;
    let mut taken = Vec::new();
    for number in 0..lines {
        let line = format!("{number:09}\n");
        if records.push(line.as_bytes()) {
            taken.extend_from_slice(line.as_bytes());
        }
        records.flush();
    }
    assert!(records.lost() > 0 && records.waiting() > 0);
    assert_eq!(records.lost() as usize + taken.len() / 10, lines);

    let mut read = Vec::new();
    await_that("all is read", || {
        // WouldBlock when the writer has not caught up.
        let _ = reader.read_to_end(&mut read);
        read.len() >= taken.len()
    });
    assert!(read == taken, "what was taken in is not what came out");
    await_that("all is counted", || records.waiting() == 0);
    assert_eq!(records.close(), 0);
}
