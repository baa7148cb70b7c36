//! What the allocator keeps and nobody needs any more.

/// Gives the system back what loading the probes took, most of it the kernel's own description of its types (BTF):
/// glibc keeps freed memory that lies below what is in use.
#[cfg(target_env = "gnu")]
pub(crate) fn give_back() {
    // SAFETY: takes no pointer, and touches nothing that is in use.
    unsafe { libc::malloc_trim(0) };
}

/// Other allocators give back by themselves, or have no such call.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn give_back() {}
