//! The heap of the C library.

#![allow(unsafe_code, reason = "malloc_trim(3)")]

/// Gives free memory in the middle of the heap back to the kernel. Before a fork: what is not there need not be copied
/// when somebody writes to it.
pub fn return_free_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes the allocator's own locks, and has no other conditions.
    unsafe {
        libc::malloc_trim(0);
    }
}
