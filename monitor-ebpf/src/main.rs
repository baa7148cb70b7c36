//! The kernel side: hooks, maps, and the reading of packets. What they mean is in the library.
//!
//! Every hook lets every packet pass, unchanged, whatever happens in here.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch, core_intrinsics))]
#![cfg_attr(
    target_arch = "bpf",
    expect(
        internal_features,
        reason = "atomics of the bpf target are intrinsics only"
    )
)]

#[cfg(target_arch = "bpf")]
mod binding;
#[cfg(target_arch = "bpf")]
mod candidates;
#[cfg(target_arch = "bpf")]
mod endings;
#[cfg(target_arch = "bpf")]
mod frames;
#[cfg(target_arch = "bpf")]
mod heads;
#[cfg(target_arch = "bpf")]
mod identity;
#[cfg(target_arch = "bpf")]
mod keep;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod openings;
#[cfg(target_arch = "bpf")]
mod packet;
#[cfg(target_arch = "bpf")]
mod plaintext;
#[cfg(target_arch = "bpf")]
mod probes;
#[cfg(target_arch = "bpf")]
mod report;
#[cfg(target_arch = "bpf")]
mod sealed;
#[cfg(target_arch = "bpf")]
mod segments;
#[cfg(target_arch = "bpf")]
mod sessions;
#[cfg(target_arch = "bpf")]
mod source;
#[cfg(target_arch = "bpf")]
mod storage;
#[cfg(target_arch = "bpf")]
mod turns;
#[cfg(target_arch = "bpf")]
mod uprobes;

#[cfg(not(target_arch = "bpf"))]
fn main() {}

/// The kernel's helpers are for programs under its own licence.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
