//! Which of the records that a killed daemon may or may not have written are in the file.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

/// What somebody else may have appended since.
const SLACK: u64 = 64 << 10;

/// Leaves those lines that are neither at the end of the file, nor at the end of one that a rotation has
/// made of it: such a one has the file's name and something behind it. A line is never there by chance, for
/// it has both ends of its connection and times to the nanosecond.
pub(crate) fn without_written<K>(path: &Path, lines: &mut Vec<(K, Vec<u8>)>) {
    let length: usize = lines.iter().map(|(_, line)| line.len()).sum();
    if length == 0 {
        return;
    }
    for file in generations(path) {
        let Ok(tail) = tail(&file, length as u64 + SLACK) else {
            continue;
        };
        let written: HashSet<&[u8]> = tail.split_inclusive(|byte| *byte == b'\n').collect();
        lines.retain(|(_, line)| !written.contains(line.as_slice()));
    }
}

fn generations(path: &Path) -> Vec<PathBuf> {
    let Some(name) = path.file_name() else {
        return Vec::new();
    };
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let same = entries.filter(|entry| {
        let found = entry.file_name();
        let is_file = entry.path().metadata().is_ok_and(|file| file.is_file());
        is_file
            && found
                .as_encoded_bytes()
                .starts_with(name.as_encoded_bytes())
    });
    same.map(|entry| entry.path()).collect()
}

fn tail(path: &Path, length: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let all = file.metadata()?.len();
    file.seek(SeekFrom::Start(all.saturating_sub(length)))?;
    let mut tail = Vec::new();
    file.take(length).read_to_end(&mut tail)?;
    Ok(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_file_or_in_a_rotated_one_is_not_written_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records.jsonl");
        fs::write(directory.path().join("records.jsonl.1"), "a\nb\n").unwrap();
        fs::write(&path, format!("{}\nc\nd", "x".repeat(2 * SLACK as usize))).unwrap();
        let line = |text: &str| (text.to_owned(), format!("{text}\n").into_bytes());
        let mut lines: Vec<_> = ["b", "c", "d", "e"].map(line).into();
        without_written(&path, &mut lines);
        let left: Vec<&str> = lines.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(left, ["d", "e"], "half a line is none");
    }

    #[test]
    fn a_file_that_is_not_there_has_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut lines = vec![((), b"a\n".to_vec())];
        without_written(&directory.path().join("records.jsonl"), &mut lines);
        assert_eq!(lines.len(), 1);
    }
}
