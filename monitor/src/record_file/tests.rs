use std::fs;

use super::*;

/// A disk with room for `room` bytes.
struct Disk {
    bytes: Vec<u8>,
    room: usize,
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.room == 0 {
            return Err(ErrorKind::StorageFull.into());
        }
        let n = bytes.len().min(self.room).min(5);
        self.bytes.extend_from_slice(&bytes[..n]);
        self.room -= n;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn full_disk_loses_and_repeats_nothing() {
    for room in 0..24 {
        let mut disk = Disk {
            bytes: Vec::new(),
            room,
        };
        let mut pending = Pending::default();
        pending.push(b"{\"first\":1}\n");
        pending.push(b"{\"second\":2}\n");
        assert!(
            pending.write_to(&mut disk).is_err(),
            "{room} bytes are too few"
        );
        pending.push(b"{}\n");
        disk.room = usize::MAX;
        pending.write_to(&mut disk).unwrap();
        assert_eq!(disk.bytes, b"{\"first\":1}\n{\"second\":2}\n{}\n");
        assert_eq!((pending.records_written, pending.records_waiting), (3, 0));
    }
}

#[test]
fn whole_records_are_dropped_and_counted_when_memory_is_full() {
    let mut pending = Pending::default();
    let line = [vec![b'x'; PENDING_MAX / 2 - 1], b"\n".to_vec()].concat();
    for _ in 0..5 {
        pending.push(&line);
    }
    assert_eq!((pending.records_waiting, pending.records_lost), (2, 3));
    pending.write_to(&mut io::sink()).unwrap();
    assert_eq!(pending.records_written, 2);
}

#[test]
fn device_that_is_always_full_is_survived() {
    let mut records = RecordFile::open(Target::File("/dev/full".into())).unwrap();
    records.push(b"{}\n");
    records.flush(Duration::ZERO);
    assert_eq!((records.written(), records.lost()), (0, 0));
    records.close(Duration::ZERO);
}

#[test]
fn rotation_moves_a_half_line_whole_to_the_new_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("records");
    let rotated = directory.path().join("records.1");
    let mut records = RecordFile::open(Target::File(path.clone())).unwrap();
    records.push(b"{\"first\":1}\n");
    records.flush(Duration::ZERO);

    records.push(b"{\"second\":2}\n");
    records.pending.written = records.output.write(b"{\"sec").unwrap();
    fs::rename(&path, &rotated).unwrap();
    records.take_back_half_line();
    records.output = Output::open(&records.target).unwrap();
    records.flush(Duration::ZERO);
    assert_eq!(fs::read(&rotated).unwrap(), b"{\"first\":1}\n");
    assert_eq!(fs::read(&path).unwrap(), b"{\"second\":2}\n");
}

#[test]
fn reopening_writes_to_the_path_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("records");
    let mut records = RecordFile::open(Target::File(path.clone())).unwrap();
    fs::remove_file(&path).unwrap();
    records.reopen(Duration::ZERO);
    records.push(b"{}\n");
    records.flush(Duration::ZERO);
    assert_eq!(fs::read(&path).unwrap(), b"{}\n");
}
