//! How much memory a process has, as the kernel counts it: which part is its own, and which it shares with the others
//! that were copied from one template.

use std::fs;
use std::io;

/// What /proc/PID/smaps_rollup says, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProcessMemory {
    /// All that is in memory, shared or not (RSS).
    pub resident: u64,
    /// The same, with each shared page divided by the number of processes that share it (PSS): what a process costs, and
    /// the only figure that may be added up over several.
    pub proportional: u64,
    /// Pages that nobody else has: what would be free without this process.
    pub private: u64,
    /// Pages that other processes have too.
    pub shared: u64,
    /// What was moved to swap.
    pub swapped: u64,
}

/// The memory of a process. The kernel walks through all its pages for that, which takes a millisecond for some hundred
/// megabytes: for those who ask, not for every turn of a loop. See [`resident_bytes`].
///
/// # Errors
/// There is no such process (any more), or it belongs to somebody else, or the kernel is older than 4.14.
pub fn process_memory(pid: i32) -> io::Result<ProcessMemory> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    parse_rollup(&text).ok_or_else(|| malformed("smaps_rollup"))
}

/// How much of a process is in memory, shared or not (RSS), by a counter that the kernel keeps: as cheap as it gets.
///
/// # Errors
/// There is no such process (any more).
pub fn resident_bytes(pid: i32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm"))?;
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    let page =
        nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)?.and_then(|size| u64::try_from(size).ok());
    pages.zip(page).and_then(|(pages, page)| pages.checked_mul(page)).ok_or_else(|| malformed("statm"))
}

/// The first line names a range of addresses; then come lines of a name and a number of KiB. A process that has ended,
/// and not been waited for, has none.
fn parse_rollup(text: &str) -> Option<ProcessMemory> {
    let mut memory = ProcessMemory::default();
    let mut is_complete = false;
    for line in text.lines().skip(1) {
        let (name, rest) = line.split_once(':')?;
        let kib: u64 = rest.trim().strip_suffix(" kB")?.parse().ok()?;
        let bytes = kib.checked_mul(1024)?;
        match name {
            "Rss" => memory.resident = bytes,
            "Pss" => {
                memory.proportional = bytes;
                is_complete = true;
            }
            "Private_Clean" | "Private_Dirty" => memory.private = memory.private.checked_add(bytes)?,
            "Shared_Clean" | "Shared_Dirty" => memory.shared = memory.shared.checked_add(bytes)?,
            "Swap" => memory.swapped = bytes,
            _ => {}
        }
    }
    is_complete.then_some(memory)
}

fn malformed(file: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{file} of the process is not understood"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLLUP: &str = "\
55d4c0e1d000-7ffd3c1f2000 ---p 00000000 00:00 0                          [rollup]
Rss:               30012 kB
Pss:               12345 kB
Pss_Dirty:          5000 kB
Shared_Clean:       8000 kB
Shared_Dirty:      12000 kB
Private_Clean:        12 kB
Private_Dirty:     10000 kB
Referenced:        30012 kB
Swap:                  4 kB
SwapPss:               4 kB
";

    #[test]
    fn private_and_shared_pages_are_added_up() {
        let memory = parse_rollup(ROLLUP).expect("understood");
        let kib = |count: u64| count * 1024;
        assert_eq!(memory.resident, kib(30012));
        assert_eq!(memory.proportional, kib(12345));
        assert_eq!(memory.private, kib(10012));
        assert_eq!(memory.shared, kib(20000));
        assert_eq!(memory.swapped, kib(4));
        assert_eq!(memory.private + memory.shared, memory.resident);
    }

    #[test]
    fn what_is_no_rollup_is_refused() {
        for text in [
            "",
            "\n",
            "a\nRss: 1 kB\n",
            "a\nPss: -1 kB\n",
            "a\nPss: 1\n",
            "a\nPss: 18446744073709551615 kB\n",
        ] {
            assert_eq!(parse_rollup(text), None, "{text:?}");
        }
    }

    #[test]
    fn this_process_has_memory_and_one_that_is_not_there_has_none() {
        let pid = std::process::id() as i32;
        let memory = process_memory(pid).expect("this process");
        assert!(memory.private > 0 && memory.proportional >= memory.private, "{memory:?}");
        assert!(memory.resident >= memory.proportional, "{memory:?}");
        let resident = resident_bytes(pid).expect("this process");
        // The two are read one after the other, and the second is not exact.
        assert!(resident.abs_diff(memory.resident) < 16 << 20, "{resident} {memory:?}");
        // Above the largest that the kernel gives out.
        process_memory(i32::MAX).expect_err("no such process");
        resident_bytes(i32::MAX).expect_err("no such process");
    }
}
