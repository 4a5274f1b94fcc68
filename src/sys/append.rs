//! Reads to the end of a buffer, without filling it first.

#![allow(unsafe_code, reason = "readv(2) to memory that holds nothing yet")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Runs of one read, at most.
pub(crate) const MOST_RUNS: usize = 64;

/// Reads the runs in their order to the end of `buffer`, as far as it has room without growing, and `gap` bytes after
/// each of them to `between`; after the last, as many as `between` still has room for. How many there were in all.
///
/// Runs after the first [`MOST_RUNS`] are not read, nor is anything behind one that had no room, whole or in part.
pub(crate) fn append_runs(
    from: BorrowedFd<'_>,
    buffer: &mut Vec<u8>,
    runs: impl Iterator<Item = usize>,
    (between, gap): (&mut [u8], usize),
) -> io::Result<usize> {
    let nowhere = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
    let mut places = [nowhere; 2 * MOST_RUNS];
    let (mut spare, mut between) = (buffer.spare_capacity_mut(), between);
    let mut runs = runs.take(MOST_RUNS).peekable();
    let mut filled = 0;
    for pair in places.chunks_exact_mut(2) {
        let Some(run) = runs.next() else { break };
        let whole = run <= spare.len();
        let (place, rest) = spare.split_at_mut(run.min(spare.len()));
        let gap = if !whole { 0 } else { runs.peek().map_or(between.len(), |_| gap.min(between.len())) };
        let (place_between, rest_between) = between.split_at_mut(gap);
        pair[0] = libc::iovec { iov_base: place.as_mut_ptr().cast(), iov_len: place.len() };
        pair[1] = libc::iovec { iov_base: place_between.as_mut_ptr().cast(), iov_len: place_between.len() };
        (spare, between, filled) = (rest, rest_between, filled + 2);
        if !whole {
            break;
        }
    }
    let places = &places[..filled];
    // SAFETY: each place is a part of `buffer`'s spare capacity or of `between`, which are borrowed, and no two of them
    // overlap; readv(2) writes no more than their lengths.
    let count = unsafe { libc::readv(from.as_raw_fd(), places.as_ptr(), places.len() as libc::c_int) };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    let appended = bytes_of_runs(places, count);
    // SAFETY: the runs' places follow each other from the end of the buffer on, and the kernel has filled them in their
    // order, `appended` bytes of them.
    unsafe { buffer.set_len(buffer.len() + appended) };
    Ok(count)
}

/// How many of the first `count` bytes have gone to the places of runs: to every other place.
fn bytes_of_runs(places: &[libc::iovec], mut count: usize) -> usize {
    let mut appended = 0;
    for (index, place) in places.iter().enumerate() {
        let here = place.iov_len.min(count);
        count -= here;
        appended += if index % 2 == 0 { here } else { 0 };
    }
    appended
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;

    use super::*;

    fn read(sent: &[u8], capacity: usize, runs: &[usize], room_between: usize) -> (usize, Vec<u8>, Vec<u8>) {
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        writer.write_all(sent).expect("room");
        drop(writer);
        let mut buffer = Vec::with_capacity(capacity);
        buffer.extend_from_slice(b">");
        assert_eq!(buffer.capacity(), capacity);
        let mut between = vec![b'.'; room_between];
        let count = append_runs(reader.as_fd(), &mut buffer, runs.iter().copied(), (&mut between, 2))
            .expect("a pipe");
        assert_eq!(buffer.capacity(), capacity);
        (count, buffer, between)
    }

    #[test]
    fn runs_are_appended_and_what_stands_between_them_is_not() {
        let sent = b"aaaa12bbb34cc5678";
        for (what, capacity, runs, room, expected) in [
            ("one run", 9, &[4][..], 0, (4, ">aaaa", "")),
            ("one run, and what follows", 9, &[4], 3, (7, ">aaaa", "12b")),
            ("two runs", 20, &[4, 3], 3, (10, ">aaaabbb", "123")),
            ("all of it", 20, &[4, 3, 2], 9, (17, ">aaaabbbcc", "12345678.")),
            ("more than comes", 20, &[4, 3, 9], 9, (17, ">aaaabbbcc5678", "1234.....")),
            ("no room for the second", 5, &[4, 3], 9, (6, ">aaaa", "12.......")),
            ("no room for all of the second", 7, &[4, 3, 2], 9, (8, ">aaaabb", "12.......")),
            ("no room at all", 1, &[4, 3], 4, (0, ">", "....")),
        ] {
            let (count, buffer, between) = read(sent, capacity, runs, room);
            let seen = (count, String::from_utf8_lossy(&buffer), String::from_utf8_lossy(&between));
            assert_eq!((seen.0, &*seen.1, &*seen.2), expected, "{what}");
        }
    }

    #[test]
    fn no_more_runs_are_read_than_one_call_takes() {
        let sent = [b'x'; 3 * MOST_RUNS + 10];
        let (count, buffer, _) = read(&sent, 500, &[1; MOST_RUNS + 10], 2 * MOST_RUNS);
        assert_eq!((count, buffer.len()), (3 * MOST_RUNS, 1 + MOST_RUNS));
    }
}
