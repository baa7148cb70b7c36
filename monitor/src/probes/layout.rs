//! What the memory of the kernel side looks like, as a name: programs of one build can go on with the memory
//! of another that has the same.
//!
//! In: the object. Out: how the compiler laid out each map and every structure in it, as it noted that
//! itself (BTF), and a hash over it. So nobody has to remember to raise a number when a field changes.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use object::{Object as _, ObjectSection as _};

/// To be raised when the meaning of a field changes and its layout does not.
const MEANING: u32 = 1;

/// Types within types at most: more are a circle.
const DEPTH_MAX: usize = 32;

/// The maps of an object: name, and layout in words.
pub(super) struct Layout(Vec<(String, String)>);

impl Layout {
    /// # Errors
    ///
    /// When the object has no BTF or its BTF is cut.
    pub(super) fn of(object: &[u8]) -> Result<Self> {
        let file = object::File::parse(object).context("read the embedded object")?;
        let section = file.section_by_name(".BTF").context("it has no BTF")?;
        let types = Types::read(section.data().context("read its BTF")?)?;
        let mut maps = Vec::new();
        for variable in types.variables_in(".maps")? {
            let mut layout = String::new();
            types.describe(variable.referred, 0, &mut layout)?;
            maps.push((types.name(variable)?, layout));
        }
        maps.sort();
        Ok(Self(maps))
    }

    /// The name of what these maps have in them; a hash, and [`MEANING`].
    pub(super) fn name(&self, maps: &[&str]) -> String {
        let shared = self.0.iter();
        let shared = shared.filter(|(name, _)| maps.contains(&name.as_str()));
        let text: String = shared
            .map(|(name, layout)| format!("{name}: {layout}\n"))
            .collect();
        format!("{MEANING}-{:016x}", fnv_1a(text.as_bytes()))
    }

    /// The names of all maps.
    pub(super) fn maps(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }
}

/// Whether a directory's name is one that [`Layout::name`] gives, of whatever build.
pub(super) fn is_name(name: &str) -> bool {
    name.split_once('-').is_some_and(|(meaning, hash)| {
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        !meaning.is_empty() && digits(meaning) && hash.len() == 16 && digits(hash)
    })
}

/// Kernel: `struct btf_type` and what is behind it.
struct Type {
    name: u32,
    kind: u32,
    /// The size, or the type that this one refers to.
    referred: u32,
    members: Vec<[u32; 3]>,
}

struct Types<'a> {
    types: Vec<Type>,
    strings: &'a [u8],
}

// Kernel: include/uapi/linux/btf.h.
const INT: u32 = 1;
const POINTER: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FUNC_PROTO: u32 = 13;
const VARIABLE: u32 = 14;
const SECTION: u32 = 15;
const DECL_TAG: u32 = 17;
const ENUM64: u32 = 19;

impl<'a> Types<'a> {
    fn read(btf: &'a [u8]) -> Result<Self> {
        let mut header = Words(btf);
        let _magic_version_flags = header.next()?;
        let length = header.next()? as usize;
        let [types_at, types_length, strings_at, strings_length] = [
            header.next()?,
            header.next()?,
            header.next()?,
            header.next()?,
        ];
        let part = |at: u32, part: u32| {
            let from = length + at as usize;
            btf.get(from..from + part as usize)
                .context("its BTF is cut")
        };
        let mut words = Words(part(types_at, types_length)?);
        let mut types = Vec::new();
        while !words.0.is_empty() {
            let (name, info, referred) = (words.next()?, words.next()?, words.next()?);
            let (kind, count) = (info >> 24 & 0x1f, info as usize & 0xffff);
            let (items, width) = match kind {
                INT | VARIABLE | DECL_TAG => (1, 1),
                ARRAY => (1, 3),
                STRUCT | UNION | SECTION | ENUM64 => (count, 3),
                ENUM | FUNC_PROTO => (count, 2),
                _ => (0, 0),
            };
            let mut members = Vec::new();
            for _ in 0..items {
                let mut member = [0; 3];
                for word in &mut member[..width] {
                    *word = words.next()?;
                }
                members.push(member);
            }
            types.push(Type {
                name,
                kind,
                referred,
                members,
            });
        }
        Ok(Self {
            types,
            strings: part(strings_at, strings_length)?,
        })
    }

    fn get(&self, id: u32) -> Result<&Type> {
        let index = (id as usize).checked_sub(1);
        let found = index.and_then(|index| self.types.get(index));
        found.with_context(|| format!("its BTF has no type {id}"))
    }

