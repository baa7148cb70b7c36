//! The kernel side's map of TLS sessions.

use aya::maps::{HashMap, MapData};
use monitor_ebpf::session::Session;

use super::Probes;

const MAP: &str = "TLS_SESSIONS";

/// A session as it lies in the map.
pub(crate) type Bytes = [u8; size_of::<Session>()];

impl Probes {
    /// Every session with its number; none that the kernel does not hand out.
    pub(crate) fn sessions(&self) -> impl Iterator<Item = (u64, Bytes)> {
        let map = self.ebpf.map(MAP);
        let map = map.and_then(|map| HashMap::<&MapData, u64, Bytes>::try_from(map).ok());
        let mut all = Vec::new();
        if let Some(map) = map {
            all.extend(map.iter().filter_map(Result::ok));
        }
        all.into_iter()
    }

    /// Removes a session, if it is still there.
    pub(crate) fn remove_session(&mut self, number: u64) {
        let map = self.ebpf.map_mut(MAP);
        let map = map.and_then(|map| HashMap::<&mut MapData, u64, Bytes>::try_from(map).ok());
        if let Some(mut map) = map {
            let _ = map.remove(&number);
        }
    }
}
