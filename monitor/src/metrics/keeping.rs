//! What is written of what was seen, and what could not be: records, the journal, the log.

use anyhow::Result;
use prometheus::{IntCounter, IntGauge, Registry, core::Collector};

use super::register::{counter, gauge, raise};

pub(crate) struct Keeping {
    log_lines_lost: IntCounter,
    records_written: IntCounter,
    records_lost: IntCounter,
    journal_lost: IntCounter,
    records_waiting: IntGauge,
}

impl Keeping {
    pub(super) fn new(r: &Registry) -> Result<Self> {
        Ok(Self {
            log_lines_lost: counter(
                r,
                "log_lines_lost_total",
                "Lines of the log dropped because whoever reads it was too slow, or away.",
            )?,
            records_written: counter(r, "records_written_total", "Records written.")?,
            records_lost: counter(
                r,
                "records_lost_total",
                "Records dropped because they could not be written and memory for them was full.",
            )?,
            journal_lost: counter(
                r,
                "journal_lost_total",
                "Facts that the journal did not take: a restart would lose them.",
            )?,
            records_waiting: gauge(
                r,
                "records_waiting",
                "Records in memory that are still to be written.",
            )?,
        })
    }

    /// Lines of the log that were lost since the start.
    pub(crate) fn log_lines_lost(&mut self, lines: u64) {
        raise(&self.log_lines_lost, lines);
    }

    /// Records written and dropped since the start, and those that wait now.
    pub(crate) fn records(&mut self, written: u64, lost: u64, waiting: u64) {
        raise(&self.records_written, written);
        raise(&self.records_lost, lost);
        self.records_waiting
            .set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    /// Facts that the journal did not take since the start.
    pub(crate) fn journal_lost(&self, total: u64) {
        raise(&self.journal_lost, total);
    }

    /// Those that count what is lost.
    pub(super) fn counters(&self) -> [&dyn Collector; 3] {
        [&self.records_lost, &self.journal_lost, &self.log_lines_lost]
    }
}
