//! The ring buffer: waits for records and hands them out.

use std::{io::Result as IoResult, path::Path};

use anyhow::{Context as _, Result};
use aya::maps::{Map, MapData, RingBuf};
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

    /// Hands the next record to `observe`, to be read with `Event::decode`; false when there is none. It is in
    /// the ring buffer until `observe` returns, and if the process is killed in there, for the next daemon.
    pub(crate) fn take(&mut self, observe: impl FnOnce(&[u8])) -> bool {
        let record = self.ring.get_mut().next();
        self.is_empty = record.is_none();
        let Some(record) = record else {
            return false;
        };
        observe(&record);
        true
    }
}

/// How many records wait in a ring buffer that is pinned. They are read by this, and gone.
pub(crate) fn unread(pin: &Path) -> Result<usize> {
    let map = Map::from_map_data(MapData::from_pin(pin)?)?;
    let mut ring = RingBuf::try_from(map)?;
    let mut count = 0;
    while ring.next().is_some() {
        count += 1;
    }
    Ok(count)
}
