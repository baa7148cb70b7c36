//! Where in a file the functions of a TLS library begin: read from its ELF tables, and nothing but these of it.
//!
//! In: an open file. Out: for each function its offset in the file, as the kernel's probes want it. Maps nothing into
//! memory: the kernel would look into the file's probes then.

mod entries;

use std::{fs::File, os::unix::fs::FileExt as _};

use memchr::memmem;
use object::{
    LittleEndian, ReadCache, ReadRef,
    elf::{self, FileHeader64, ProgramHeader64},
    read::elf::{FileHeader as _, ProgramHeader as _, SectionHeader as _, SectionTable, Sym as _},
};

use crate::probes::Function;

/// Of this machine's kind only: what a program of another would pass lies elsewhere.
const MACHINE: u16 = if cfg!(target_arch = "aarch64") {
    elf::EM_AARCH64
} else {
    elf::EM_X86_64
};

/// Before the version in OpenSSL's own words.
const VERSION: &[u8] = b"\0OpenSSL ";
/// Words that are longer are no version.
const VERSION_MAX: usize = 64;
/// Read-only data that is longer, as in programs with OpenSSL and much else inside, is not searched.
const SEARCHED_MAX: u64 = 4 << 20;

/// The functions that the file has itself, in the order of [`Function::ALL`]; none for what is no program or
/// library.
pub(super) fn functions(file: &File) -> Vec<(Function, u64)> {
    let data = ReadCache::new(file);
    read(&data).unwrap_or_default()
}

/// Where the probes of these functions go.
pub(super) fn places(file: &File, functions: &[(Function, u64)]) -> Vec<(Function, u64)> {
    entries::places(functions, |offset| {
        let mut code = [0; entries::CODE];
        file.read_exact_at(&mut code, offset).ok()?;
        Some(code)
    })
}

/// Which OpenSSL the file says that it is, such as `OpenSSL 3.0.22 25 Aug 2026`; none where that takes long to find.
pub(super) fn version(file: &File) -> Option<String> {
    let data = &ReadCache::new(file);
    let sections = header(data)?.sections(LittleEndian, data).ok()?;
    let (_, section) = sections.section_by_name(LittleEndian, b".rodata")?;
    if section.sh_size(LittleEndian) > SEARCHED_MAX {
        return None;
    }
    let constants = section.data(LittleEndian, data).ok()?;
    let mut found = memmem::find_iter(constants, VERSION);
    found.find_map(|at| {
        let words = &constants[at + 1..];
        let words = &words[..memchr::memchr(0, words)?];
        let is_number = words.get(VERSION.len() - 1)?.is_ascii_digit();
        let is_version = is_number && words.len() <= VERSION_MAX && words.is_ascii();
        is_version.then(|| String::from_utf8_lossy(words).into_owned())
    })
}

/// Whether the file is a program or library of this machine.
pub(super) fn is_program(file: &File) -> bool {
    let data = ReadCache::new(file);
    header(&data).is_some()
}

fn header<'a, R: ReadRef<'a>>(data: R) -> Option<&'a FileHeader64<LittleEndian>> {
    let header = FileHeader64::<LittleEndian>::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let kinds = [elf::ET_EXEC, elf::ET_DYN];
    let fits = header.e_machine(endian) == MACHINE && kinds.contains(&header.e_type(endian));
    fits.then_some(header)
}

fn read<'a, R: ReadRef<'a>>(data: R) -> Option<Vec<(Function, u64)>> {
    let header = header(data)?;
    let segments = header.program_headers(LittleEndian, data).ok()?;
    let sections = header.sections(LittleEndian, data).ok()?;
    // What a program exports is in the first, what it has for itself in the second, unless it was stripped.
    for kind in [elf::SHT_DYNSYM, elf::SHT_SYMTAB] {
        let addresses = addresses(&sections, data, kind).unwrap_or_default();
        let offset = |address| segments.iter().find_map(|segment| offset(segment, address));
        let found: Vec<_> = addresses
            .into_iter()
            .filter_map(|(function, address)| Some((function, offset(address)?)))
            .collect();
        if !found.is_empty() {
            return Some(found);
        }
    }
    None
}

/// The functions of one of the two tables of symbols, and their addresses.
fn addresses<'a, R: ReadRef<'a>>(
    sections: &SectionTable<'a, FileHeader64<LittleEndian>, R>,
    data: R,
    kind: u32,
) -> Option<Vec<(Function, u64)>> {
    let section = sections
        .iter()
        .find(|section| section.sh_type(LittleEndian) == kind)?;
    let strings = sections.section(section.link(LittleEndian)).ok()?;
    let names = names(strings.data(LittleEndian, data).ok()?);
    // Most files have none of these names, and their symbols need not be read.
    if names.is_empty() {
        return None;
    }
    let symbols = sections.symbols(LittleEndian, data, kind).ok()?;
    let mut found = Vec::new();
    for symbol in symbols.iter() {
        let name = symbol.st_name(LittleEndian);
        let is_here = symbol.st_shndx(LittleEndian) != elf::SHN_UNDEF;
        if !is_here || symbol.st_type() != elf::STT_FUNC {
            continue;
        }
        let named = names.iter().find(|(_, at)| *at == name);
        if let Some((function, _)) = named
            && found.iter().all(|(other, _)| other != function)
        {
            found.push((*function, symbol.st_value(LittleEndian)));
        }
    }
    found.sort_by_key(|(function, _)| *function);
    Some(found)
}

/// Where the names of functions are in a table of strings. One may be the end of a longer string.
fn names(strings: &[u8]) -> Vec<(Function, u32)> {
    let of = |function: Function| {
        let name = format!("{}\0", function.symbol());
        let places: Vec<_> = memmem::find_iter(strings, &name).collect();
        let places = places.into_iter().flat_map(u32::try_from);
        places.map(move |place| (function, place))
    };
    let decisive: Vec<_> = [Function::Write, Function::BioWrite]
        .into_iter()
        .flat_map(of)
        .collect();
    if decisive.is_empty() {
        return decisive;
    }
    Function::ALL.into_iter().flat_map(of).collect()
}

/// The offset in the file of an address that lies in this segment, if that is to be run.
fn offset(segment: &ProgramHeader64<LittleEndian>, address: u64) -> Option<u64> {
    let is_code = segment.p_type(LittleEndian) == elf::PT_LOAD
        && segment.p_flags(LittleEndian) & elf::PF_X != 0;
    let within = address.checked_sub(segment.p_vaddr(LittleEndian))?;
    let is_in = is_code && within < segment.p_filesz(LittleEndian);
    is_in.then(|| within + segment.p_offset(LittleEndian))
}

#[cfg(test)]
mod tests;
