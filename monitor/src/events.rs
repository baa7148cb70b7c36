//! The ring buffer: waits for records and turns them into events.

use std::io::Result as IoResult;

use anyhow::{Context as _, Result};
use aya::maps::{Map, MapData, RingBuf};
use monitor_ebpf::event::{Event, Malformed};
use tokio::io::{Interest, unix::AsyncFd};

/// The daemon's end of the ring buffer.
pub(crate) struct Events {
    ring: AsyncFd<RingBuf<MapData>>,
    /// Whether the last look found no record. The kernel wakes only a reader that has read all
    /// (`bpf_ringbuf_commit`), so one that has not must not wait.
    is_empty: bool,
}

impl Events {
    /// # Errors
    ///
    /// When the map is no ring buffer or cannot be mapped into memory.
    pub(crate) fn open(map: Map) -> Result<Self> {
        let ring = RingBuf::try_from(map).context("EVENTS is no ring buffer")?;
        // SAFETY: the map's descriptor is the ring's own and stays open as long as the ring.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }
            .context("wait for the ring buffer")?;
        Ok(Self {
            ring,
            is_empty: false,
        })
    }

    /// Waits until there may be records for [`Events::take`]. Does not wait before a look has found
    /// none. Cancel-safe.
    ///
    /// # Errors
    ///
    /// When the kernel does not let this process wait.
    pub(crate) async fn ready(&mut self) -> IoResult<()> {
        if self.is_empty {
            self.ring.readable_mut().await?.clear_ready();
        }
        Ok(())
    }

    /// Hands the next record to `observe`; false when there is none.
    pub(crate) fn take(&mut self, observe: impl FnOnce(Result<Event<'_>, Malformed>)) -> bool {
        let record = self.ring.get_mut().next();
        self.is_empty = record.is_none();
        let Some(record) = record else {
            return false;
        };
        observe(Event::decode(&record));
        true
    }
}
