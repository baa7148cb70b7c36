//! The two clocks: since boot, in which everything is measured, and UTC, in which it is published.
//!
//! In: nothing but the kernel's clocks. Out: `Duration`s since boot (CLOCK_BOOTTIME, the clock of
//! the kernel side) and UTC timestamps. No other module reads a clock.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Serialize, Serializer};

/// Time since boot, suspended time included: what `bpf_ktime_get_boot_ns` reads.
pub(crate) fn since_boot() -> Duration {
    read(libc::CLOCK_BOOTTIME)
}

/// CLOCK_REALTIME minus CLOCK_BOOTTIME. It moves when the wall clock is set, so it is measured for
/// each record; within one record all times share one offset and their differences stay exact.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UtcOffset(SignedDuration);

impl UtcOffset {
    /// Reads the two clocks as near to each other as three tries get: the process may be interrupted
    /// in between.
    pub(crate) fn measure() -> Self {
        let tries = (0..3).map(|_| {
            let before = since_boot();
            let since_epoch = read(libc::CLOCK_REALTIME);
            let took = since_boot() - before;
            (took, Self::between(since_epoch, before + took / 2))
        });
        let nearest = tries.min_by_key(|(took, _)| *took);
        nearest.map_or(Self(SignedDuration::ZERO), |(_, offset)| offset)
    }

    /// The offset that makes `since_boot` the same moment as `since_epoch`.
    pub(crate) fn between(since_epoch: Duration, since_boot: Duration) -> Self {
        Self(signed(since_epoch).saturating_sub(signed(since_boot)))
    }

    /// The moment in UTC that was `since_boot` after boot.
    pub(crate) fn utc(self, since_boot: Duration) -> Utc {
        Utc(
            Timestamp::from_duration(self.0.saturating_add(signed(since_boot)))
                .unwrap_or(Timestamp::UNIX_EPOCH),
        )
    }
}

/// A published time: RFC 3339 in UTC, always with nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Utc(Timestamp);

impl Serialize for Utc {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:.9}", self.0))
    }
}

/// A duration as it is published. Divided once: `as_secs_f64` adds two rounded parts, and prints
/// 1.5001986349999998.
pub(crate) fn seconds(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1e9
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

fn read(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a live timespec that clock_gettime(2) fills; nothing keeps the pointer.
    let failed = unsafe { libc::clock_gettime(clock, &raw mut time) };
    assert_eq!(failed, 0, "Linux has CLOCK_BOOTTIME since 2.6.39");
    let seconds = u64::try_from(time.tv_sec).expect("these clocks start at 0");
    let nanoseconds = u32::try_from(time.tv_nsec).expect("tv_nsec is below 1e9");
    Duration::new(seconds, nanoseconds)
}
