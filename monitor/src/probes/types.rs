//! The kernel's types (BTF), as far as the kernel side must be told of them.
//!
//! In: the bytes of `/sys/kernel/btf/vmlinux`. Out: where a structure has a field. Bytes that are no BTF have none.

use std::{fs, iter};

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

// Kernel: include/uapi/linux/btf.h.
const MAGIC: u32 = 0xeb9f;
const STRUCT: u32 = 4;
/// Bytes of a type before what its kind adds; of a member.
const TYPE: usize = 12;
const MEMBER: usize = 12;

/// The distance of a field from the beginning of a structure of the running kernel, in bytes.
pub(super) fn offset(structure: &str, field: &str) -> Option<u32> {
    offset_in(&fs::read(VMLINUX).ok()?, structure, field)
}

fn offset_in(btf: &[u8], structure: &str, field: &str) -> Option<u32> {
    if word(btf, 0)? & 0xffff != MAGIC {
        return None;
    }
    let header = word(btf, 4)? as usize;
    let section = |at: usize| {
        let from = header.checked_add(word(btf, at)? as usize)?;
        btf.get(from..from.checked_add(word(btf, at + 4)? as usize)?)
    };
    let (types, names) = (section(8)?, section(16)?);
    let is_named = |at: Option<u32>, name: &str| {
        let text = at.and_then(|at| names.get(at as usize..));
        text.and_then(|text| text.strip_prefix(name.as_bytes()))
            .is_some_and(|rest| rest.first() == Some(&0))
    };
    let mut at = 0;
    iter::from_fn(|| {
        let this = at;
        let information = word(types, at + 4)?;
        let count = (information & 0xffff) as usize;
        at += TYPE + added(information >> 24 & 0x1f, count)?;
        Some((this, information, count))
    })
    .filter(|(at, information, _)| {
        information >> 24 & 0x1f == STRUCT && is_named(word(types, *at), structure)
    })
    .find_map(|(at, information, count)| {
        let members = (0..count).map(|number| at + TYPE + number * MEMBER);
        let member = members
            .into_iter()
            .find(|member| is_named(word(types, *member), field))?;
        let bits = word(types, member + 8)?;
        // With the flag, the highest eight bits are the size of a bit field.
        let is_flagged = information >> 31 != 0;
        Some(if is_flagged { bits & 0xff_ffff } else { bits } / 8)
    })
}

/// Bytes that a kind of type adds; none when there is no such kind.
fn added(kind: u32, count: usize) -> Option<usize> {
    Some(match kind {
        // Integers, variables, and tags of declarations.
        1 | 14 | 17 => 4,
        // Arrays.
        3 => 12,
        // Structures, unions, sections, and enumerations of 64 bits.
        4 | 5 | 15 | 19 => count * MEMBER,
        // Enumerations and prototypes of functions.
        6 | 13 => count * 8,
        2 | 7..=12 | 16 | 18 => 0,
        _ => return None,
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An integer, and a structure of two fields behind it.
    fn btf() -> Vec<u8> {
        let names = b"\0int\0pair\0first\0second\0";
        let types = [
            [1, 1 << 24, 4, 32, 0, 0].as_slice()[..4].to_vec(),
            vec![5, STRUCT << 24 | 2, 8, 10, 1, 0, 16, 1, 32],
        ]
        .concat();
        let header = [MAGIC | 1 << 16, 24, 0, types.len() as u32 * 4];
        let header = [
            header.as_slice(),
            &[types.len() as u32 * 4, names.len() as u32],
        ]
        .concat();
        let words = header.into_iter().chain(types);
        let mut btf: Vec<u8> = words.flat_map(u32::to_ne_bytes).collect();
        btf.extend(names);
        btf
    }

    #[test]
    fn a_field_is_found() {
        assert_eq!(offset_in(&btf(), "pair", "first"), Some(0));
        assert_eq!(offset_in(&btf(), "pair", "second"), Some(4));
        assert_eq!(offset_in(&btf(), "pair", "third"), None);
        assert_eq!(offset_in(&btf(), "int", "first"), None);
    }

    #[test]
    fn bytes_that_are_none_have_no_field() {
        let whole = btf();
        for length in 0..whole.len() {
            let found = offset_in(&whole[..length], "pair", "second");
            assert!(found.is_none(), "{length}");
        }
        assert_eq!(offset_in(&[0xff; 64], "pair", "second"), None);
    }
}
