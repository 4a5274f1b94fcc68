//! Why a script did not start, or ended without an answer: the cause behind an errno or an exit status, and the cure.
//!
//! Looked for only after a failure; nothing here decides what is run.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{AccessFlags, faccessat};

use super::super::HandlerError;
use super::Script;
use crate::config::ScriptLimits;
use crate::printable::printable;
use crate::sys::spawn::Exit;

/// What the error of its start means for this script.
pub(super) fn spawn_failure(script: &Script, error: &io::Error) -> HandlerError {
    let path = script.path();
    let (status, cause) = match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
        Errno::ENOENT | Errno::ENOTDIR => missing(path),
        Errno::EACCES | Errno::EPERM => refused(script),
        Errno::ENOEXEC => (502, unknown_format(path)),
        Errno::E2BIG => (
            502,
            "its variables are longer than the kernel takes; lower --max-head or shorten --cgi-env"
                .to_owned(),
        ),
        Errno::ETXTBSY => (503, "somebody is writing to it; ask again".to_owned()),
        Errno::EAGAIN => {
            (503, "the limit of processes is reached (ulimit -u, or the cgroup's pids.max); lower --cgi-max-scripts".to_owned())
        }
        Errno::ENOMEM => (503, "no memory for another process; lower --cgi-max-scripts".to_owned()),
        Errno::EMFILE => (503, "no file descriptor is left (ulimit -n)".to_owned()),
        Errno::ENFILE => (503, "no file descriptor is left in the system (fs.file-max)".to_owned()),
        Errno::ELOOP => (502, "the interpreters of its #! line form a chain that is too long".to_owned()),
        other => (502, other.desc().to_owned()),
    };
    let failure = HandlerError::new(status, format!("script {} can't be started: {cause}", shown(path)));
    match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
        Errno::EAGAIN | Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE => failure.lacking(error),
        _ => failure,
    }
}

/// What else can be told about a script that started and ended without an answer.
pub(super) fn hint(
    script: &Script,
    exit: Option<Exit>,
    stderr: &[u8],
    limits: &ScriptLimits,
) -> Option<String> {
    let has = |text: &[u8]| stderr.windows(text.len()).any(|window| window == text);
    if let Some(option) = reached_limit(exit, &has, limits) {
        return Some(format!("it may have reached {option}"));
    }
    if has(b"No module named 'cgi'") || has(b"No module named 'cgitb'") {
        return Some(
            "Python 3.13 has dropped the modules cgi and cgitb; the package legacy-cgi brings them back: pip install \
             legacy-cgi"
                .to_owned(),
        );
    }
    // env(1) and shells answer 126 and 127 where they can't run what they were told to.
    let unable = matches!(exit, Some(Exit::Status(126 | 127))) || has(b"\\r") || has(b"\r");
    if !unable {
        return None;
    }
    match first(script.path()) {
        First::Interpreter(line) if line.ends_with(b"\r") => Some(carriage_return(script.path(), &line)),
        First::Interpreter(line)
            if interpreter(&line).ends_with(b"/env") && exit == Some(Exit::Status(127)) && has(b"env: ") =>
        {
            Some(
                "the interpreter that its first line names is not in the PATH that scripts get: write its whole path \
                 there, or set another PATH with --cgi-env PATH=…"
                    .to_owned(),
            )
        }
        _ => None,
    }
}

/// The option whose limit has ended the script, as far as a signal or its own words tell.
fn reached_limit(
    exit: Option<Exit>,
    has: &impl Fn(&[u8]) -> bool,
    limits: &ScriptLimits,
) -> Option<&'static str> {
    let says = |texts: &[&[u8]]| texts.iter().any(|text| has(text));
    // What the C library, shells, Perl and Python say.
    const MEMORY: [&[u8]; 6] = [
        b"Cannot allocate memory",
        b"MemoryError",
        b"Out of memory",
        b"out of memory",
        b"memory exhausted",
        b"failed to map segment",
    ];
    match exit {
        Some(Exit::Signal(libc::SIGXCPU)) => Some("--cgi-limit-cpu"),
        Some(Exit::Signal(libc::SIGXFSZ)) => Some("--cgi-limit-file-size"),
        _ if limits.memory_bytes.is_some() && says(&MEMORY) => Some("--cgi-limit-memory"),
        _ if limits.processes.is_some() && says(&[b"Resource temporarily unavailable", b"Cannot fork"]) => {
            Some("--cgi-limit-processes")
        }
        _ if limits.files.is_some() && says(&[b"Too many open files"]) => Some("--cgi-limit-files"),
        _ if limits.file_bytes.is_some() && says(&[b"File too large"]) => Some("--cgi-limit-file-size"),
        _ => None,
    }
}

