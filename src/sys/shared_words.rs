//! Memory that two processes share: a sealed memfd (memfd_create(2)), seen as 64-bit words.
//!
//! Whoever has it mapped may write to it at any time, so each word is an atomic, and nothing read from it is to be
//! believed.

#![allow(unsafe_code, reason = "mmap(2)")]

use std::ffi::CStr;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

const WORD_BYTES: usize = size_of::<u64>();

/// A mapping of the whole file. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct SharedWords {
    start: NonNull<AtomicU64>,
    words: usize,
}

/// A file of `bytes` zeros in memory, that nobody can make shorter or longer: a process that maps it can't be made to
/// fault (SIGBUS) by another one.
pub(crate) fn sealed_memory(name: &CStr, bytes: usize) -> io::Result<OwnedFd> {
    let file = memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    nix::unistd::ftruncate(&file, i64::try_from(bytes).map_err(io::Error::other)?)?;
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file)
}

impl SharedWords {
    /// Maps a file of [`sealed_memory`].
    ///
    /// # Errors
    /// It is not sealed, or holds no word; or what the kernel says.
    pub(crate) fn map(file: BorrowedFd<'_>) -> io::Result<Self> {
        let seals = SealFlag::from_bits_truncate(fcntl(file, FcntlArg::F_GET_SEALS)?);
        let size = usize::try_from(nix::sys::stat::fstat(file)?.st_size).map_err(io::Error::other)?;
        let length = NonZeroUsize::new(size - size % WORD_BYTES);
        let (true, Some(length)) = (seals.contains(SealFlag::F_SEAL_SHRINK), length) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a sealed file of some length"));
        };
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: the kernel chooses the place, so that no other mapping is touched.
        let start = unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, file, 0) }?;
        Ok(SharedWords { start: start.cast(), words: length.get() / WORD_BYTES })
    }
}

impl std::ops::Deref for SharedWords {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: the mapping begins at a page, is readable and writable, as long as `words` says, and lives as long as
        // `self`. The file is sealed against becoming shorter, so that every word stays backed. Any bits are a value of
        // u64, and other processes change them only in ways that atomics allow for.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.words) }
    }
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        // SAFETY: it is the mapping that `map` has made, whole, and no reference to it outlives `self`.
        let result = unsafe { munmap(self.start.cast(), self.words * WORD_BYTES) };
        if let Err(error) = result {
            log::error!("shared memory can't be unmapped: {error}");
        }
    }
}

// SAFETY: the mapping belongs to no thread, and is only reached through atomics.
unsafe impl Send for SharedWords {}

// SAFETY: as above.
unsafe impl Sync for SharedWords {}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn two_mappings_see_the_same_words_and_nobody_can_change_the_length() {
        let file = sealed_memory(c"test", 4096).expect("memory");
        let one = SharedWords::map(file.as_fd()).expect("mapped");
        let other = SharedWords::map(file.as_fd()).expect("mapped");
        assert_eq!((one.len(), other[511].load(Ordering::Relaxed)), (512, 0));
        one[511].store(7, Ordering::Relaxed);
        assert_eq!(other[511].load(Ordering::Relaxed), 7);
        for length in [0, 8192] {
            nix::unistd::ftruncate(&file, length).expect_err("sealed");
        }
        drop(one);
        assert_eq!(other[511].load(Ordering::Relaxed), 7);
    }

    #[test]
    fn what_could_become_shorter_is_not_mapped() {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(4096).expect("longer");
        SharedWords::map(file.as_fd()).expect_err("no seals on a file of a disk");
        let unsealed = memfd_create(c"test", MFdFlags::MFD_CLOEXEC).expect("memory");
        nix::unistd::ftruncate(&unsealed, 4096).expect("longer");
        SharedWords::map(unsealed.as_fd()).expect_err("not sealed");
        let empty = sealed_memory(c"test", 0).expect("memory");
        SharedWords::map(empty.as_fd()).expect_err("no word");
    }
}
