//! Where a probe is cheap. The kernel carries out a few kinds of instructions itself when a probe stands at one of
//! them; any other it lets the processor do step by step, which takes ten times as long. OpenSSL's functions often
//! begin with others, but one that is cheap comes soon, and what a function was called with is still where it was.
//!
//! In: the functions of a file, and its code. Out: where the probes go. What is not known for sure stays as it is.

use crate::probes::Function;

/// As much of a function as is looked at.
pub(super) const CODE: usize = 64;

type Place = (Function, u64);

/// What the kernel carries out itself (arch/x86/kernel/uprobes.c), at an offset from the function's beginning.
struct Cheap {
    at: usize,
    kind: Kind,
}

#[derive(PartialEq, Eq)]
enum Kind {
    Push,
    Jump,
    /// To an offset from the function's beginning.
    Call(i64),
}

/// Of these functions, in the order of [`Function::ALL`], the places for their probes. `code` is what the file has from
/// an offset on.
pub(super) fn places(functions: &[Place], code: impl Fn(u64) -> Option<[u8; CODE]>) -> Vec<Place> {
    if cfg!(not(target_arch = "x86_64")) {
        return functions.to_vec();
    }
    let place = |wanted| {
        let found = functions.iter().find(|(function, _)| *function == wanted);
        found.map(|(_, offset)| *offset)
    };
    let mut places = functions.to_vec();
    for (plain, ex) in [
        (Function::Read, Function::ReadEx),
        (Function::Write, Function::WriteEx),
    ] {
        if let (Some(plain_at), Some(ex_at)) = (place(plain), place(ex))
            && let Some(inner) = inner(plain_at, ex_at, &code)
        {
            places.retain(|(function, _)| *function != plain);
            for (function, offset) in &mut places {
                if *function == ex {
                    *offset = inner;
                }
            }
        }
    }
    // The stack may be another there, which matters where the return is asked for.
    for (function, offset) in &mut places {
        if matches!(function, Function::BioWrite | Function::Free)
            && let Some(cheap) = code(*offset).and_then(|code| cheap(&code))
        {
            *offset += cheap.at as u64;
        }
    }
    places
}

/// The function that both of a pair call with what the second was called with: `ssl_read_internal` for `SSL_read` and
/// `SSL_read_ex`.
fn inner(plain: u64, ex: u64, code: impl Fn(u64) -> Option<[u8; CODE]>) -> Option<u64> {
    let Kind::Call(target) = cheap(&code(ex)?)?.kind else {
        return None;
    };
    let inner = ex.checked_add_signed(target)?;
    let calls_it = |(at, window): (usize, &[u8])| {
        let behind = plain + at as u64 + 5;
        window[0] == 0xe8 && behind.checked_add_signed(distance(&window[1..])) == Some(inner)
    };
    let plain = code(plain)?;
    if !plain.windows(5).enumerate().any(calls_it) {
        return None;
    }
    // A return is asked for from where the stack is as at the call.
    let first = cheap(&code(inner)?)?;
    (first.kind == Kind::Push && first.at == 0).then_some(inner)
}

/// The first cheap instruction, if all before it leave alone what the function was called with.
fn cheap(code: &[u8; CODE]) -> Option<Cheap> {
    let mut at = 0;
    loop {
        let kind = match code.get(at..at + 9)? {
            [0x50..=0x57, ..] | [0x41, 0x50..=0x57, ..] => Kind::Push,
            [0x70..=0x7f, ..] | [0x0f, 0x80..=0x8f, ..] => Kind::Jump,
            [0xe8, to @ ..] => Kind::Call(at as i64 + 5 + distance(to)),
            other => {
                at += harmless(other)?;
                continue;
            }
        };
        return Some(Cheap { at, kind });
    }
}

/// The length of an instruction that touches neither arguments nor memory of others.
fn harmless(code: &[u8]) -> Option<usize> {
    Some(match code {
        // endbr64
        [0xf3, 0x0f, 0x1e, 0xfa, ..] => 4,
        // sub $n,%rsp
        [0x48, 0x83, 0xec, ..] => 4,
        // mov %fs:0x28,%rax
        [0x64, 0x48, 0x8b, 0x04, 0x25, 0x28, 0, 0, 0] => 9,
        // mov %rax,n(%rsp)
        [0x48, 0x89, 0x44, 0x24, ..] => 5,
        // xor %eax,%eax
        [0x31, 0xc0, ..] => 2,
        // test %edx,%edx
        [0x85, 0xd2, ..] => 2,
        // test %rdi,%rdi
        [0x48, 0x85, 0xff, ..] => 3,
        _ => return None,
    })
}

/// From the end of an instruction to where it leads.
fn distance(bytes: &[u8]) -> i64 {
    let bytes = bytes.first_chunk().copied().unwrap_or_default();
    i32::from_le_bytes(bytes).into()
}

#[cfg(test)]
#[cfg(target_arch = "x86_64")]
mod tests;