/// ENOENT: the script, its directory, its interpreter or its loader.
fn missing(path: &Path) -> (u16, String) {
    if !path.exists() {
        return (404, "it is not there any more".to_owned());
    }
    let cause = match first(path) {
        First::Interpreter(line) if line.ends_with(b"\r") => carriage_return(path, &line),
        First::Interpreter(line) => {
            format!(
                "its first line names the interpreter {}, which does not exist here; install it, or name another",
                printable(interpreter(&line), SHOWN_BYTES)
            )
        }
        First::Program => "the loader or C library that it was built for does not exist here".to_owned(),
        _ => "its working directory is not there any more".to_owned(),
    };
    (502, cause)
}

/// EACCES: the script, a directory, the file system or the interpreter.
fn refused(script: &Script) -> (u16, String) {
    let path = script.path();
    if is_noexec(path) {
        let cause = "it lies on a file system that is mounted noexec; move it, or mount that without noexec";
        return (403, cause.to_owned());
    }
    if !may_execute(path) {
        let shown = shown(path);
        return (403, format!("not executable by the user of the workers; run: chmod a+x {shown}"));
    }
    if let Some(directory) = script.name().parent().filter(|directory| !may_execute(directory)) {
        let cause =
            format!("the user of the workers may not search its directory; chmod a+x {}", shown(directory));
        return (403, cause);
    }
    match first(path) {
        First::Interpreter(line) => {
            let name = printable(interpreter(&line), SHOWN_BYTES);
            (502, format!("its first line names the interpreter {name}, which may not be executed"))
        }
        _ => (403, "permission denied; a security module (AppArmor, SELinux) may forbid it".to_owned()),
    }
}

/// ENOEXEC.
fn unknown_format(path: &Path) -> String {
    match first(path) {
        First::Empty => "it is empty".to_owned(),
        First::ByteOrderMark => {
            "a byte order mark (EF BB BF) stands before #!; save it as UTF-8 without one".to_owned()
        }
        First::Program => "it was built for another kind of machine".to_owned(),
        First::Interpreter(line) if interpreter(&line).is_empty() => {
            "its first line names no interpreter behind #!".to_owned()
        }
        _ => "it begins with neither #! nor a program's header; its first line must name an interpreter, such as \
              #!/usr/bin/env python3"
            .to_owned(),
    }
}

fn carriage_return(path: &Path, line: &[u8]) -> String {
    format!(
        "its first line ends in CR LF, as Windows editors write, so that it names the interpreter '{}'; run: sed -i \
         's/\\r$//' {}",
        printable(line.trim_ascii_start(), SHOWN_BYTES),
        shown(path)
    )
}

enum First {
    /// The line behind `#!`, without its LF.
    Interpreter(Vec<u8>),
    Program,
    Empty,
    ByteOrderMark,
    Other,
}

/// What the kernel sees of a file when it is to run it.
fn first(path: &Path) -> First {
    let mut begin = Vec::new();
    if File::open(path).and_then(|file| file.take(KERNEL_LINE_BYTES).read_to_end(&mut begin)).is_err() {
        return First::Other;
    }
    match begin.as_slice() {
        [] => First::Empty,
        [b'#', b'!', line @ ..] => {
            First::Interpreter(line.split(|&byte| byte == b'\n').next().unwrap_or_default().to_vec())
        }
        [0x7f, b'E', b'L', b'F', ..] => First::Program,
        [0xef, 0xbb, 0xbf, ..] => First::ByteOrderMark,
        _ => First::Other,
    }
}

fn interpreter(line: &[u8]) -> &[u8] {
    line.trim_ascii().split(u8::is_ascii_whitespace).next().unwrap_or_default()
}

fn is_noexec(path: &Path) -> bool {
    statvfs(path).is_ok_and(|stat| stat.flags().contains(FsFlags::ST_NOEXEC))
}

fn may_execute(path: &Path) -> bool {
    let any_bit = fs::metadata(path).is_ok_and(|metadata| {
        use std::os::unix::fs::PermissionsExt;
        metadata.permissions().mode() & 0o111 != 0
    });
    any_bit && faccessat(AT_FDCWD, path, AccessFlags::X_OK, AtFlags::AT_EACCESS).is_ok()
}

fn shown(path: &Path) -> String {
    printable(path.as_os_str().as_bytes(), SHOWN_BYTES)
}

/// Linux reads so much of a file to find out how to run it.
const KERNEL_LINE_BYTES: u64 = 256;
const SHOWN_BYTES: usize = 1024;

#[cfg(test)]
#[path = "diagnosis_tests.rs"]
mod tests;
