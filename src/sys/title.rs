//! The title of this process, as `ps` shows it: what stands where the kernel has put the arguments.

#![allow(unsafe_code, reason = "the memory of the arguments belongs to nobody")]

use std::fs;
use std::sync::atomic::{AtomicU8, Ordering};

/// Fields of /proc/PID/stat behind the name of the program (proc_pid_stat(5)): 48 and 49, the first of them being 3.
const ARG_START: usize = 45;

/// Writes a title over the arguments of this process, cut to their length. Whoever still wants to know the arguments
/// themselves (`std::env::args`) must have asked before.
///
/// Where the kernel does not say where they are, nothing happens.
pub(crate) fn set_title(title: &str) {
    let Some(arguments) = arguments() else { return };
    // The last byte stays NUL: whoever reads the arguments as text finds an end.
    let Some((_, arguments)) = arguments.split_last() else { return };
    let bytes = title.bytes().chain(std::iter::repeat(0));
    for (place, byte) in arguments.iter().zip(bytes) {
        place.store(byte, Ordering::Relaxed);
    }
}

fn arguments() -> Option<&'static [AtomicU8]> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(ARG_START);
    let mut address = || fields.next()?.parse::<usize>().ok();
    let (start, end) = (address()?, address()?);
    // A process can be started without arguments, and their length has a limit (execve(2)).
    let length = end.checked_sub(start).filter(|length| (1..=1 << 22).contains(length))?;
    if start == 0 {
        return None;
    }
    let start = std::ptr::with_exposed_provenance::<AtomicU8>(start);
    // SAFETY: the kernel says that the arguments of this process lie there, so many bytes, on the stack that it has made
    // for them: readable, writable, and never unmapped. No Rust value lies there, and std copies what it gives out. C code
    // may read the texts at the same time; it finds an end before the last byte, which is not written.
    Some(unsafe { std::slice::from_raw_parts(start, length) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::in_child;

    /// What others see of a process that has set its title.
    fn seen(title: &str) -> String {
        let title = title.to_owned();
        let answer = in_child(move || {
            set_title(&title);
            fs::read("/proc/self/cmdline").map_or_else(
                |error| error.to_string(),
                |bytes| String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned(),
            )
        });
        answer.expect("answered")
    }

    #[test]
    fn a_title_takes_the_place_of_the_arguments_and_no_more_of_it() {
        let room = fs::read("/proc/self/cmdline").expect("arguments").len() - 1;
        assert_eq!(seen("x: y"), "x: y");
        let long = "forkhorn: ".repeat(room);
        assert_eq!(seen(&long), long[..room]);
        assert_eq!(seen(""), "");
    }
}
