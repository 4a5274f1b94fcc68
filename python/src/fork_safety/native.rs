//! Which library a thread belongs to, by the return addresses on its stack: threads mostly have the name of the program,
//! whoever started them.
//!
//! That also finds threads which do no harm: OpenBLAS, which NumPy and SciPy bring, starts its own as soon as it is
//! loaded. It ends them before a fork and starts them anew at the next use, in both processes (`pthread_atfork`). Without
//! that knowledge no application that imports NumPy could be copied. OpenMP's threads, of which none is started before it
//! has something to do, are not like that: GNU's libgomp waits for them for ever in a copy.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

/// How much of a stack is looked at. A thread that waits for work is not deep in anything.
const MOST_STACK_BYTES: u64 = 64 * 1024;

/// Names of libraries whose threads need not survive: they see to a fork themselves.
const FORK_AWARE: [&str; 2] = ["libopenblas", "libscipy_openblas"];

/// Libraries in which threads of all others wait.
const COMMON: [&str; 7] =
    ["libc.so", "libc-2.", "ld-linux", "ld-musl", "libpthread", "libstdc++", "libgcc_s"];

/// A part of the address space: `start..end` belongs to the file.
struct Mapping<'a> {
    start: u64,
    end: u64,
    is_code: bool,
    file: &'a str,
}

/// File names of the libraries that a waiting thread's stack leads through, those that wait first. Empty if it runs, or
/// if the kernel does not tell.
pub fn libraries(thread: i32) -> Vec<String> {
    stack_of(thread).unwrap_or_default()
}

/// Threads of these libraries can be there when the process is copied.
pub fn can_be_copied(libraries: &[String]) -> bool {
    let is_aware = |library: &String| FORK_AWARE.iter().any(|name| library.starts_with(name));
    !libraries.is_empty() && libraries.iter().all(is_aware)
}

pub fn is_interpreter(library: &str) -> bool {
    library.starts_with("python") || library.starts_with("libpython")
}

fn stack_of(thread: i32) -> Option<Vec<String>> {
    // The call, its arguments, the stack pointer, the instruction; or `running`.
    let call = fs::read_to_string(format!("/proc/self/task/{thread}/syscall")).ok()?;
    let mut words = call.split_whitespace().rev();
    let mut address = || u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok();
    let (instruction, stack) = (address()?, address()?);
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let mappings: Vec<Mapping<'_>> = maps.lines().filter_map(parse_mapping).collect();
    let end = mappings.iter().find(|mapping| (mapping.start..mapping.end).contains(&stack))?.end;
    let length = usize::try_from((end - stack).min(MOST_STACK_BYTES)).ok()?;
    let mut bytes = vec![0; length];
    let length = File::open("/proc/self/mem").ok()?.read_at(&mut bytes, stack).ok()?;
    let words = bytes[..length].as_chunks::<{ size_of::<usize>() }>().0;
    let addresses =
        std::iter::once(instruction).chain(words.iter().map(|word| usize::from_ne_bytes(*word) as u64));
    let mut found: Vec<String> = Vec::new();
    for address in addresses {
        if let Some(library) = library_at(&mappings, address)
            && !found.contains(&library)
        {
            found.push(library);
        }
    }
    Some(found)
}

fn library_at(mappings: &[Mapping<'_>], address: u64) -> Option<String> {
    let after = mappings.partition_point(|mapping| mapping.start <= address);
    let mapping = mappings.get(after.checked_sub(1)?)?;
    let library = mapping.file.rsplit('/').next().unwrap_or_default();
    let counts = mapping.is_code && address < mapping.end && mapping.file.starts_with('/');
    (counts && !COMMON.iter().any(|name| library.starts_with(name))).then(|| library.to_owned())
}

/// `7f12-7f34 r-xp 00001000 fe:00 1234   /usr/lib/libx.so`
fn parse_mapping(line: &str) -> Option<Mapping<'_>> {
    let mut words = line.splitn(6, ' ');
    let (start, end) = words.next()?.split_once('-')?;
    let permissions = words.next()?;
    Some(Mapping {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        is_code: permissions.contains('x'),
        file: words.nth(3).unwrap_or_default().trim_start(),
    })
}
