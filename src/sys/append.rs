//! A read to the end of a buffer, without filling it first.

#![allow(unsafe_code, reason = "read(2) to memory that holds nothing yet")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Appends up to `most` bytes, as far as the buffer has room for them without growing; how many there were.
pub(crate) fn append(from: BorrowedFd<'_>, buffer: &mut Vec<u8>, most: usize) -> io::Result<usize> {
    let spare = buffer.spare_capacity_mut();
    let length = spare.len().min(most);
    // SAFETY: `spare` is borrowed, and has room for `length` bytes; read(2) writes no more than that.
    let count = unsafe { libc::read(from.as_raw_fd(), spare.as_mut_ptr().cast(), length) };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the capacity is there, as `count` is at most `length`, and the kernel has written so many bytes.
    unsafe { buffer.set_len(buffer.len() + count) };
    Ok(count)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;

    use super::append;

    #[test]
    fn bytes_are_appended_and_the_buffer_does_not_grow() {
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        writer.write_all(b"abcdefgh").expect("room");
        drop(writer);
        let mut buffer = Vec::with_capacity(8);
        buffer.extend_from_slice(b"xy");
        let capacity = buffer.capacity();
        assert_eq!(append(reader.as_fd(), &mut buffer, 3).expect("a pipe"), 3);
        assert_eq!(buffer, b"xyabc");
        assert_eq!(append(reader.as_fd(), &mut buffer, 100).expect("a pipe"), capacity - 5);
        assert_eq!(buffer[..8], *b"xyabcdef");
        assert_eq!(append(reader.as_fd(), &mut Vec::new(), 100).expect("a pipe"), 0);
    }
}
