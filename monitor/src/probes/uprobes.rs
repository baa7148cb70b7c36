//! The functions of TLS libraries, and the programs at their beginnings and returns.
//!
//! aya 0.14 can attach such programs, but only whoever has the whole object: here each file is for a thread of its own,
//! which has descriptors of the programs and nothing else.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use anyhow::{Context as _, Result};
use aya::programs::UProbe;

use super::{
    Probes,
    perf::{Uprobes, Where},
};

/// A function of OpenSSL that the kernel side wants to know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Function {
    Read,
    ReadEx,
    Write,
    WriteEx,
    DoHandshake,
    Free,
    BioWrite,
}

impl Function {
    pub(crate) const ALL: [Self; 7] = [
        Self::Read,
        Self::ReadEx,
        Self::Write,
        Self::WriteEx,
        Self::DoHandshake,
        Self::Free,
        Self::BioWrite,
    ];

    pub(crate) fn symbol(self) -> &'static str {
        match self {
            Self::Read => "SSL_read",
            Self::ReadEx => "SSL_read_ex",
            Self::Write => "SSL_write",
            Self::WriteEx => "SSL_write_ex",
            Self::DoHandshake => "SSL_do_handshake",
            Self::Free => "SSL_free",
            Self::BioWrite => "BIO_write",
        }
    }

    /// OpenSSL has these two from 1.1.1 on, and others than OpenSSL have not got them.
    pub(crate) fn is_optional(self) -> bool {
        matches!(self, Self::ReadEx | Self::WriteEx)
    }

    /// The program at its beginning.
    fn program(self) -> &'static str {
        match self {
            Self::Read => "tls_read",
            Self::ReadEx => "tls_read_ex",
            Self::Write => "tls_write",
            Self::WriteEx => "tls_write_ex",
            Self::DoHandshake => "tls_do_handshake",
            Self::Free => "tls_free",
            Self::BioWrite => "tls_bio_write",
        }
    }

    /// Whether the kernel side is told of its return, too.
    fn has_return(self) -> bool {
        !matches!(self, Self::Free | Self::BioWrite)
    }
}

/// The program at the returns of functions.
const RETURNED: &str = "tls_returned";

/// The names of all programs that are only for TLS.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let beginnings = Function::ALL.into_iter().map(Function::program);
    [RETURNED].into_iter().chain(beginnings)
}

/// The programs, to be attached by whoever has this.
pub(crate) struct TlsPrograms {
    returned: OwnedFd,
    /// In the order of [`Function::ALL`].
    beginnings: Vec<OwnedFd>,
    uprobes: Uprobes,
}

/// The programs at the functions of one file, until this is dropped, which takes the kernel a tenth of a second for
/// each of them.
pub(crate) struct Attached {
    // Dropped in this order: a return that nobody expects is nothing, a call whose return is not told would be one
    // that goes on for ever.
    #[expect(dead_code, reason = "what matters is when it is closed")]
    beginnings: Vec<OwnedFd>,
    #[expect(dead_code, reason = "what matters is when it is closed")]
    returns: Vec<OwnedFd>,
}

impl Probes {
    /// Descriptors of the programs for TLS.
    ///
    /// # Errors
    ///
    /// When the object was loaded without them, or this kernel has no uprobes.
    pub(crate) fn tls_programs(&self) -> Result<TlsPrograms> {
        let program = |name: &str| {
            let program = self.descriptor(name)?;
            program
                .try_clone_to_owned()
                .context("keep a program's descriptor")
        };
        let beginnings = Function::ALL.into_iter();
        let beginnings = beginnings.map(|function| program(function.program()));
        Ok(TlsPrograms {
            returned: program(RETURNED)?,
            beginnings: beginnings.collect::<Result<_>>()?,
            uprobes: Uprobes::find()?,
        })
    }

    pub(super) fn load_tls(&mut self) -> Result<()> {
        for name in names() {
            self.load_one::<UProbe>(name, UProbe::load)?;
        }
        Ok(())
    }
}

impl TlsPrograms {
    /// Attaches the programs to these functions of a file: for one process, or for all that run it. Returns before
    /// beginnings, so that no call begins whose return is not told.
    ///
    /// # Errors
    ///
    /// When the kernel refuses one of them; then none is attached.
    pub(crate) fn attach(
        &self,
        file: BorrowedFd<'_>,
        functions: &[(Function, u64)],
        process: Option<u32>,
    ) -> io::Result<Attached> {
        let attach = |offset, is_return, program: &OwnedFd| {
            let place = Where {
                file,
                offset,
                is_return,
                process,
            };
            self.uprobes.attach(program.as_fd(), place)
        };
        let returns = functions
            .iter()
            .filter(|(function, _)| function.has_return());
        let returns: io::Result<_> = returns
            .map(|(_, offset)| attach(*offset, true, &self.returned))
            .collect();
        let returns = returns?;
        let beginnings = functions.iter().map(|(function, offset)| {
            let program = &self.beginnings[*function as usize];
            attach(*offset, false, program)
        });
        let beginnings: io::Result<_> = beginnings.collect();
        Ok(Attached {
            beginnings: beginnings?,
            returns,
        })
    }
}

#[cfg(test)]
mod tests {
    use object::{Object as _, ObjectSection as _, ObjectSymbol as _};

    use super::*;
    use crate::probes::load::OBJECT;

    /// The instruction that calls `bpf_tail_call`.
    const TAIL_CALL: [u8; 8] = [0x85, 0, 0, 0, 12, 0, 0, 0];

    /// Or its stack would be the CPU's, and that of others at the same time: see `monitor-ebpf/src/uprobes.rs`.
    #[test]
    fn every_program_has_a_tail_call() {
        let file = object::File::parse(OBJECT).unwrap();
        for name in names() {
            let program = file.symbol_by_name(name).unwrap();
            let section = program.section_index().unwrap();
            let section = file.section_by_index(section).unwrap();
            let code = section.data_range(program.address(), program.size());
            let code = code.unwrap().unwrap();
            let has_call = code.chunks(8).any(|instruction| instruction == TAIL_CALL);
            assert!(has_call, "{name}");
        }
    }
}