    fn text(&self, at: u32) -> Result<String> {
        let rest = self.strings.get(at as usize..).context("its BTF is cut")?;
        let end = rest.iter().position(|byte| *byte == 0);
        Ok(String::from_utf8_lossy(&rest[..end.context("its BTF is cut")?]).into_owned())
    }

    fn name(&self, of: &Type) -> Result<String> {
        self.text(of.name)
    }

    fn variables_in(&self, section: &str) -> Result<Vec<&Type>> {
        for candidate in self.types.iter().filter(|one| one.kind == SECTION) {
            if self.name(candidate)? == section {
                let ids = candidate.members.iter();
                return ids.map(|[id, _, _]| self.get(*id)).collect();
            }
        }
        Ok(Vec::new())
    }

    /// Writes all of a type that says where its bytes are and what they are called.
    fn describe(&self, id: u32, depth: usize, out: &mut String) -> Result<()> {
        ensure!(depth < DEPTH_MAX, "its BTF goes round in circles");
        if id == 0 {
            out.push_str("void");
            return Ok(());
        }
        let this = self.get(id)?;
        match this.kind {
            ARRAY => {
                let [element, _, count] = this.members.first().copied().unwrap_or_default();
                write!(out, "[{count}]")?;
                self.describe(element, depth + 1, out)
            }
            STRUCT | UNION => {
                write!(out, "{} {} {{", self.name(this)?, this.referred)?;
                for [name, member, at] in &this.members {
                    write!(out, " {}@{at} ", self.text(*name)?)?;
                    self.describe(*member, depth + 1, out)?;
                }
                out.push_str(" }");
                Ok(())
            }
            INT | ENUM | ENUM64 => {
                write!(out, "{} {}", self.name(this)?, this.referred)?;
                for member in this.members.iter().filter(|_| this.kind != INT) {
                    write!(out, " {}={}", self.text(member[0])?, member[1])?;
                }
                Ok(())
            }
            POINTER => {
                out.push('*');
                self.describe(this.referred, depth + 1, out)
            }
            _ => {
                write!(out, "{} {} ", this.kind, self.name(this)?)?;
                self.describe(this.referred, depth + 1, out)
            }
        }
    }
}

/// The words of BTF: little or big endian as this host is, for the object was built for it.
struct Words<'a>(&'a [u8]);

impl Words<'_> {
    fn next(&mut self) -> Result<u32> {
        let (word, rest) = self.0.split_first_chunk().context("its BTF is cut")?;
        self.0 = rest;
        Ok(u32::from_ne_bytes(*word))
    }
}

/// Fowler, Noll and Vo's hash, 64 bits: the same in every build, as the standard library's is not.
fn fnv_1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probes::load::OBJECT;

    #[test]
    fn every_field_counts() {
        let layout = Layout::of(OBJECT).unwrap();
        let (_, sockets) = layout.0.iter().find(|(name, _)| name == "SOCKETS").unwrap();
        for field in ["value", "ended_ns@576 u64 8", "fin_answers_fin", "misses"] {
            assert!(sockets.contains(field), "{field}: {sockets}");
        }
        let (_, events) = layout.0.iter().find(|(name, _)| name == "EVENTS").unwrap();
        assert!(events.contains("max_entries"), "{events}");
    }

    #[test]
    fn a_name_is_of_the_maps_that_are_asked_for() {
        let layout = |sockets: &str| {
            Layout(vec![
                ("A".to_owned(), "scratch".to_owned()),
                ("SOCKETS".to_owned(), sockets.to_owned()),
            ])
        };
        let name = layout("a@0 u8 1").name(&["SOCKETS"]);
        assert!(is_name(&name), "{name}");
        assert_ne!(name, layout("a@0 u16 2").name(&["SOCKETS"]));
        assert_ne!(name, layout("a@0 u8 1").name(&["A", "SOCKETS"]));
        assert!(!is_name("chat") && !is_name("1-chat") && !is_name("lost+found"));
    }

    #[test]
    fn what_is_cut_is_refused() {
        let file = object::File::parse(OBJECT).unwrap();
        let btf = file.section_by_name(".BTF").unwrap().data().unwrap();
        for length in [0, 8, 23, btf.len() / 2] {
            assert!(Types::read(&btf[..length]).is_err(), "{length} bytes");
        }
    }
}
