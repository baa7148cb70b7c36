//! How many records were right, and how far their times were from the capture's.

use std::{fs::OpenOptions, io::Write};

#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) expected: usize,
    pub(crate) right: usize,
    /// Of every compared time and duration, in nanoseconds.
    pub(crate) differences: Vec<i64>,
    pub(crate) errors: Vec<String>,
}

impl Figures {
    /// Tells what was found, appends it to the file that `CLOSEWATCH_FIGURES` names, and panics
    /// when anything was wrong.
    pub(crate) fn settle(mut self, test: &str) {
        self.differences.sort_unstable();
        let median = self
            .differences
            .get(self.differences.len() / 2)
            .copied()
            .unwrap_or(0);
        let largest = self.differences.last().copied().unwrap_or(0);
        eprintln!(
            "{test}: {}/{} records right; {} times compared: median {} µs, largest {} µs off",
            self.right,
            self.expected,
            self.differences.len(),
            median / 1000,
            largest / 1000,
        );
        if let Some(path) = std::env::var_os("CLOSEWATCH_FIGURES") {
            let line = serde_json::json!({
                "test": test,
                "records_expected": self.expected,
                "records_right": self.right,
                "median_ns": median,
                "largest_ns": largest,
                "differences_ns": self.differences,
            });
            let mut file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .unwrap();
            // In one write, because tests that run side by side share the file.
            file.write_all(format!("{line}\n").as_bytes()).unwrap();
        }
        let count = self.errors.len();
        self.errors.truncate(20);
        assert!(
            count == 0,
            "{test}: {count} records wrong:\n{}",
            self.errors.join("\n")
        );
    }
}
