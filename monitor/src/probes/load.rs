//! Puts the object into the kernel: makes the maps, and lets the verifier judge every program.

use std::{
    fmt,
    os::fd::{AsFd as _, BorrowedFd},
    path::PathBuf,
    time::Instant,
};

use anyhow::{Context as _, Result, anyhow};
use aya::{
    Btf, EbpfError, EbpfLoader, VerifierLogLevel, include_bytes_aligned,
    maps::MapError,
    programs::{BtfTracePoint, CgroupSkb, CgroupSock, Iter, Program, ProgramError, SockOps},
};
use tracing::debug;

use super::{
    Pins, Probes,
    layout::Layout,
    pin::{PINNED, is_of_tls},
    types,
    variant::{Ends, OPERATIONS, PACKETS, Place, RELEASE},
};

pub(super) static OBJECT: &[u8] =
    include_bytes_aligned!(concat!(env!("OUT_DIR"), "/closewatch-ebpf"));

/// What the kernel did not do with the object.
#[derive(Debug)]
pub(crate) struct Rejected(String);

#[cfg(test)]
impl Rejected {
    pub(crate) fn of(what: &str) -> Self {
        Self(what.to_owned())
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Probes {
    /// Loads every program that this kernel can run, so that the verifier judges it, and attaches none.
    /// Pinned maps are used as they are; those that are not there are made and pinned. Without `tls` what is only for TLS
    /// is not loaded, and its maps are as small as the kernel makes them.
    ///
    /// # Errors
    ///
    /// As [`Probes::attach`].
    pub(crate) fn load(pins: Option<Pins>, tls: bool) -> Result<Self> {
        let btf = Btf::from_sys_fs().context("read the kernel's types (BTF)")?;
        let follows_tls = u8::from(tls);
        let copied_seq = tls.then(|| types::offset("tcp_sock", "copied_seq"));
        let copied_seq_at = copied_seq.flatten().unwrap_or(0);
        let mut loader = EbpfLoader::new();
        loader
            .btf(Some(&btf))
            .override_global("FOLLOWS_TLS", &follows_tls, true)
            .override_global("COPIED_SEQ_AT", &copied_seq_at, true)
            .verifier_log_level(VerifierLogLevel::STATS);
        let layout = Layout::of(OBJECT)?;
        for map in layout.maps().filter(|map| !tls && is_of_tls(map)) {
            loader.map_max_entries(map, 1);
        }
        if let Some(pins) = &pins {
            for name in PINNED {
                loader.map_pin_path(name, pins.map(name));
            }
        }
        let ebpf = loader.load(OBJECT).map_err(|error| {
            // A pin is not the kernel's doing, but the file system's.
            let is_pin = matches!(error, EbpfError::MapError(MapError::PinError { .. }));
            let rejected = Rejected("create the maps of the kernel side".to_owned());
            let error = anyhow::Error::new(error);
            if is_pin {
                error.context("pin the maps of the kernel side")
            } else {
                error.context(rejected)
            }
        })?;
        let mut probes = Self {
            ebpf,
            ends: Ends::Tracepoint,
            cgroup: PathBuf::new(),
            links: Vec::new(),
            watched: None,
            pins,
        };
        for (name, _) in PACKETS {
            probes.load_one::<CgroupSkb>(name, CgroupSkb::load)?;
        }
        probes.load_ends(&btf)?;
        probes.load_one::<Iter>("list_sockets", |program| {
            program.load("bpf_sk_storage_map", &btf)
        })?;
        if tls {
            probes.load_tls()?;
        }
        // The end of what this finds only the tracepoint tells.
        if probes.ends == Ends::Tracepoint {
            probes
                .load_one::<Iter>("find_candidates", |program| program.load("task_file", &btf))?;
        }
        Ok(probes)
    }

    /// Loads what sees the end of a socket in the best way that this kernel has.
    fn load_ends(&mut self, btf: &Btf) -> Result<()> {
        if !Ends::forced() {
            let refused = match self.load_hooks(Ends::Tracepoint, btf) {
                Ok(()) => return Ok(()),
                Err(refused) => refused,
            };
            debug!("no tracepoint: {refused:#}");
            // When neither way works, what keeps the better one from working is what counts.
            return self.load_hooks(Ends::Callbacks, btf).map_err(|_| refused);
        }
        self.load_hooks(Ends::Callbacks, btf)
    }

    fn load_hooks(&mut self, ends: Ends, btf: &Btf) -> Result<()> {
        for (name, place) in ends.hooks() {
            match place {
                OPERATIONS => self.load_one::<SockOps>(name, SockOps::load)?,
                RELEASE => self.load_one::<CgroupSock>(name, CgroupSock::load)?,
                Place::Cgroup(_) => self.load_one::<CgroupSkb>(name, CgroupSkb::load)?,
                Place::State => self.load_one::<BtfTracePoint>(name, |program| {
                    program.load("inet_sock_set_state", btf)
                })?,
            }
        }
        self.ends = ends;
        Ok(())
    }

    pub(super) fn load_one<'a, P>(
        &'a mut self,
        name: &str,
        load: impl FnOnce(&mut P) -> Result<(), ProgramError>,
    ) -> Result<()>
    where
        P: 'a,
        &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
    {
        let started = Instant::now();
        let program: &'a mut P = self.program(name)?;
        load(program).with_context(|| Rejected(format!("load the program {name}")))?;
        debug!(name, elapsed = ?started.elapsed(), "program verified");
        Ok(())
    }

    pub(super) fn program<'a, P>(&'a mut self, name: &str) -> Result<&'a mut P>
    where
        &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
    {
        let program = self.ebpf.program_mut(name);
        let program = program.ok_or_else(|| anyhow!("the object has no program {name}"))?;
        program
            .try_into()
            .with_context(|| format!("{name} is of another kind"))
    }

    pub(super) fn descriptor(&self, name: &str) -> Result<BorrowedFd<'_>> {
        let program = self.ebpf.program(name);
        let program = program.ok_or_else(|| anyhow!("the object has no program {name}"))?;
        let fd = program
            .fd()
            .with_context(|| format!("{name} is not loaded"))?;
        Ok(fd.as_fd())
    }

    /// For every program that is loaded: its name, the instructions that the verifier went through, when the
    /// kernel tells (5.16).
    pub(crate) fn verified(&self) -> Vec<(String, Option<u32>)> {
        let programs = self.ebpf.programs();
        programs
            .filter_map(|(name, program)| {
                let info = program.info().ok()?;
                Some((name.to_owned(), info.verified_instruction_count()))
            })
            .collect()
    }
}
