//! Loops that every verifier follows to their end.
//!
//! They are bounded and nested, each level a global function, which the verifier takes by itself, once:
//! it follows every turn of a loop whose bound it is shown, and `bpf_loop`, which would spare it that,
//! came with Linux 5.17. What goes on from turn to turn lies in memory of a map, where the verifier
//! knows no value, so that one turn looks to it like the other.

/// What a level of a loop returns.
pub(crate) const DONE: u64 = 0;
pub(crate) const MORE: u64 = 1;

/// Takes up to `times` turns, as long as each says `more`: what the last one said.
#[inline(always)]
pub(crate) fn repeat(times: u32, more: u64, turn: impl Fn(u32) -> u64) -> u64 {
    for number in 0..times {
        let said = turn(number);
        if said != more {
            return said;
        }
    }
    more
}

/// Has the compiler take nothing that it knows of memory from one turn of a loop into the next.
#[inline(always)]
pub(crate) fn forget_values() {
    // SAFETY: does nothing.
    unsafe { core::arch::asm!("", options(nostack)) };
}
