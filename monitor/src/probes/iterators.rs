//! What is asked of the kernel as a whole: to mark what is open already, to list what is followed.

use std::{
    fs::File,
    io::{ErrorKind, Read as _},
    os::fd::AsFd as _,
    slice::ChunksExact,
    time::Instant,
};

use anyhow::{Context as _, Result, anyhow};
use aya::{
    Pod,
    maps::{Array, Map},
};
use monitor_ebpf::socket::Socket;
use tracing::debug;

use super::{Probes, syscalls::iterate};

impl Probes {
    /// Watches all TCP connections that are open already, in all network namespaces, for frames of a
    /// WebSocket. Those that some process holds are found: not one that waits to be accepted.
    ///
    /// # Errors
    ///
    /// When the kernel refuses the iteration.
    pub(crate) fn find_candidates(&mut self) -> Result<()> {
        let started = Instant::now();
        let map = self
            .ebpf
            .map_mut("CANDIDATE")
            .context("the object has no map CANDIDATE")?;
        let mut map: Array<_, Value> = map.try_into().context("CANDIDATE is of another kind")?;
        map.set(0, Value(Socket::candidate()), 0)
            .context("set what a candidate begins as")?;
        let mut file: File = iterate(self.descriptor("find_candidates")?, None)
            .context("list the open connections")?
            .into();
        // Nothing is written, so this reads nothing; after a million files the kernel asks for a new call.
        let mut nothing = Vec::new();
        while let Err(error) = file.read_to_end(&mut nothing) {
            if error.kind() != ErrorKind::WouldBlock {
                return Err(error).context("list the open connections");
            }
        }
        debug!(elapsed = ?started.elapsed(), "open connections listed");
        Ok(())
    }

    /// Every WebSocket that the kernel side follows, in all network namespaces: as it would be on the ring
    /// buffer.
    ///
    /// # Errors
    ///
    /// When the kernel refuses the iteration.
    pub(crate) fn list(&self) -> Result<Listed> {
        self.begin_list()?.read()
    }

    /// The same, to be read elsewhere: that takes long where there are many, for the kernel walks from its first socket
    /// with every 32 KiB that are read.
    ///
    /// # Errors
    ///
    /// When the kernel refuses the iteration.
    pub(crate) fn begin_list(&self) -> Result<List> {
        let Some(Map::SkStorage(sockets)) = self.ebpf.map("SOCKETS") else {
            return Err(anyhow!("the object has no map SOCKETS"));
        };
        let program = self.descriptor("list_sockets")?;
        let file = iterate(program, Some(sockets.fd().as_fd())).context("list the sockets")?;
        Ok(List(file.into()))
    }
}

/// What the kernel keeps of a list until it is read, in bytes (`bpf_seq_read` in kernel/bpf/bpf_iter.c).
const SOME: usize = 8 * 4096;

/// A list of sockets that the kernel makes while it is read.
pub(crate) struct List(File);

impl List {
    /// # Errors
    ///
    /// When the kernel stops.
    pub(crate) fn read(mut self) -> Result<Listed> {
        let mut bytes = Vec::new();
        // As many at a time as the kernel gives, for it may pass over some between two reads.
        let mut some = vec![0; SOME];
        loop {
            match self.0.read(&mut some) {
                Ok(0) => return Ok(Listed(bytes)),
                Ok(read) => bytes.extend_from_slice(&some[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("list the sockets"),
            }
        }
    }
}

/// Sockets, as [`Probes::list`] found them.
pub(crate) struct Listed(Vec<u8>);

impl Listed {
    /// Each as a record of the ring buffer.
    pub(crate) fn records(&self) -> ChunksExact<'_, u8> {
        self.0.chunks_exact(size_of::<Socket>())
    }
}

/// A socket as a map's value.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Value(Socket);

// SAFETY: a `Socket` is plain integers without padding (`IntoBytes`).
unsafe impl Pod for Value {}
