//! Puts the object into the kernel: makes the maps, and lets the verifier judge every program.

use std::{
    os::fd::{AsFd as _, BorrowedFd},
    path::PathBuf,
    time::Instant,
};

use anyhow::{Context as _, Result, anyhow};
use aya::{
    Btf, EbpfLoader, VerifierLogLevel, include_bytes_aligned,
    programs::{BtfTracePoint, CgroupSkb, Iter, Program, ProgramError},
};
use tracing::debug;

use super::{
    Probes,
    attach::{OF_CGROUP, STATE},
};

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/closewatch-ebpf"));

impl Probes {
    /// Loads every program, so that the verifier judges it, and attaches none.
    ///
    /// # Errors
    ///
    /// As [`Probes::attach`].
    pub(crate) fn load() -> Result<Self> {
        let btf = Btf::from_sys_fs().context("read the kernel's types (BTF)")?;
        let ebpf = EbpfLoader::new()
            .btf(Some(&btf))
            .verifier_log_level(VerifierLogLevel::STATS)
            .load(OBJECT)
            .context("create the maps of the kernel side")?;
        let mut probes = Self {
            ebpf,
            cgroup: PathBuf::new(),
            links: Vec::new(),
        };
        for (name, _) in OF_CGROUP {
            probes.load_one::<CgroupSkb>(name, CgroupSkb::load)?;
        }
        for name in STATE {
            probes.load_one::<BtfTracePoint>(name, |program| {
                program.load("inet_sock_set_state", &btf)
            })?;
        }
        probes.load_one::<Iter>("list_sockets", |program| {
            program.load("bpf_sk_storage_map", &btf)
        })?;
        probes.load_one::<Iter>("find_candidates", |program| program.load("task_file", &btf))?;
        Ok(probes)
    }

    fn load_one<'a, P>(
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
        load(program).with_context(|| format!("load the program {name}"))?;
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

    /// For every program: its name, the instructions that the verifier went through, when the
    /// kernel tells (5.16).
    pub(crate) fn verified(&self) -> Vec<(String, Option<u32>)> {
        let count = |program: &Program| program.info().ok()?.verified_instruction_count();
        let programs = self.ebpf.programs();
        programs
            .map(|(name, program)| (name.to_owned(), count(program)))
            .collect()
    }
}
