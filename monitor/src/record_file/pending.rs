//! Lines on their way out.

use std::io::{self, ErrorKind, Write};

/// Memory for lines that is kept when there are none.
const KEPT: usize = 64 << 10;

#[derive(Default)]
pub(super) struct Pending {
    lines: Vec<u8>,
    /// How much of `lines` is out: never a whole line, between two calls.
    written: usize,
}

impl Pending {
    pub(super) fn push(&mut self, lines: &[u8]) {
        self.lines.extend_from_slice(lines);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Writes until all is out, or until an error: `WouldBlock` when the reader takes no more for now. What
    /// is out can be taken back as long as it was not settled.
    pub(super) fn write_to(&mut self, output: &mut impl Write) -> io::Result<()> {
        while self.written < self.lines.len() {
            match output.write(&self.lines[self.written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => self.written += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Forgets the whole lines that are out. Returns how many, and their bytes.
    pub(super) fn settle(&mut self) -> (u64, usize) {
        let out = &self.lines[..self.written];
        let newline = out.iter().rposition(|byte| *byte == b'\n');
        let whole = newline.map_or(0, |at| at + 1);
        let records = out[..whole].iter().filter(|byte| **byte == b'\n').count() as u64;
        self.lines.drain(..whole);
        self.written -= whole;
        if self.lines.is_empty() {
            self.lines.shrink_to(KEPT);
        }
        (records, whole)
    }

    /// Bytes that are out and not settled.
    pub(super) fn half_line(&self) -> u64 {
        self.written as u64
    }

    /// Starts anew with the first line that is not settled.
    pub(super) fn rewind(&mut self) {
        self.written = 0;
    }

    /// Writes no more than the first bytes.
    #[cfg(test)]
    pub(super) fn begin_with(&mut self, bytes: usize, output: &mut impl Write) {
        output.write_all(&self.lines[..bytes]).unwrap();
        self.written = bytes;
    }
}

#[cfg(test)]
mod tests {
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
            let before = pending.settle();
            pending.push(b"{}\n");
            disk.room = usize::MAX;
            pending.write_to(&mut disk).unwrap();
            let after = pending.settle();
            assert_eq!(disk.bytes, b"{\"first\":1}\n{\"second\":2}\n{}\n");
            assert_eq!(before.0 + after.0, 3);
            assert_eq!(before.1 + after.1, disk.bytes.len());
        }
    }

    #[test]
    fn memory_of_a_trouble_that_is_over_is_given_back() {
        let mut pending = Pending::default();
        let line = [vec![b'x'; 1 << 20], b"\n".to_vec()].concat();
        pending.push(&line);
        pending.write_to(&mut io::sink()).unwrap();
        pending.settle();
        assert!(pending.is_empty() && pending.lines.capacity() <= KEPT);
    }
}
