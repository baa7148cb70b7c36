use super::*;

/// A file of functions, each of which has a place of `CODE` bytes.
fn look(code: &'static [&[u8]]) -> impl Fn(u64) -> Option<[u8; CODE]> {
    move |offset| {
        let begins = code.get(usize::try_from(offset).ok()? / CODE)?;
        let mut whole = [0xcc; CODE];
        whole[..begins.len()].copy_from_slice(begins);
        Some(whole)
    }
}

const PUSH: &[u8] = &[0x41, 0x55, 0x41, 0x54];
/// As `gcc` makes `BIO_write`: room on the stack, the canary, and a test of the length.
const GUARDED: &[u8] = &[
    0x48, 0x83, 0xec, 0x18, 0x64, 0x48, 0x8b, 0x04, 0x25, 0x28, 0, 0, 0, 0x48, 0x89, 0x44, 0x24, 8,
    0x31, 0xc0, 0x85, 0xd2, 0x7e, 0x12,
];
/// As it makes `SSL_read_ex`, with the call of what is at offset 0; it is at 64 itself.
const EX: &[u8] = &[0x48, 0x83, 0xec, 8, 0xe8, 0xb7, 0xff, 0xff, 0xff];
/// And `SSL_read`, which calls the same; it is at 128.
const PLAIN: &[u8] = &[
    0x48, 0x83, 0xec, 0x18, 0x85, 0xd2, 0x78, 0x2f, 0x48, 0x89, 0xe1, 0x48, 0x63, 0xd2, 0xe8, 0x6d,
    0xff, 0xff, 0xff,
];

#[test]
fn a_probe_goes_to_the_first_cheap_instruction() {
    let only = [(Function::BioWrite, 0)];
    let at = |code: &'static [&[u8]]| places(&only, look(code))[0].1;
    assert_eq!(at(&[GUARDED]), 22);
    assert_eq!(at(&[PUSH]), 0);
    // `mov %rdi,%rax`, of which nothing is known.
    assert_eq!(at(&[&[0x48, 0x89, 0xf8, 0x53]]), 0);
}

#[test]
fn a_return_is_asked_for_from_the_beginning() {
    let only = [(Function::DoHandshake, 0)];
    assert_eq!(places(&only, look(&[GUARDED])), only);
}

#[test]
fn a_pair_that_calls_the_same_has_its_probe_there() {
    let pair = [(Function::Read, 128), (Function::ReadEx, 64)];
    let inner = [(Function::ReadEx, 0)];
    assert_eq!(places(&pair, look(&[PUSH, EX, PLAIN])), inner);
    // What begins otherwise is no cheaper.
    assert_eq!(places(&pair, look(&[GUARDED, EX, PLAIN])), pair);
    // One of them calls something else.
    assert_eq!(places(&pair, look(&[PUSH, EX, GUARDED])), pair);
}
